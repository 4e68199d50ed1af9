# SPDX-License-Identifier: Apache-2.0
"""Whether odometry and the camera tell the same over some seconds: what no single step shows, as frozen or mirrored odometry."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.optimization.scale import DEPTHS_M, median_depth

WAY_S, SPACING_S = 5.0, 1.0
"""Seconds over which the way is compared, and between the poses that are kept for it."""
SLACK_M, SLACK_DEG, SLACK_SHARE = 0.3, 20.0, 0.5
"""How far the two may be apart: metres, degrees, and the share of the camera's way. Wheels slip, and transforms arrive late."""
STANDS_M, STANDS_DEG = 1e-6, 1e-4
"""Odometry that moves less does not move at all."""
WAY_SHARE = 0.3
"""A way of the camera, as a share of the distance to what it sees, at which odometry must have moved too."""
TURNED_DEG = 10.0
"""A turn of the camera at which odometry that stands is frozen."""


class OdometryWay:
    """doubt: how odometry contradicts the camera, "" if it does not; it stays until a way of WAY_S shows nothing wrong.

    Such odometry may still serve as a frame to publish in: a transform corrects it, as it corrects wheels that slip.
    """

    def __init__(self) -> None:
        self.doubt = ""
        self._kept: deque[_Waypoint] = deque()

    def break_off(self) -> None:
        """The next pose does not continue those before: one of the two has jumped."""
        self._kept.clear()

    def observe(self, keyframe_map: KeyframeMap, T_odom_cam: SE3) -> None:
        """Adds the odometry pose of the newest frame of the map, metres."""
        place = len(keyframe_map.frames) - 1
        here = _Waypoint(place, int(keyframe_map.frames.stamps_ns[place]), T_odom_cam)
        while self._kept and (here.seconds_since(self._kept[0]) > WAY_S or not self._kept[0].is_of(keyframe_map)):
            self._kept.popleft()
        doubts = [doubt for there in self._kept if (doubt := _doubt(keyframe_map, there, here))]
        whole_way = bool(self._kept) and here.seconds_since(self._kept[0]) > WAY_S - 2.0 * SPACING_S
        if doubts or whole_way:
            self.doubt = doubts[0] if doubts else ""
        if not self._kept or here.seconds_since(self._kept[-1]) >= SPACING_S:
            self._kept.append(here)


@dataclass(frozen=True, eq=False)
class _Waypoint:
    """place: the frame's in the map's `FrameLog`."""

    place: int
    stamp_ns: int
    T_odom_cam: SE3

    def seconds_since(self, other: _Waypoint) -> float:
        return (self.stamp_ns - other.stamp_ns) * 1e-9

    def is_of(self, keyframe_map: KeyframeMap) -> bool:
        """Whether the frame is still in the map: it may have begun anew."""
        stamps_ns = keyframe_map.frames.stamps_ns
        return self.place < len(stamps_ns) and int(stamps_ns[self.place]) == self.stamp_ns


def _doubt(keyframe_map: KeyframeMap, there: _Waypoint, here: _Waypoint) -> str:
    """How the motion by odometry from there to here contradicts that of the camera, "" if it does not."""
    by_odometry = there.T_odom_cam.inverse() @ here.T_odom_cam
    by_camera = keyframe_map.T_world_cam(there.place).inverse() @ keyframe_map.T_world_cam(here.place)
    seconds = here.seconds_since(there)
    turned, turn = so3.degrees(by_odometry.rotation), so3.degrees(by_camera.rotation)
    moved, move = (float(np.linalg.norm(T.translation)) for T in (by_odometry, by_camera))
    if moved < STANDS_M and turned < STANDS_DEG and turn > TURNED_DEG:
        return f"it stands still while the camera turned by {turn:.0f} degrees within {seconds:.1f} s"
    if so3.degrees(by_camera.rotation.T @ by_odometry.rotation) > SLACK_DEG + SLACK_SHARE * turn:
        turns = f"{turned:.0f} and {turn:.0f} degrees"
        return f"it turned otherwise than the camera within {seconds:.1f} s ({turns}); check its axes (REP-103)"
    apart = float(np.linalg.norm(by_camera.translation - by_odometry.translation))
    if not keyframe_map.scale.metric:
        depth = median_depth(keyframe_map) if move > 0.0 else None
        if depth is not None and move > WAY_SHARE * depth and moved * depth < DEPTHS_M[0] * move:
            return (
                f"it moved {moved:.2g} m within {seconds:.1f} s while the camera moved {move / depth:.1f} times the depth it sees"
            )
    elif apart > SLACK_M + SLACK_SHARE * move:
        return f"it moved otherwise than the camera within {seconds:.1f} s ({moved:.2g} and {move:.2g} m, {apart:.2g} m apart)"
    return ""
