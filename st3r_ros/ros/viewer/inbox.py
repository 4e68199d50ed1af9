# SPDX-License-Identifier: Apache-2.0
"""Topics of which only the newest message is used: kept as bytes, parsed when needed."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

READ_SHARE = 0.2
"""Share of the time that reading and showing one topic may take."""


class Newest:
    """The newest message of a topic. Messages that are not shown are not parsed, which is expensive for large ones."""

    def __init__(self, node: Node, kind: Any, topic: str, qos: QoSProfile) -> None:
        self._kind = kind
        self._data: bytes | None = None
        self._shown = self._pause_s = -float("inf")
        self.topic = node.create_subscription(kind, topic, self._on_message, qos, raw=True).topic_name

    def _on_message(self, data: bytes) -> None:
        self._data = data

    @property
    def waiting(self) -> bool:
        """Whether there is a message that has not been taken."""
        return self._data is not None

    def take(self, period_s: float) -> Any | None:
        """The newest message, None when there is no new one, or the last one was taken less than `period_s` seconds ago.

        What takes long to show, until `done`, is taken less often.
        """
        now = time.monotonic()
        if self._data is None or now - self._shown < max(period_s, self._pause_s):
            return None
        data, self._data, self._shown = self._data, None, now
        return deserialize_message(data, self._kind)

    def done(self) -> None:
        """What was taken is shown."""
        self._pause_s = (time.monotonic() - self._shown) / READ_SHARE
