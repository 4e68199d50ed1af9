# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as a request to finish cleanly."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """While entered, the first signal is only noted; a second Ctrl-C interrupts as usual. Main thread only."""

    def __init__(self, stop: Callable[[], None] = lambda: None) -> None:
        """stop: called by the first signal, so that what waits for something ends."""
        self.signal: signal.Signals | None = None
        self._stop = stop
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def name(self) -> str:
        """What a person calls the signal."""
        return "Ctrl-C" if self.signal is signal.SIGINT else "SIGTERM"

    @property
    def exit_code(self) -> int:
        """What the process returns, by the shell's convention; 0 when there was no signal."""
        return 0 if self.signal is None else 128 + self.signal

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._stop()
