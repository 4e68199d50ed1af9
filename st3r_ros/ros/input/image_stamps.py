# SPDX-License-Identifier: Apache-2.0
"""Compares the stamps of images with each other and with the clock: skips single outliers, warns about what is steady."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from rclpy.node import Node

from st3r_ros.errors import FrameError
from st3r_ros.io.stamp_order import StampOrder, Verdict, stray
from st3r_ros.io.stamps import span
from st3r_ros.ros.clocks import AHEAD_S, BEHIND_S, ClockWatch, ImageTime
from st3r_ros.ros.conversions import stamp_to_ns

STEADY = 5
"""Number of consecutive images that confirm an offset or a unit."""
BURST_S = 0.05
"""Seconds in which STEADY images arrive at once, after a delay."""
HOLD_S = 1.0
"""Seconds that an image with a doubtful stamp waits for the next one."""


@dataclass(frozen=True, eq=False)
class StampedMessage:
    """An image message that is passed on. error: why it is skipped. waited: for the next one, which is passed on with it."""

    message: Any
    time: ImageTime
    error: FrameError | None = None
    waited: bool = False


class StampWatch:
    """Checks the stamp of every image. An image whose stamp agrees neither with the images before nor with the clock waits for
    the next one, which agrees with it (time has jumped) or not (it is skipped)."""

    def __init__(self, node: Node) -> None:
        self._clock, self._logger = node.get_clock(), node.get_logger()
        self._clock_watch = ClockWatch(node)
        self._order, self._manner = StampOrder(), StampManner()
        self._held: StampedMessage | None = None
        self._complaint = ""

    @property
    def offset_s(self) -> float | None:
        """Offset of the stamps from the clock, seconds, positive ahead; None while unknown."""
        return self._manner.offset_s

    @property
    def clock_complaint(self) -> str:
        """The current problem of /clock, "" for none."""
        return self._clock_watch.complaint

    @property
    def complaint(self) -> str:
        """The current problem of the stamps or of /clock, "" for none."""
        return self.clock_complaint or self._complaint

    def take(self, message: Any) -> list[StampedMessage]:
        """The images to pass on now, in order: without this one while its stamp is in doubt."""
        now_ns = self._clock.now().nanoseconds
        try:
            moment = ImageTime(stamp_to_ns(message.header.stamp), now_ns)
        except FrameError as error:
            return [StampedMessage(message, ImageTime(0, now_ns), error)]
        reference_ns = self._order.last_ns
        fits = moment.offset_s is not None and abs(moment.offset_s) < AHEAD_S
        verdict = self._order.check(moment.stamp_ns, moment.arrived_ns * 1e-9, fits_clock=fits)
        if verdict is not Verdict.DOUBTFUL and self._manner.look(moment):
            self._say()
        held = None if self._held is None else replace(self._held, waited=True)
        self._held = None
        passed = [StampedMessage(message, moment)]
        if verdict is Verdict.DOUBTFUL:
            self._held = passed.pop()
        if held is None:
            return passed
        if verdict is Verdict.CONFIRMS:
            return [held, *passed]
        far = (moment.stamp_ns, "next") if reference_ns is None else (reference_ns, "last")
        return [replace(held, error=stray(held.time.stamp_ns, *far)), *passed]

    def release(self, patience_s: float = HOLD_S) -> list[StampedMessage]:
        """The image that has waited in vain for the next one: passed on if it is the first, otherwise skipped."""
        held = self._held
        if held is None or (time.monotonic_ns() - held.time.arrived_ns) * 1e-9 < patience_s:
            return []
        self._held = None
        if self._order.last_ns is not None:
            return [replace(held, error=stray(held.time.stamp_ns, self._order.last_ns, "last"))]
        self._order.believe()
        return [held]

    def restart(self) -> int:
        """The next stamp may be any. Returns how many images are dropped that waited: 0 or 1."""
        dropped, self._held = int(self._held is not None), None
        self._order = StampOrder()
        return dropped

    def _say(self) -> None:
        """The manner of the stamps has changed."""
        manner, simulated = self._manner, self._clock_watch.simulated
        away = span(abs(manner.offset_s or 0.0))
        clock = "/clock" if simulated else "this node's clock"
        way_out = "synchronise the clocks (chrony), or set the driver's"
        if simulated:
            way_out = "let images and /clock come from the same recording or simulation"
        self._complaint = ""
        if manner.kind == "same":
            self._complaint = "All images have the same stamp; the driver must set header.stamp to the time of the exposure."
        elif manner.kind == "unit":
            self._complaint = (
                f"The images' stamps advance by {manner.pace:.3g} s per second; are they in another unit? The driver must set "
                "header.stamp in seconds (sec) and nanoseconds (nanosec)."
            )
        elif manner.kind == "ahead":
            self._complaint = (
                f"The images' stamps are {away} ahead of {clock}, and so are the poses and TF published for them, which other "
                f"nodes cannot use yet: {way_out}."
            )
        elif manner.kind == "behind" and simulated:
            self._complaint = f"The images' stamps are {away} behind {clock}: {way_out}."
        elif manner.kind == "behind":
            self._logger.info(
                f"The images' stamps are {away} behind {clock}, as in a recording that is played without use_sim_time. What this "
                "node publishes carries the same stamps."
            )
        if self._complaint:
            self._logger.warning(self._complaint)


class StampManner:
    """What the stamps of the last images have in common. kind: "", "ahead" or "behind" (the clock), "same" or "unit"."""

    def __init__(self) -> None:
        self._recent: deque[ImageTime] = deque(maxlen=STEADY)
        self._before: list[str] = []
        self.kind = ""

    @property
    def offset_s(self) -> float | None:
        """The median of the last offsets from the clock, seconds; None without."""
        known = [moment.offset_s for moment in self._recent if moment.offset_s is not None]
        return median(known) if known else None

    @property
    def pace(self) -> float:
        """Seconds by which the stamps advance in a second; NaN while unknown, as when several images arrive at once."""
        first, last = self._recent[0], self._recent[-1]
        seconds = (last.arrived_ns - first.arrived_ns) * 1e-9
        return (last.stamp_ns - first.stamp_ns) * 1e-9 / seconds if seconds > BURST_S else math.nan

    def look(self, moment: ImageTime) -> bool:
        """Notes the time of an image; whether `kind` has changed, which needs STEADY images that agree."""
        self._recent.append(moment)
        self._before = [*self._before[1 - STEADY :], self._look()]
        before = self.kind
        if len(self._before) == STEADY and len(set(self._before)) == 1:
            self.kind = self._before[-1]
        return self.kind != before

    def _look(self) -> str:
        first, last = self._recent[0], self._recent[-1]
        if first.stamp_ns == last.stamp_ns and first is not last:
            return "same"
        if self.pace > 0.0 and any(abs(math.log10(self.pace) - power) < 0.15 for power in (-9, -6, -3, 3, 6, 9)):
            return "unit"
        if first.clock_ns == last.clock_ns and first is not last:
            return self.kind  # simulated time stands still, or ticks less often than images arrive
        offset_s = last.offset_s
        if offset_s is None:
            return ""
        if offset_s > AHEAD_S:
            return "ahead"
        return "behind" if offset_s < -BEHIND_S else ""
