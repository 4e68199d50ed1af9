# SPDX-License-Identifier: Apache-2.0
"""The keyframe graph as RViz draws it: a frustum for every keyframe, a line for every edge, coloured by its kind."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from st3r_ros.geometry.pixels import rays
from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap

FRUSTUM_DEPTH = 0.06
"""Depth of a frustum, as a share of the median depth that its keyframe sees."""
COLORS = {"keyframes": (0.1, 0.6, 0.9), "sequential": (0.6, 0.6, 0.6), "loop": (1.0, 0.4, 0.1)}
_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
_LINES = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])


def marker_array(keyframe_map: KeyframeMap, T_map_world: SE3, header: Header) -> MarkerArray:
    """Three line lists, one per namespace; an empty one deletes what it showed before."""
    keyframes = list(keyframe_map.keyframes.values())
    depths = {k.id: k.median_depth() for k in keyframes}
    typical = float(np.median([d for d in depths.values() if d > 0])) if any(depths.values()) else 1.0
    lines: dict[str, list[np.ndarray]] = {name: [] for name in COLORS}
    for k in keyframes:
        depth = FRUSTUM_DEPTH * (depths[k.id] or typical)
        h, w = k.image.shape[:2]
        in_camera = np.vstack([np.zeros(3), rays(_CORNERS * (w - 1, h - 1), k.K) * depth])
        lines["keyframes"].append((T_map_world @ k.T_world_cam.se3() @ in_camera)[_LINES].reshape(-1, 3))
    for edge in keyframe_map.edges:
        ends = [keyframe_map.keyframes[n].T_world_cam.translation for n in (edge.i, edge.j)]
        lines[edge.kind].append(T_map_world @ np.stack(ends))
    width = 0.1 * FRUSTUM_DEPTH * typical
    return MarkerArray(markers=[_lines(name, parts, header, width) for name, parts in lines.items()])


def _lines(name: str, parts: list[np.ndarray], header: Header, width: float) -> Marker:
    marker = Marker(header=header, ns=name, id=0, type=Marker.LINE_LIST)
    marker.action = Marker.ADD if parts else Marker.DELETE
    marker.pose.orientation.w = 1.0
    marker.scale.x = width
    red, green, blue = COLORS[name]
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    if parts:
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in np.concatenate(parts).tolist()]
    return marker
