# SPDX-License-Identifier: Apache-2.0
"""The corrected path as one growing message."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from nav_msgs.msg import Path

from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.conversions import header


class PathMessage:
    """Updates only new or changed poses; rebuilding 10,000 would take a second."""

    def __init__(self) -> None:
        self._message = Path()
        self._stamps_ns = np.zeros(0, np.int64)
        self._rows = np.zeros((0, 7))

    def update(self, stamps_ns: np.ndarray, poses: SE3, frame_id: str) -> Path:
        """The message for a batch (N,) of poses at their stamps; it is valid until the next update."""
        rows = np.hstack([poses.translation, poses.quaternion_xyzw])
        common = min(len(rows), len(self._rows))
        changed = (rows[:common] != self._rows[:common]).any(axis=1) | (stamps_ns[:common] != self._stamps_ns[:common])
        items = self._message.poses
        del items[common:]
        indices = [*np.flatnonzero(changed).tolist(), *range(common, len(rows))]
        for index, stamp_ns, row in zip(indices, stamps_ns[indices].tolist(), rows[indices].tolist(), strict=True):
            items[index : index + 1] = [_pose_stamped(stamp_ns, row, frame_id)]
        self._stamps_ns, self._rows = stamps_ns, rows
        self._message.header = header(stamps_ns[-1] if len(stamps_ns) else 0, frame_id)
        return self._message


def _pose_stamped(stamp_ns: int, row: list[float], frame_id: str) -> PoseStamped:
    x, y, z, qx, qy, qz, qw = row
    pose = Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
    return PoseStamped(header=header(stamp_ns, frame_id), pose=pose)
