# SPDX-License-Identifier: Apache-2.0
"""Latched topics that are sent when their content has changed: whole messages, and such as are made in small steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecyclePublisher

from st3r_ros.slam.steps import Steps

BUILD_SHARE = 0.3
"""Share of the time that making one topic's messages may take while images come."""
TURN_S = 0.05
"""Seconds after which a message in the making lets other work go on, at the latest with the end of its step."""
SPARE_S = 0.01
"""Seconds after which it lets other work go on where it has the time between two images for itself."""
FLUSH_S = 0.3
"""Seconds that a message may take when it is wanted now."""


class LatchedOutput:
    """A latched topic that is sent when its content has changed and somebody listens, and not too often.

    A subscriber that comes late gets the last message from ROS; what changed while nobody listened is sent by the next `poll`.
    """

    def __init__(self, publisher: LifecyclePublisher, build: Callable[[], Any]) -> None:
        self._publisher, self._build = publisher, build
        self._changed = False
        self._sent = -float("inf")
        self._cost = 0.0

    def mark(self) -> None:
        """The content has changed."""
        self._changed = True

    def poll(self, period: float, *, idle: bool) -> None:
        """Send what has changed, at most every `period` seconds.

        Unless the caller is idle, a message that takes long to build is sent less often: its building may take the share
        BUILD_SHARE of the time.
        """
        begin = time.monotonic()
        pause = period if idle else max(period, self._cost / BUILD_SHARE)
        if not self._changed or begin - self._sent < pause or not is_heard(self._publisher):
            return
        self._publisher.publish(self._build())
        self._changed = False
        self._sent, self._cost = begin, time.monotonic() - begin

    def flush(self) -> None:
        """Send what has changed now."""
        self.poll(0.0, idle=True)


class GradualOutput:
    """A latched topic whose messages take long to make: each `poll` does a few steps, until a message is there and is sent.

    begin: the steps of a message that shows the content as it is at their beginning; None as their result sends nothing.
    interim: a message to be had at once, for `flush` when the steps take too long; None for none.
    """

    def __init__(
        self, publisher: LifecyclePublisher, begin: Callable[[], Steps[Any]], interim: Callable[[], Any] | None = None
    ) -> None:
        self._publisher, self._begin, self._interim = publisher, begin, interim
        self._changed = False
        self._steps: Steps[Any] | None = None
        self._began = self._polled = -float("inf")
        self._allowance = 0.0

    def mark(self) -> None:
        """The content has changed."""
        self._changed = True

    def poll(self, period: float, *, idle: bool) -> None:
        """Go on with the message in the making, or begin one, at most every `period` seconds, when the content has changed.

        Unless the caller is idle, that takes the share BUILD_SHARE of the time. Where nobody listens nothing is done.
        """
        now = time.monotonic()
        self._allowance = min(TURN_S, self._allowance + BUILD_SHARE * (now - self._polled))
        self._polled = now
        if not is_heard(self._publisher):
            return
        if self._steps is None:
            if not self._changed or now - self._began < period:
                return
            self._start(now)
        self._go_on(TURN_S if idle else self._allowance)
        self._allowance -= time.monotonic() - now

    def go_on(self) -> bool:
        """Go on a little with a message in the making, in time that nobody else wants; whether there is more to do."""
        if self._steps is not None and is_heard(self._publisher):
            self._go_on(SPARE_S)
            return self._steps is not None
        return False

    def flush(self) -> None:
        """Send what has changed, now: the whole content as it is, or what is to be had at once while the whole is being made."""
        if self._complete(FLUSH_S) and self._interim is not None:
            self._publisher.publish(self._interim())

    def finish(self) -> None:
        """Send what has changed, the whole content as it is, however long that takes."""
        self._complete(float("inf"))

    def _complete(self, seconds: float) -> bool:
        """Send the whole content if it has changed and is made in time; whether it is still in the making."""
        if not (self._changed or self._steps) or not is_heard(self._publisher):
            return False
        self._start(time.monotonic())
        self._go_on(seconds)
        return self._steps is not None

    def _start(self, now: float) -> None:
        if self._steps is not None:
            self._steps.close()
        self._steps, self._changed, self._began = self._begin(), False, now

    def _go_on(self, seconds: float) -> None:
        begin = time.monotonic()
        try:
            while self._steps is not None and time.monotonic() - begin < seconds:
                next(self._steps)
        except StopIteration as done:
            self._steps = None
            if done.value is not None:
                self._publisher.publish(done.value)
        except Exception:
            self._steps = None
            raise


def is_heard(publisher: LifecyclePublisher) -> bool:
    """Whether a message would reach somebody now."""
    return publisher.is_activated and publisher.get_subscription_count() > 0
