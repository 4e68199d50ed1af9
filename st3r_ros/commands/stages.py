# SPDX-License-Identifier: Apache-2.0
"""The stages of a command: their durations and, on a terminal, the running one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console


class Stages:
    """Measures stages one after the other."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}
        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block takes `timings_ms[name]` milliseconds, the work that it gave to a GPU included."""
        start = time.perf_counter()
        with self._console.status(name.capitalize()):
            yield
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
        self.timings_ms[name] = 1000.0 * (time.perf_counter() - start)
