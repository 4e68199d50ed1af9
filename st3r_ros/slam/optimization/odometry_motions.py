# SPDX-License-Identifier: Apache-2.0
"""Motions of the camera measured by odometry, for comparison with the same motions in the map."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.optimization.odometry_check import MAX_SPEED
from st3r_ros.slam.optimization.robust_mean import RobustMean, robust_mean

SHORT, LONG = 0.15, 1.2
"""Metres from the begin of a motion to its end: of the first ones, so that the scale is known soon, and at most."""
MOTIONS_PER_LENGTH = 8
"""Number of motions after which the next ones are twice as long."""
HALF_TRUST = 0.5
"""Metres at which the noise of positions is as large as that of the scale along the way: longer motions are hardly better."""
TURNED_BACK = 0.7
"""A motion ends at its farthest point when less than this share of the distance is left."""
MAX_MOTIONS = 128
UNMOVED = 1e-9
"""Map units; the logarithm needs a length."""


class OdometryMotions:
    """Each is between two frames of the map. made: how many there were; MAX_MOTIONS are kept, drawn evenly from the whole way."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets all."""
        self.made = 0
        self._motions: list[_Motion] = []
        self._recent: deque[_Motion] = deque(maxlen=MOTIONS_PER_LENGTH)
        self._last: _Waypoint | None = None

    def break_off(self) -> None:
        """The next pose does not continue those before."""
        self._last = None

    def observe(self, keyframe_map: KeyframeMap, T_odom_cam: SE3) -> None:
        """Adds the odometry pose of the newest frame, metres."""
        frame = len(keyframe_map.frames) - 1
        here = _Waypoint(frame, int(keyframe_map.frames.stamps_ns[frame]), T_odom_cam)
        last, self._last = self._last, here
        if last is not None and (last.frame >= frame or keyframe_map.frames.stamps_ns[last.frame] != last.stamp_ns):
            self.begin_anew()  # as the map has
            last, self._last = None, here
        if last is None or here.distance(last) > MAX_SPEED * max(here.stamp_ns - last.stamp_ns, 0) * 1e-9:
            self._begin = self._farthest = here
            return
        reach, farthest = here.distance(self._begin), self._farthest.distance(self._begin)
        if reach > farthest:
            self._farthest, farthest = here, reach
        length = min(SHORT * 2.0 ** (self.made // MOTIONS_PER_LENGTH), LONG)
        if farthest >= length or (farthest >= SHORT and reach < TURNED_BACK * farthest):
            moved = self._begin.T_odom_cam.inverse().act(self._farthest.T_odom_cam.translation)
            self._keep(_Motion(self._begin.frame, self._farthest.frame, farthest, moved))
            self._begin, self._farthest = self._farthest, here

    def metres_per_unit(self, keyframe_map: KeyframeMap) -> RobustMean | None:
        """Logarithm of the metres per unit of the map as it is now, None before the first motion.

        Takes as long for a large map as for a small one.
        """
        if not self._motions:
            return None
        motions = sorted(self._motions, key=lambda motion: motion.begin)
        ends = _positions(keyframe_map, [frame for motion in motions for frame in (motion.begin, motion.end)])
        in_map = np.linalg.norm(ends[1::2] - ends[::2], axis=1)
        metres = np.array([motion.metres for motion in motions])
        return robust_mean(np.log(metres / np.maximum(in_map, UNMOVED)), metres**2 / (metres**2 + HALF_TRUST**2))

    def degrees_apart(self, keyframe_map: KeyframeMap) -> float | None:
        """The median angle between the newest motions and those of the camera in the map, None while there are too few."""
        if len(self._recent) < MOTIONS_PER_LENGTH:
            return None
        angles = []
        for motion in self._recent:
            begin, end = (keyframe_map.T_world_cam(frame) for frame in (motion.begin, motion.end))
            seen = begin.inverse() @ end.translation
            lengths = np.linalg.norm(seen) * np.linalg.norm(motion.direction)
            angles.append(np.degrees(np.arccos(np.clip(seen @ motion.direction / max(lengths, UNMOVED), -1.0, 1.0))))
        return float(np.median(angles))

    def _keep(self, motion: _Motion) -> None:
        self.made += 1
        self._recent.append(motion)
        if len(self._motions) < MAX_MOTIONS:
            self._motions.append(motion)
            return
        place = int(self._random.integers(self.made))  # reservoir sampling: every motion stays with the same probability
        if place < MAX_MOTIONS:
            self._motions[place] = motion


@dataclass(frozen=True, eq=False)
class _Waypoint:
    """Where odometry was at a frame. frame: the frame's place in the map's `FrameLog`."""

    frame: int
    stamp_ns: int
    T_odom_cam: SE3

    def distance(self, other: _Waypoint) -> float:
        return float(np.linalg.norm(self.T_odom_cam.translation - other.T_odom_cam.translation))


@dataclass(frozen=True)
class _Motion:
    """From one frame to another, by their places in the map's `FrameLog`. direction: to the end, in the camera at the begin."""

    begin: int
    end: int
    metres: float
    direction: np.ndarray


def _positions(keyframe_map: KeyframeMap, frames: list[int]) -> np.ndarray:
    """Camera centres (N, 3) in the world, of the frames at these places of the log."""
    return np.array([keyframe_map.T_world_cam(frame).translation for frame in frames])
