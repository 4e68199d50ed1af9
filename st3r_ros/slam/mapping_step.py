# SPDX-License-Identifier: Apache-2.0
"""What happens to the map while one frame is registered."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.tracking.tracker import Tracked
from st3r_ros.types import Frame, MappingState, MappingUpdate


@dataclass(eq=False)
class MappingStep:
    """The events while one frame is registered, or between two.

    changed, completed: as in `MappingUpdate`. note: a rare event, said instead of `message`.
    """

    timings_ms: dict[str, float] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    new_keyframe: int | None = None
    completed: list[int] = field(default_factory=list)
    message: str = ""
    note: str = ""
    rescaled: float = 1.0
    tracked: Tracked | None = None
    T_odom_cam: SE3 | None = None
    odometry_fault: str = ""
    odometry_doubt: str = ""
    clock: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap to a stage."""
        now = time.perf_counter()
        self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + 1000 * (now - self.clock)
        self.clock = now

    def update(self, frame: Frame, state: MappingState, keyframe_map: KeyframeMap) -> MappingUpdate:
        """The result."""
        pose, covariance = None, None
        if self.tracked is not None and keyframe_map.frames:
            record = keyframe_map.frames[-1]
            T_world_cam = keyframe_map.keyframes[record.keyframe_id].T_world_cam @ record.T_kf_cam
            pose = T_world_cam.se3()
            # The tangent is in camera axes and units; the pose is reported in world axes and units.
            to_world = np.zeros((6, 6))
            to_world[:3, :3] = float(T_world_cam.scale) * T_world_cam.rotation
            to_world[3:, 3:] = T_world_cam.rotation
            covariance = to_world @ self.tracked.result.covariance[:6, :6] @ to_world.T
        return MappingUpdate(
            frame.id,
            frame.stamp_ns,
            state,
            pose,
            covariance,
            self.new_keyframe,
            tuple(sorted(self.changed)),
            self.timings_ms,
            self.note or self.message,
            self.rescaled,
            self.T_odom_cam,
            self.odometry_fault,
            self.odometry_doubt,
            self.note,
            tuple(self.completed),
        )
