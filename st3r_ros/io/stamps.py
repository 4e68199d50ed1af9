# SPDX-License-Identifier: Apache-2.0
"""Capture times as integer nanoseconds, to text and back, exactly (a float of seconds since 1970 is only good to 0.2 us)."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from st3r_ros.errors import FrameError

NANOSECONDS = 1_000_000_000

_SINCE_1970 = {1_000_000: (10**12, 10**13), 1_000: (10**15, 10**16), 1: (10**17, 10**19)}
"""Times between 2001 and 2286, those in nanoseconds from 1973 on, by the nanoseconds in their unit."""
_LIMIT = 9_000_000_000  # seconds that 64-bit nanoseconds can hold


def parse_stamp(text: str, unit_ns: int = NANOSECONDS) -> int:
    """Nanoseconds of a decimal number of seconds, or of another unit; what is beyond the nanosecond is rounded.

    Raises:
        FrameError: no number, not finite, or outside the range of 64-bit nanoseconds.
    """
    value, limit = _decimal(text), _LIMIT * NANOSECONDS // unit_ns
    if not -limit <= value <= limit:
        unit = {NANOSECONDS: "seconds", 1_000_000: "milliseconds", 1_000: "microseconds", 1: "nanoseconds"}[unit_ns]
        raise FrameError(f"The stamp {text!r} is not a time in {unit}; is it in another unit?")
    return int((value * unit_ns).to_integral_value())


def parse_time(text: str) -> int:
    """Nanoseconds of a time as data sets write it: seconds, or milli-, micro- or nanoseconds since 1970, told by their size.

    Raises:
        FrameError: as `parse_stamp`.
    """
    value = _decimal(text)
    unit = next((unit for unit, (first, last) in _SINCE_1970.items() if first <= value < last), NANOSECONDS)
    return parse_stamp(text, unit)


def format_stamp(stamp_ns: int) -> str:
    """Seconds with nine decimals, exact."""
    whole, rest = divmod(abs(int(stamp_ns)), NANOSECONDS)
    return f"{'-' if stamp_ns < 0 else ''}{whole}.{rest:09d}"


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise FrameError(f"The stamp {text!r} is not a number of seconds.") from None
    if not value.is_finite():
        raise FrameError(f"The stamp {text!r} is not a finite number of seconds.")
    return value


def span(seconds: float) -> str:
    """A duration in a suitable unit."""
    for unit, length, limit in (("s", 1.0, 120.0), ("min", 60.0, 3000.0), ("h", 3600.0, 172800.0), ("days", 86400.0, 6.3e7)):
        if seconds < limit:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 31557600.0:.1f} years"
