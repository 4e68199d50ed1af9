# SPDX-License-Identifier: Apache-2.0
"""Compares the stamps of images with the clock and with each other: warns about a steady offset, skips single outliers."""

from __future__ import annotations

import time
from collections import deque
from statistics import median

from builtin_interfaces.msg import Time
from rclpy.node import Node

from st3r_ros.config import MappingNodeConfig
from st3r_ros.errors import FrameError
from st3r_ros.io.stamps import format_stamp
from st3r_ros.ros.conversions import stamp_to_ns

AHEAD_S = 1.0
"""Seconds ahead of the clock beyond which stamps are of another clock."""
BEHIND_S = 10.0
"""Seconds behind the clock beyond which stamps are of another clock or of a recording; network delays are shorter."""
STEADY = 5
"""Number of consecutive images that confirm an offset."""
STEP_S = 10.0
"""Maximum step to the next stamp, seconds, for a steady stream."""
BACK_S = 1.0
"""Maximum step backwards, seconds."""


class StampWatch:
    """Checks the stamp of every image. complaint: the current problem of the stamps, "" for none."""

    def __init__(self, node: Node, config: MappingNodeConfig) -> None:
        self._clock, self._logger = node.get_clock(), node.get_logger()
        self._map_odom = f"{config.map_frame} -> {config.odom_frame}" if config.odom_frame else ""
        self._simulated = bool(node.get_parameter("use_sim_time").value)
        self._order, self._offset = StampOrder(), ClockOffset()
        self.complaint = ""

    @property
    def offset_s(self) -> float | None:
        """Offset of the stamps from the clock, seconds, positive ahead; None while unknown."""
        return self._offset.seconds

    def look(self, stamp: Time) -> FrameError | None:
        """Why an image with this stamp is skipped, None when it is not."""
        try:
            stamp_ns = stamp_to_ns(stamp)
        except FrameError as error:
            return error
        now_ns = self._clock.now().nanoseconds
        offset_s = (stamp_ns - now_ns) * 1e-9
        reason = self._order.check(stamp_ns, time.monotonic(), fits_clock=abs(offset_s) < AHEAD_S)
        if reason:
            return FrameError(reason)
        if self._offset.look(offset_s if now_ns else None):
            self._say()
        return None

    def restart(self) -> None:
        """The next stamp may be any."""
        self._order = StampOrder()

    def _say(self) -> None:
        """The offset has changed."""
        kind, seconds = self._offset.kind, abs(self._offset.seconds or 0.0)
        self.complaint = ""
        log = self._logger.warning
        if kind == "no clock":
            self.complaint = "use_sim_time is true, but /clock has no publisher; play with --clock, or set use_sim_time to false."
        elif kind == "ahead":
            clock, way_out = "this node's clock", "synchronise the clocks (chrony), or set the driver's"
            if self._simulated:
                clock, way_out = "/clock", "let images and /clock come from the same recording"
            self.complaint = (
                f"The images' stamps are {span(seconds)} ahead of {clock}, and so are the poses and TF published for them, which "
                f"other nodes cannot use yet: {way_out}."
            )
        elif kind == "behind" and self._map_odom:
            log = self._logger.info
            self.complaint = (
                f"The images' stamps are {span(seconds)} behind the clock by which {self._map_odom} is stamped: for a recording "
                "play it with --clock and set use_sim_time to true; for a live camera synchronise the clocks (chrony)."
            )
        elif kind == "behind":
            clock = "/clock" if self._simulated else "the clock"
            self._logger.info(
                f"The images' stamps are {span(seconds)} behind {clock}, as in a recording that is played without use_sim_time. "
                "What this node publishes carries the same stamps."
            )
        if self.complaint:
            log(self.complaint)


class ClockOffset:
    """Offset of stamps from a clock, once `STEADY` of them agree. kind: "", "ahead", "behind" or "no clock"."""

    def __init__(self) -> None:
        self._offsets: deque[float | None] = deque(maxlen=STEADY)
        self.kind = ""

    @property
    def seconds(self) -> float | None:
        """The median of the last offsets, seconds; None without."""
        known = [offset for offset in self._offsets if offset is not None]
        return median(known) if known else None

    def look(self, offset_s: float | None) -> bool:
        """Note the offset of a stamp, None without a clock; whether `kind` has changed."""
        self._offsets.append(offset_s)
        kinds = {_kind(offset) for offset in self._offsets}
        before = self.kind
        if len(self._offsets) == STEADY and len(kinds) == 1:
            self.kind = kinds.pop()
        return self.kind != before


def _kind(offset_s: float | None) -> str:
    if offset_s is None:
        return "no clock"
    if offset_s > AHEAD_S:
        return "ahead"
    return "behind" if offset_s < -BEHIND_S else ""


class StampOrder:
    """Distinguishes a single wrong stamp from a jump in time, after which further images have the new time."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._arrived_s = self._step_s = 0.0
        self._suspicious = False

    def check(self, stamp_ns: int, arrived_s: float, *, fits_clock: bool = False) -> str:
        """Why the image with this stamp is skipped, "" when it is not.

        arrived_s: time of arrival on a steady clock, seconds. fits_clock: whether the stamp agrees with the node's clock.
        """
        last_ns = self._last_ns
        step_s = 0.0 if last_ns is None else (stamp_ns - last_ns) * 1e-9
        longest_s = max(STEP_S, 3.0 * self._step_s) + 2.0 * (arrived_s - self._arrived_s)
        if last_ns is not None and not (-BACK_S <= step_s <= longest_s or fits_clock or self._suspicious):
            self._suspicious = True
            where = f"{span(step_s)} after" if step_s > 0 else f"{span(-step_s)} before"
            return f"Its stamp {format_stamp(stamp_ns)} s is {where} the last image's; if the next image agrees, time has jumped."
        self._last_ns, self._arrived_s, self._step_s = stamp_ns, arrived_s, max(0.0, step_s)
        self._suspicious = False
        return ""


def span(seconds: float) -> str:
    """A duration in a suitable unit."""
    for unit, length, limit in (("s", 1.0, 120.0), ("min", 60.0, 3000.0), ("h", 3600.0, 172800.0), ("days", 86400.0, 6.3e7)):
        if seconds < limit:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 31557600.0:.1f} years"
