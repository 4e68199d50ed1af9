# SPDX-License-Identifier: Apache-2.0
"""Memory and time of this process."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path


def rss_mb() -> float:
    """Resident memory of this process now, MB (10^6 bytes). Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


MALLINFO2 = "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO2]


def heap_mb() -> float:
    """What the heap has handed out now and not got back, of all threads, MB: images, arrays and tensors; NaN where glibc is older
    than 2.33 or another library is used.

    Unlike the resident memory it does not show where freed memory lies and how much of it the system has taken back.
    """
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return float("nan")
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return (found.uordblks + found.hblkhd) / 1e6


@dataclass(frozen=True)
class Clocks:
    """Seconds: by the clock, and of CPU time of this thread, which other work on the machine changes less."""

    wall: float
    cpu: float

    @staticmethod
    def now() -> Clocks:
        """What they show."""
        return Clocks(time.perf_counter(), time.thread_time())

    def ms_since(self, start: Clocks) -> Clocks:
        """Milliseconds since then."""
        return Clocks(1e3 * (self.wall - start.wall), 1e3 * (self.cpu - start.cpu))
