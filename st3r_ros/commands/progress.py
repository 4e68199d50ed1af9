# SPDX-License-Identifier: Apache-2.0
"""Progress of a run on stderr: a live bar in a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from st3r_ros.types import MappingState

PLAIN_PERIOD_S = 5.0
STATE_COLORS = {
    MappingState.TRACKING: "green",
    MappingState.RELOCALIZED: "green",
    MappingState.INITIALIZING: "yellow",
    MappingState.LOST: "red",
}


class Progressing(Protocol):
    """The numbers of a run so far, like those of `RunRecorder`."""

    @property
    def frames(self) -> int: ...

    @property
    def skipped(self) -> int: ...

    @property
    def recent_fps(self) -> float: ...

    @property
    def state(self) -> MappingState: ...


class Display(Protocol):
    """Shows the progress of a run, as a context manager."""

    def __enter__(self) -> Display: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def show(self, run: Progressing, keyframes: int) -> None:
        """The state after a frame."""
        ...

    def wait(self, what: str) -> None:
        """Nothing has been processed yet; what is waited for."""
        ...

    def say(self, text: str) -> None:
        """Prints a message that stays."""
        ...


def make_display(name: str, length: int | None) -> Display:
    """The display that suits stderr. length: expected number of frames, None if unknown."""
    console = Console(stderr=True, highlight=False)
    return BarDisplay(console, name, length) if console.is_terminal else PlainDisplay(console, name, length)


class BarDisplay:
    """A progress bar with frames per second, keyframes and state."""

    def __init__(self, console: Console, name: str, length: int | None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[counts]}"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._of = _of(length)
        self._task = self._progress.add_task(escape(name), total=length, counts="", state="starting")

    def __enter__(self) -> BarDisplay:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, run: Progressing, keyframes: int) -> None:
        color = STATE_COLORS.get(run.state, "default")
        self._progress.update(
            self._task,
            completed=run.frames + run.skipped,
            counts=f"{run.frames + run.skipped}{self._of} frames  {run.recent_fps:.1f}/s  {keyframes} keyframes",
            state=f"[{color}]{run.state.value}[/{color}]",
        )

    def wait(self, what: str) -> None:
        self._progress.update(self._task, state=escape(f"waiting: {what}"))

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False)


class PlainDisplay:
    """A line every few seconds, for files and pipes."""

    def __init__(self, console: Console, name: str, length: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._name = name
        self._of = _of(length)
        self._clock = clock
        self._next = clock()
        self._waited_for = ""

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def show(self, run: Progressing, keyframes: int) -> None:
        if self._clock() < self._next:
            return
        self._next = self._clock() + PLAIN_PERIOD_S
        self.say(
            f"{self._name}: {run.frames + run.skipped}{self._of} frames, {run.recent_fps:.1f} frames/s, "
            f"{keyframes} keyframes, {run.state.value}"
        )

    def wait(self, what: str) -> None:
        if what != self._waited_for:
            self._waited_for = what
            self.say(f"{self._name}: waiting: {what}")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def _of(length: int | None) -> str:
    return "" if length is None else f"/{length}"
