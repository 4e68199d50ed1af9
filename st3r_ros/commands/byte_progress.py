# SPDX-License-Identifier: Apache-2.0
"""Progress through a large file on stderr: a live bar in a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from st3r_ros.commands.progress import PLAIN_PERIOD_S

# Bytes done, and the total if known.
Report = Callable[[int, int | None], None]


@contextmanager
def byte_progress(name: str) -> Iterator[Report]:
    """A progress callback that suits stderr."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield plain_report(name, lambda text: console.print(text, markup=False, soft_wrap=True))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(escape(name), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def plain_report(name: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Report:
    """Prints a line every few seconds."""
    following = clock() + PLAIN_PERIOD_S

    def report(done: int, total: int | None) -> None:
        nonlocal following
        if clock() >= following:
            following = clock() + PLAIN_PERIOD_S
            say(f"{name}: {megabytes(done)}{f' of {megabytes(total)}, {done / total:.0%}' if total else ''}")

    return report


def megabytes(size: int) -> str:
    """A size in MB (10^6 bytes), or GB from 1000 MB on."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
