# SPDX-License-Identifier: Apache-2.0
"""Whether a step of odometry can be true: by its speed, and by what the camera saw meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap

MAX_SPEED = 50.0
"""Metres per second. Faster are a jump, and metres that are millimetres."""
TOGETHER_S = 2.0
"""Seconds between two images over which their motion in the map is exact enough to compare."""
SLACK_M, SLACK_SPEED = 0.2, 0.5
SLACK_DEG, SLACK_DEG_PER_S = 12.0, 30.0
SLACK_SHARE = 0.5
"""How far motions by odometry and by the camera may be apart: metres and degrees, the same a second, and a share of the camera's
motion. Wheels slip, and transforms arrive late."""
MAX_GAIN, MAX_ACCELERATION = 2.0, 5.0
"""By how much the speed may grow from one image to the next, as a factor and in m/s^2, where the map has no scale."""
STAYS = 3
"""Consecutive images in which odometry goes on from where it has jumped to, until that is believed."""
BACK_S = 2.0
"""Seconds in which it may go back to where it jumped from."""


class OdometryCheck:
    """Compares the odometry of each tracked frame with that of the last one that was believed.

    A single wrong pose is left out. Where odometry goes on from the wrong pose (it has been reset), it is believed again. fault:
    why the newest pose is not believed, "" if it is. jumped: why the newest pose does not continue those before, "" if it does.
    """

    def __init__(self) -> None:
        self.fault = self.jumped = ""
        self._episode = 0
        self._believed: _Pose | None = None
        self._left: _Pose | None = None
        self._other: _Pose | None = None
        self._others = 0
        self._speed: float | None = None

    def judge(self, keyframe_map: KeyframeMap, T_odom_cam: SE3, *, continuous: bool) -> bool:
        """Whether the odometry pose of the newest frame of the map is believed. continuous: the camera was not lost before it."""
        self._episode += not continuous
        place = len(keyframe_map.frames) - 1
        here = _Pose(place, int(keyframe_map.frames.stamps_ns[place]), T_odom_cam, self._episode)
        fault, self.jumped = self._fault(keyframe_map, self._believed, here), ""
        goes_on = self._other is not None and not self._fault(keyframe_map, self._other, here)
        if not (fault or goes_on):
            self._believe(here)
            return True
        self.fault = fault or self.fault  # what is no jump in a longer time was one
        if self._left is not None and here.seconds_since(self._left) < BACK_S and not self._fault(keyframe_map, self._left, here):
            self.jumped = f"{self.fault}, back to where it was before"
            self._believe(here)
            self._left = None
            return True
        self._other, self._others = here, self._others + 1 if goes_on else 1
        if self._others < STAYS:
            return False
        self.jumped, self._left = f"{self.fault}, and goes on from there", self._believed
        self._believe(here)
        return True

    def _fault(self, keyframe_map: KeyframeMap, before: _Pose | None, here: _Pose) -> str:
        """Why odometry cannot have moved from one pose to another, "" if it can."""
        fault = _fault(keyframe_map, before, here)
        if fault or before is None or self._speed is None or keyframe_map.scale.metric:
            return fault
        seconds, moved = max(here.seconds_since(before), 0.0), before.distance(here)
        if moved > SLACK_M + (MAX_GAIN * self._speed + MAX_ACCELERATION * seconds) * seconds:
            return f"it moved {moved:.3g} m within {seconds:.2f} s, after {self._speed:.2g} m/s"
        return ""

    def _believe(self, here: _Pose) -> None:
        seconds = 0.0 if self._believed is None else here.seconds_since(self._believed)
        if self._believed is None or self.jumped or seconds <= 0.0:
            self._speed = None
        else:
            self._speed = self._believed.distance(here) / seconds
        self.fault, self._believed = "", here
        self._other, self._others = None, 0


@dataclass(frozen=True, eq=False)
class _Pose:
    """Where odometry was at a frame. place: the frame's in the map's `FrameLog`. episode: between two losses of the camera."""

    place: int
    stamp_ns: int
    T_odom_cam: SE3
    episode: int

    def distance(self, other: _Pose) -> float:
        return float(np.linalg.norm((self.T_odom_cam.inverse() @ other.T_odom_cam).translation))

    def seconds_since(self, other: _Pose) -> float:
        return (self.stamp_ns - other.stamp_ns) * 1e-9


def _fault(keyframe_map: KeyframeMap, before: _Pose | None, here: _Pose) -> str:
    """Why odometry cannot have moved from one pose to another, "" if it can."""
    if before is None or before.place >= here.place or keyframe_map.frames.stamps_ns[before.place] != before.stamp_ns:
        return ""  # the map has begun anew
    seconds = max(here.seconds_since(before), 0.0)
    step = before.T_odom_cam.inverse() @ here.T_odom_cam
    moved = float(np.linalg.norm(step.translation))
    if moved > MAX_SPEED * seconds + SLACK_M:
        return f"it moved {moved:.3g} m within {seconds:.2f} s, faster than {MAX_SPEED:.0f} m/s"
    if seconds > TOGETHER_S or before.episode != here.episode:
        return ""
    seen = keyframe_map.T_world_cam(before.place).inverse() @ keyframe_map.T_world_cam(here.place)
    turned, turn = so3.degrees(step.rotation), so3.degrees(seen.rotation)
    if so3.degrees(seen.rotation.T @ step.rotation) > SLACK_DEG + SLACK_DEG_PER_S * seconds + SLACK_SHARE * turn:
        return f"it turned by {turned:.0f} degrees while the camera turned by {turn:.0f}"
    apart, camera = (float(np.linalg.norm(t)) for t in (seen.translation - step.translation, seen.translation))
    if keyframe_map.scale.metric and apart > SLACK_M + SLACK_SPEED * seconds + SLACK_SHARE * camera:
        return f"it moved {moved:.3g} m while the camera moved {camera:.2g} m"
    return ""
