# SPDX-License-Identifier: Apache-2.0
"""Steady timers beside a clock that may stand still, the time of the images, and what is wrong with /clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer

AHEAD_S = 1.0
"""Seconds ahead of the clock beyond which stamps are of another clock."""
BEHIND_S = 10.0
"""Seconds behind the clock beyond which stamps are of another clock or of a recording; network delays are shorter."""
STILL_S = 2.0
"""Seconds without progress after which a simulated clock stands still."""


def steady_timer(node: Node, period: float, callback: Callable[[], None]) -> Timer:
    """A timer that runs on whatever /clock does."""
    return node.create_timer(period, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


@dataclass(frozen=True)
class ImageTime:
    """The time at which an image arrived, by the clock that stamps the images.

    stamp_ns: of the image. clock_ns: the node's clock then, 0 without /clock. arrived_ns: `time.monotonic_ns` then.
    """

    stamp_ns: int
    clock_ns: int
    arrived_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def offset_s(self) -> float | None:
        """Offset of the stamp from the node's clock, seconds, positive ahead; None without a clock."""
        return (self.stamp_ns - self.clock_ns) * 1e-9 if self.clock_ns else None

    def now_ns(self, clock: Clock) -> int:
        """The current time: of the node's clock if the stamp is of that clock, otherwise the stamp continued from then on."""
        if self.offset_s is not None and -BEHIND_S <= self.offset_s <= AHEAD_S:
            return clock.now().nanoseconds
        return self.stamp_ns + time.monotonic_ns() - self.arrived_ns


class ClockWatch:
    """Notices that simulated time stands still; ask regularly."""

    def __init__(self, node: Node) -> None:
        self._node, self._clock = node, node.get_clock()
        self._topic = node.resolve_topic_name("/clock")
        self._now_ns = -1
        self._since = time.monotonic()

    @property
    def simulated(self) -> bool:
        """Whether the node follows /clock."""
        return bool(self._node.get_parameter("use_sim_time").value)

    @property
    def complaint(self) -> str:
        """What is wrong with /clock, "" for nothing."""
        now_ns = self._clock.now().nanoseconds if self.simulated else -1
        if now_ns != self._now_ns or now_ns < 0:
            self._now_ns, self._since = now_ns, time.monotonic()
        if time.monotonic() - self._since < STILL_S:
            return ""
        published = self._node.count_publishers(self._topic) > 0
        if now_ns == 0 and published:
            return f"use_sim_time is true, but no time has come on {self._topic}; start the simulation or the playback."
        if now_ns == 0:
            return f"use_sim_time is true, but nobody publishes {self._topic}; play with --clock, or set use_sim_time to false."
        why = "are the simulation or the playback paused?" if published else "nobody publishes it any more."
        return f"{self._topic} stands still at {now_ns * 1e-9:.2f} s: {why}"
