# SPDX-License-Identifier: Apache-2.0
"""Latched topics, published when their content has changed: messages made at once, and messages made in small steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecyclePublisher

from st3r_ros.products.steps import Steps

BUILD_SHARE = 0.3
"""Maximum share of time for making the messages of one topic while images arrive."""
TURN_S = 0.05
"""Seconds after which the construction of a message yields to other work, at the end of its step."""
SPARE_S = 0.01
"""The same between two images, when no other work waits."""
FLUSH_S = 0.3
"""Maximum time for a message that is needed immediately, seconds."""


class LatchedOutput:
    """A latched topic, published when its content has changed and it has a subscriber, at a limited rate.

    Late subscribers get the last message from ROS; changes without a subscriber are published by a later `poll`.
    """

    def __init__(self, publisher: LifecyclePublisher, build: Callable[[], Any]) -> None:
        self._publisher, self._build = publisher, build
        self._changed = False
        self._sent = -float("inf")
        self._cost = 0.0

    def mark(self) -> None:
        """Marks the content as changed."""
        self._changed = True

    def poll(self, period: float, *, idle: bool) -> None:
        """Publishes changes, at most every `period` seconds.

        Unless the caller is idle, messages that take long to build are published less often: building may take the share
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
        """Publishes changes now."""
        self.poll(0.0, idle=True)


class GradualOutput:
    """A latched topic whose messages take long to build: each `poll` does a few steps, until the message is complete.

    begin: the steps of a message with the content at their start; the result None publishes nothing.
    interim: an immediately available message, for `flush` when the steps take too long; None for none.
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
        """Marks the content as changed."""
        self._changed = True

    def poll(self, period: float, *, idle: bool) -> None:
        """Continues a message, or starts one at most every `period` seconds when the content has changed.

        Unless the caller is idle, this takes the share BUILD_SHARE of the time. Does nothing without a subscriber.
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
        """Continues a message for a short time while no other work waits; whether there is more to do."""
        if self._steps is not None and is_heard(self._publisher):
            self._go_on(SPARE_S)
            return self._steps is not None
        return False

    def flush(self) -> None:
        """Publishes changes now: the whole content, or the interim message while it is being built."""
        if self._complete(FLUSH_S) and self._interim is not None:
            self._publisher.publish(self._interim())

    def finish(self) -> None:
        """Publishes the whole content if changed, however long that takes."""
        self._complete(float("inf"))

    def _complete(self, seconds: float) -> bool:
        """Publishes the whole content if it has changed and is built in time; whether it is still being built."""
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
    """Whether the topic has a subscriber."""
    return publisher.is_activated and publisher.get_subscription_count() > 0
