# SPDX-License-Identifier: Apache-2.0
"""Maps as transforms.json, which nerfstudio and other radiance-field programs read.

Its cameras are those of OpenGL (x right, y up, z backward); the world stays that of the map. As in COLMAP, the centre of the top
left pixel is at (0.5, 0.5).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from st3r_ros.maps.colmap import PIXEL_CENTRE, image_file
from st3r_ros.maps.tracks import pinhole_intrinsics
from st3r_ros.slam.keyframe_map import KeyframeMap

CLOUD_FILE = "sparse_pc.ply"

_CV_FROM_GL = np.diag([1.0, -1.0, -1.0, 1.0])


def make_transforms(keyframe_map: KeyframeMap) -> dict[str, Any]:
    """The content of transforms.json; intrinsics stand with the frames where they differ."""
    K = pinhole_intrinsics(keyframe_map)
    height, width = next(iter(keyframe_map.keyframes.values())).image.shape[:2]
    shared = bool((K[0] == K).all())
    frames = [
        {
            "file_path": f"images/{image_file(keyframe)}",
            **({} if shared else _intrinsics(K[row])),
            "transform_matrix": (keyframe.T_world_cam.se3().as_matrix() @ _CV_FROM_GL).tolist(),
        }
        for row, keyframe in enumerate(keyframe_map.keyframes.values())
    ]
    common = {"camera_model": "OPENCV", "w": width, "h": height, **(_intrinsics(K[0]) if shared else {})}
    return {**common, "ply_file_path": CLOUD_FILE, "frames": frames}


def _intrinsics(K: np.ndarray) -> dict[str, float]:
    return {
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2] + PIXEL_CENTRE),
        "cy": float(K[1, 2] + PIXEL_CENTRE),
    }
