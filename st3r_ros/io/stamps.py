# SPDX-License-Identifier: Apache-2.0
"""Capture times as integer nanoseconds, to text and back, exactly (a float of seconds since 1970 is only good to 0.2 us)."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from st3r_ros.errors import FrameError

NANOSECONDS = 1_000_000_000

_UNITS = {13: 1_000_000, 16: 1_000, 18: 1, 19: 1}  # nanoseconds in a unit, by the digits of a time between 2001 and 2286
_LIMIT = 9_000_000_000  # seconds that 64-bit nanoseconds can hold


def parse_stamp(seconds: str) -> int:
    """Nanoseconds of a decimal number of seconds; digits beyond the ninth are rounded.

    Raises:
        FrameError: no number, not finite, or outside the range of 64-bit nanoseconds.
    """
    try:
        value = Decimal(seconds)
    except InvalidOperation:
        raise FrameError(f"The stamp {seconds!r} is not a number of seconds.") from None
    if not value.is_finite():
        raise FrameError(f"The stamp {seconds!r} is not a finite number of seconds.")
    if not -_LIMIT <= value <= _LIMIT:
        raise FrameError(f"The stamp {seconds!r} is not a time in seconds; is it in another unit?")
    return int((value * NANOSECONDS).to_integral_value())


def parse_time(text: str) -> int:
    """Nanoseconds of a time as data sets write it: like `parse_stamp`, or a whole number of milli-, micro- or nanoseconds since
    1970, told by its 13, 16 or 18 to 19 digits.

    Raises:
        FrameError: neither.
    """
    digits = len(text) if text.isascii() and text.isdigit() else 0
    return int(text) * _UNITS[digits] if digits in _UNITS else parse_stamp(text)


def format_stamp(stamp_ns: int) -> str:
    """Seconds with nine decimals, exact."""
    whole, rest = divmod(abs(int(stamp_ns)), NANOSECONDS)
    return f"{'-' if stamp_ns < 0 else ''}{whole}.{rest:09d}"
