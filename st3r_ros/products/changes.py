# SPDX-License-Identifier: Apache-2.0
"""Detects whether a keyframe has changed since something was computed from it."""

from __future__ import annotations

import weakref

import numpy as np

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.types import Keyframe


class SeenKeyframe:
    """The used pose, and the identity and version of the pointmap and confidence tensors."""

    def __init__(self, keyframe: Keyframe, T_world_cam: Sim3) -> None:
        self._T_world_cam = T_world_cam
        self._tensors = [(weakref.ref(tensor), tensor._version) for tensor in (keyframe.X, keyframe.conf)]

    def still(self, keyframe: Keyframe, T_world_cam: Sim3, reach: float = 0.0, tolerance: float = 0.0) -> bool:
        """Whether nothing has changed but that points up to `reach` from the camera have moved by `tolerance` at the most."""
        same = all(
            seen() is tensor and version == tensor._version
            for (seen, version), tensor in zip(self._tensors, (keyframe.X, keyframe.conf), strict=True)
        )
        return same and (T_world_cam is self._T_world_cam or _motion(self._T_world_cam, T_world_cam, reach) <= tolerance)


def _motion(T0: Sim3, T1: Sim3, reach: float) -> float:
    """No point up to `reach` from the camera moves farther from one pose to the other."""
    turned = np.linalg.norm(float(T1.scale) * T1.rotation - float(T0.scale) * T0.rotation, ord="fro") / float(T0.scale)
    return float(np.linalg.norm(T1.translation - T0.translation) + reach * turned)
