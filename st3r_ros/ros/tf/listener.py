# SPDX-License-Identifier: Apache-2.0
"""TF input: the subscriptions of a node to /tf and /tf_static."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from geometry_msgs.msg import TransformStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from st3r_ros.ros.qos import stream
from st3r_ros.ros.tf.faults import TransformFaults
from st3r_ros.ros.tf.tree import TransformTree

_TAKE_PERIOD_S = 0.05


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
