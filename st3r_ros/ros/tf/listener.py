# SPDX-License-Identifier: Apache-2.0
"""Listens to TF, and detects other publishers of this node's transform: a frame has one parent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from geometry_msgs.msg import TransformStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from st3r_ros.config import InputConfig
from st3r_ros.frame_names import frame_name
from st3r_ros.ros.qos import stream
from st3r_ros.ros.tf.tree import TransformFaults, TransformTree

_TAKE_PERIOD_S = 0.05
LISTEN_S = 2.0
"""Seconds after the first image in which TF is checked for another publisher."""
PERIOD_S = 20.0
"""Seconds until the next check."""
FORGET_S = 20.0
"""Seconds without a transform after which another publisher counts as stopped."""


class TransformListener:
    """Feeds a `TransformTree` from /tf and /tf_static until it is closed.

    heard: called on another thread with the transforms of every message that can be true. own_frame: as `TransformFaults` has it.

    A robot's TF has hundreds of small messages a second, and waking the executor costs a millisecond each. Therefore the executor
    does not handle these subscriptions: lookups of missing transforms take pending messages, and a thread takes them regularly.
    """

    def __init__(
        self, node: Node, heard: Callable[[list[TransformStamped]], None] = lambda transforms: None, own_frame: str = ""
    ) -> None:
        self._node, self._heard = node, heard
        self.tree = TransformTree(self._take_all, TransformFaults(node.get_logger().warning, own_frame))
        self._subscriptions: list[Subscription] = []
        self._taking = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.open()

    def open(self) -> None:
        """Listen, again."""
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        group = _LeftAlone()
        self._subscriptions = [
            self._node.create_subscription(TFMessage, topic, lambda message: None, qos, callback_group=group)
            for topic, qos in (("/tf_static", latched), ("/tf", stream(100)))
        ]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[self._closing], name="tf", daemon=True)
        self._thread.start()

    @property
    def listening(self) -> bool:
        """Whether it is listening."""
        return bool(self._subscriptions)

    def close(self) -> None:
        """Stops listening, to save the cost of TF when it is not needed."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions, self._thread = [], None

    def _run(self, closing: threading.Event) -> None:
        while not closing.wait(_TAKE_PERIOD_S) and self._node.context.ok():
            self._take_all()

    def _take_all(self) -> bool:
        """Takes pending messages; whether there were any."""
        taken = False
        with self._taking, suppress(InvalidHandle):  # nothing, when the subscriptions are gone
            for subscription, static in zip(self._subscriptions, (True, False), strict=False):
                with subscription.handle:
                    while (message := subscription.handle.take_message(TFMessage, False)) is not None:
                        self._heard(self.tree.add(message[0], static=static))
                        taken = True
        return taken


class _LeftAlone(CallbackGroup):
    """Subscriptions that no executor waits for."""

    def can_execute(self, entity: object) -> bool:
        return False

    def beginning_execution(self, entity: object) -> bool:
        return False

    def ending_execution(self, entity: object) -> None:
        pass


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
