# SPDX-License-Identifier: Apache-2.0
"""Maps as transforms.json, which nerfstudio and other radiance-field programs read.

Its cameras are those of OpenGL (x right, y up, z backward), and z is up in its world: that of the map, turned. As in COLMAP, the
centre of the top left pixel is at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from st3r_ros.geometry.transforms import SE3
from st3r_ros.maps.colmap import PIXEL_CENTRE
from st3r_ros.maps.exported import ExportedImage, working_images
from st3r_ros.maps.tracks import pinhole_intrinsics
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap

CLOUD_FILE = "sparse_pc.ply"

_CV_FROM_GL = np.diag([1.0, -1.0, -1.0, 1.0])


def make_transforms(
    keyframe_map: KeyframeMap, exported: Sequence[ExportedImage] | None = None, T_up_world: SE3 | None = None
) -> dict[str, Any]:
    """The content of transforms.json; sizes and intrinsics are given per frame when they differ.

    exported: the images of the keyframes; by default their own. T_up_world: by default the level one of the map.
    """
    exported = working_images(keyframe_map.keyframes.values()) if exported is None else exported
    T_up_world = keyframe_map.T_level_world if T_up_world is None else T_up_world
    K = np.stack([image.to_intrinsics(one) for image, one in zip(exported, pinhole_intrinsics(keyframe_map), strict=True)])
    cameras = [_camera(image, one) for image, one in zip(exported, K, strict=True)]
    shared = all(camera == cameras[0] for camera in cameras)
    frames = [
        {
            "file_path": f"images/{exported[row].name}",
            **({"original": keyframe.source} if keyframe.source else {}),
            **({} if shared else cameras[row]),
            "transform_matrix": ((T_up_world @ keyframe.T_world_cam.se3()).as_matrix() @ _CV_FROM_GL).tolist(),
        }
        for row, keyframe in enumerate(keyframe_map.keyframes.values())
    ]
    common = {"camera_model": "OPENCV", **(cameras[0] if shared else {})}
    applied = T_up_world.as_matrix()[:3].tolist()  # what turned the map into the world of these poses and of the cloud
    return {**common, "applied_transform": applied, "ply_file_path": CLOUD_FILE, "frames": frames}


def _camera(image: ExportedImage, K: np.ndarray) -> dict[str, float]:
    return {
        "w": image.size[0],
        "h": image.size[1],
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2] + PIXEL_CENTRE),
        "cy": float(K[1, 2] + PIXEL_CENTRE),
    }
