# SPDX-License-Identifier: Apache-2.0
"""Whether a keyframe has changed since something was computed from it."""

from __future__ import annotations

import weakref

from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.types import Keyframe


class Seen:
    """The pose that was used, and which tensors the pointmap and its confidence were, after how many changes in place."""

    def __init__(self, keyframe: Keyframe, T_world_cam: Sim3) -> None:
        self._T_world_cam = T_world_cam
        self._tensors = [(weakref.ref(tensor), tensor._version) for tensor in (keyframe.X, keyframe.conf)]

    def still(self, keyframe: Keyframe, T_world_cam: Sim3) -> bool:
        """Whether nothing has changed."""
        return T_world_cam is self._T_world_cam and all(
            seen() is tensor and version == tensor._version
            for (seen, version), tensor in zip(self._tensors, (keyframe.X, keyframe.conf), strict=True)
        )
