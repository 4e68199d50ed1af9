# SPDX-License-Identifier: Apache-2.0
"""The state of a node on /diagnostics, once a second in every lifecycle state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode

from st3r_ros.ros.clocks import steady_timer
from st3r_ros.ros.input.image_input import ImageCounts, ImageSource
from st3r_ros.ros.nodes.situation import NOT_ACTIVE, PAUSED
from st3r_ros.ros.qos import OVERRIDABLE, stream

PERIOD_S = 1.0
MANY_DROPPED = 0.8
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def health(name: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
    """One line of the diagnostics; the node's name is put before `name` when it is published."""
    items = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=items)


class Diagnostics:
    """Publishes what `report` returns. It is called on the executor and must not block."""

    def __init__(self, node: LifecycleNode, report: Callable[[], list[DiagnosticStatus]]) -> None:
        self._node, self._report = node, report
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", stream(1), qos_overriding_options=OVERRIDABLE)
        steady_timer(node, PERIOD_S, self.publish)

    def publish(self) -> None:
        """Publishes the current state."""
        statuses = self._report()
        prefix = self._node.get_fully_qualified_name().lstrip("/")
        for status in statuses:
            status.name = f"{prefix}: {status.name}"
        array = DiagnosticArray(status=statuses)
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


class InputHealth:
    """The image rate and losses, from the counts between two calls."""

    def __init__(self) -> None:
        self._before = (time.monotonic(), 0, 0)

    def report(self, source: ImageSource | None, counts: ImageCounts) -> DiagnosticStatus:
        """The line `input`."""
        then, received, dropped = self._before
        now = time.monotonic()
        self._before = now, counts.received, counts.dropped
        came, lost = (max(0, new - old) for new, old in ((counts.received, received), (counts.dropped, dropped)))
        values: dict[str, object] = {"received": counts.received, "dropped": counts.dropped}
        if source is None:
            return health("input", OK, NOT_ACTIVE, values)
        if source.muted:
            return health("input", OK, PAUSED, values)
        rate = came / max(now - then, 1e-3)
        values |= {"topic": source.topic, "rate (Hz)": rate, "age (s)": source.waiting_s, "calibration": source.calibration}
        values |= {"missed deadlines": counts.late, "invalid transforms": source.invalid_transforms}
        if source.stamps.offset_s is not None:
            values["stamps ahead of the clock (s)"] = source.stamps.offset_s
        level, message = OK, f"{rate:.1f} images per second."
        if came and lost > MANY_DROPPED * came:
            level, message = WARN, f"{lost} of {came} images were dropped in the last second."
        if source.stamps.complaint:
            level, message = WARN, source.stamps.complaint
        if source.conflict:
            level, message = WARN, source.conflict
        if source.transform_fault:
            level, message = WARN, source.transform_fault
        if source.error:
            level, message = WARN, source.error
        if source.is_silent:
            level, message = ERROR, source.silence()
        return health("input", level, message, values)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
