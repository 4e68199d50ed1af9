# SPDX-License-Identifier: Apache-2.0
"""What this process has of the machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


def rss_mb() -> float:
    """Resident memory of this process now, MB (10^6 bytes). Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


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
