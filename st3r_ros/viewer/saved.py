# SPDX-License-Identifier: Apache-2.0
"""A saved map on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from st3r_ros.config import CloudConfig, ViewerConfig
from st3r_ros.products.cloud import cloud_of
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.viewer.facts import facts_html
from st3r_ros.viewer.frusta import KeyframeView
from st3r_ros.viewer.pictures import picture
from st3r_ros.viewer.scene import MapScene

if TYPE_CHECKING:
    import viser


def show_map(server: viser.ViserServer, keyframe_map: KeyframeMap, config: ViewerConfig, cloud: CloudConfig) -> MapScene:
    """Shows a whole map, level."""
    scene = MapScene(server, config.max_points, keyframe_map.T_level_world)
    keyframes = [
        KeyframeView(k.id, k.stamp_ns, k.T_world_cam.se3(), picture(k.image, float(k.K[1, 1])))
        for k in keyframe_map.keyframes.values()
    ]
    edges = np.array([(edge.i, edge.j) for edge in keyframe_map.edges]).reshape(-1, 2)
    scene.show_keyframes(keyframes, edges, np.array([edge.kind == "loop" for edge in keyframe_map.edges], bool))
    scene.show_path(keyframe_map.trajectory().positions)
    points = cloud_of(keyframe_map, cloud)
    scene.show_cloud(points.points, points.colors)
    facts = {
        "Points": f"{len(points):,}",
        "Keyframes": f"{len(keyframes):,}",
        "Loops": f"{keyframe_map.loops:,}",
        "Images": f"{len(keyframe_map.frames):,}",
        "Unit": f"metre (from {keyframe_map.scale.source})" if keyframe_map.scale.metric else "arbitrary",
    }
    with server.gui.add_folder("Map", order=0):
        server.gui.add_html(facts_html(facts))
    return scene
