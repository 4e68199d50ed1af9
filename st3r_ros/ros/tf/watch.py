# SPDX-License-Identifier: Apache-2.0
"""Detects other publishers of this node's transform: a frame has one parent."""

from __future__ import annotations

import time
from collections.abc import Callable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node

from st3r_ros.config import InputConfig
from st3r_ros.frame_names import frame_name
from st3r_ros.ros.tf.listener import TransformListener

LISTEN_S = 2.0
"""Seconds after the first image in which TF is checked for another publisher."""
PERIOD_S = 20.0
"""Seconds until the next check."""
FORGET_S = 20.0
"""Seconds without a transform after which another publisher counts as stopped."""


class TransformWatch:
    """Listens to TF, permanently with odometry, otherwise from time to time, and detects conflicting publishers.

    owns: whether this node has broadcast the transform of a frame at a stamp (nanoseconds). hint: what to do when the frame that
    this node broadcasts already has a parent. frame_id: that frame, "" while unknown.
    """

    def __init__(self, node: Node, config: InputConfig, owns: Callable[[str, int], bool], hint: str) -> None:
        self._node, self.config, self._owns, self._hint = node, config, owns, hint
        self.frame_id = config.odometry_frame
        self._parent, self._conflict = "", ""
        self._heard = self._opened = time.monotonic()
        self.tf = TransformListener(node, self._on_tf, config.fixed_frame)

    def close(self) -> None:
        """Stop listening."""
        self.tf.close()

    @property
    def parent(self) -> str | None:
        """Another parent of `frame_id`, as far as known."""
        return self._parent or None

    @property
    def conflict(self) -> str:
        """One sentence about another publisher of this node's transform, "" without one."""
        return self._conflict if self.config.publish_tf else ""

    def parent_of(self, frame_id: str) -> str | None:
        """Another parent of any frame, as far as known."""
        if frame_name(frame_id) == self.frame_id:
            return self.parent
        parent = self.tf.tree.parent(frame_id)
        return None if parent == self.config.fixed_frame else parent

    def look(self, frame_id: str, listening_s: float) -> None:
        """Called with each image, `listening_s` seconds after the first: starts or stops listening."""
        if self.config.odometry_frame:
            self._forget(time.monotonic() - FORGET_S)
            return
        if frame_id != self.frame_id:
            self._parent = ""
            parent = self.parent_of(frame_id)  # it may have been broadcast before the frame was known
            self.frame_id = frame_id
            if parent is not None:
                self._notice_parent(parent)
        if not self.tf.listening:
            if listening_s % PERIOD_S <= LISTEN_S:
                self._opened = time.monotonic()
                self.tf.open()
        elif listening_s % PERIOD_S > LISTEN_S:
            self.tf.close()
            self._forget(self._opened)

    def _on_tf(self, transforms: list[TransformStamped]) -> None:
        for item in transforms:
            child, parent = frame_name(item.child_frame_id), frame_name(item.header.frame_id)
            if child != self.frame_id:
                continue
            stamp = item.header.stamp
            if parent != self.config.fixed_frame and not self.config.odometry_frame:
                self._notice_parent(parent)
            elif parent != self.config.fixed_frame or not self._owns(child, stamp.sec * 10**9 + stamp.nanosec):
                self._say(
                    f"Another publisher broadcasts {parent} -> {child}, and this node {self.config.fixed_frame} -> {child}: a "
                    "frame has one parent. Stop one of the two, or set publish_tf to false here."
                )

    def _forget(self, before: float) -> None:
        """Forgets publishers last heard before a time."""
        if (self._parent or self._conflict) and self._heard < before:
            self._parent = self._conflict = ""
            self._node.get_logger().info("The other publisher of what this node broadcasts has stopped.")

    def _notice_parent(self, parent: str) -> None:
        self._parent = parent
        self._say(
            f"TF already has {parent} as the parent of {self.frame_id}, so {self.config.fixed_frame} -> {self.frame_id} is not "
            f"broadcast. {self._hint}"
        )

    def _say(self, conflict: str) -> None:
        self._heard = time.monotonic()
        if conflict != self._conflict and self.config.publish_tf:
            self._conflict = conflict
            self._node.get_logger().warning(conflict)
