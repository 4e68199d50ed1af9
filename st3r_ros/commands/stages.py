# SPDX-License-Identifier: Apache-2.0
"""The stages of a command: their durations and, on a terminal, the running one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


class Stages:
    """Measures stages one after the other. synchronize: waits for the device."""

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.timings_ms: dict[str, float] = {}
        self.synchronize = synchronize
        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, name: str, doing: str) -> Iterator[None]:
        """The block takes `timings_ms[name]` milliseconds. doing: text for the terminal meanwhile."""
        start = time.perf_counter()
        with self._console.status(doing):
            yield
            self.synchronize()
        self.timings_ms[name] = 1000.0 * (time.perf_counter() - start)
