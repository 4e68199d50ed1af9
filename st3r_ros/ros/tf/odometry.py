# SPDX-License-Identifier: Apache-2.0
"""Odometry from TF, at the stamps of the images."""

from __future__ import annotations

import time

from rclpy.impl.rcutils_logger import RcutilsLogger

from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.tf.tree import TransformTree

RETRY_S = 1.0
"""Seconds without waiting after odometry was missing, so that images without odometry are mapped at full speed."""
_SAY_AGAIN_S = 30.0


class Odometry:
    """Looks up `odom_frame` -> robot. `pose` may wait up to `patience_s` seconds; call it on the worker thread."""

    def __init__(self, tree: TransformTree, odom_frame: str, patience_s: float, logger: RcutilsLogger) -> None:
        self._tree, self._odom_frame, self._patience_s, self._logger = tree, odom_frame, patience_s, logger
        self._impatient_until = 0.0

    def known(self, frame: str) -> bool:
        """Whether TF connects odometry with the frame."""
        return self._tree.lookup(self._odom_frame, frame) is not None

    def fault(self, frame: str) -> str:
        """One sentence about a transform between them that cannot be true, "" without one."""
        return self._tree.fault(self._odom_frame, frame)

    def pose(self, frame: str, stamp_ns: int) -> SE3 | None:
        """`T_odom_frame` at a stamp; None with a warning when TF does not have it."""
        now = time.monotonic()
        patience_s = 0.0 if now < self._impatient_until else self._patience_s
        T_odom_frame = self._tree.lookup(self._odom_frame, frame, stamp_ns, patience_s=patience_s)
        if T_odom_frame is None:
            if patience_s > 0.0:
                self._impatient_until = time.monotonic() + RETRY_S
            why = "at the stamps of the images" if self.known(frame) else "at all"
            way_out = self.fault(frame) or "Check the frames and the clocks, or give images more time with odom_wait."
            self._logger.warning(
                f"TF has no {self._odom_frame} -> {frame} {why}: images are mapped without odometry. {way_out}",
                throttle_duration_sec=_SAY_AGAIN_S,
            )
        return T_odom_frame
