# SPDX-License-Identifier: Apache-2.0
"""What every benchmark is built on: its arguments, tables, files and pictures, repetition, and processes of their own.

A row is a dict of figures. Its keys are those of the JSON file; a `Table` says which of them are printed, and how.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import io
import json
import math
import os
import platform
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from st3r_ros.errors import St3rError
from st3r_ros.io.atomic import write_file
from st3r_ros.results import peak_rss_mb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEST = Path(__file__).parents[1] / "test"
sys.path += [str(TEST), str(TEST / "golden")]  # of golden_checks, noisy_depth and procedural_weights

FAILED, INTERRUPTED = 2, 130
Row = dict[str, Any]
Item = TypeVar("Item")


# Arguments ---------------------------------------------------------------------------------------------------------------


def parser(doc: str | None, examples: str = "") -> argparse.ArgumentParser:
    """A command line that shows the docstring of its script, and examples."""
    return argparse.ArgumentParser(description=doc, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_outputs(to: argparse.ArgumentParser, json: str = "also write the rows as JSON", png: str = "") -> None:
    """The options --json and, where there is a help for it, --png."""
    to.add_argument("--json", type=new_file, metavar="FILE", help=json)
    if png:
        to.add_argument("--png", type=new_file, metavar="FILE", help=png)


def add_device(to: argparse.ArgumentParser, help: str = "where it runs") -> None:
    """The option --device, as the pair models have it."""
    to.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help=help)


def new_file(text: str) -> Path:
    """A file in a folder that exists."""
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"The folder of {text} does not exist.")
    return Path(text)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def numbers(text: str) -> list[int]:
    """Whole numbers such as 1,2,3."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of whole numbers such as 1,2,3") from None
    if min(found) < 0:
        raise argparse.ArgumentTypeError(f"a seed is at least 0, and {min(found)} is less")
    return found


def one_of(names: Iterable[str], what: str) -> Callable[[str], list[str]]:
    """A list such as a,b of these names. what: one of them is, such as "pair model"."""
    known = tuple(names)

    def parse(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"there is no {what} '{unknown[0]}'; there are {', '.join(known)}")
        return text.split(",")

    return parse


# The run -----------------------------------------------------------------------------------------------------------------


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """A `main` that says what cannot be used in one sentence and returns the exit status."""

    @functools.wraps(main)
    def run(*arguments: Any) -> int:
        try:
            return main(*arguments) or 0
        except St3rError as error:
            said = f"Error: {error}"
        except BrokenProcessPool:
            said = "A process that measured was killed, perhaps for want of memory."
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            return INTERRUPTED
        print(said, file=sys.stderr)
        return FAILED

    return run


def attempt(title: str, run: Callable[[], Item]) -> Item | None:
    """What a function returns; None where it fails, which is said on stderr, as the other cases are still worth having."""
    try:
        return run()
    except St3rError as error:
        print(f"{title}: {error}", file=sys.stderr)
    except BrokenProcessPool:
        print(f"{title}: the process was killed, perhaps for want of memory.", file=sys.stderr)
    except Exception:  # a defect, and where it is must be seen
        print(f"{title} broke:\n{traceback.format_exc()}", file=sys.stderr)
    return None


def start(main: Callable[..., int], *, one_thread: bool = False) -> None:
    """Ends the script with the status of `main`. one_thread: every tensor is small."""
    if one_thread:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process, so that its memory is its own. BrokenProcessPool when it was killed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def progress(text: str, wanted: bool | None = None) -> None:
    """Replaces the line about the progress on stderr; "" removes it. wanted: by default, where that is a terminal."""
    if sys.stderr.isatty() if wanted is None else wanted:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def shown(items: Sequence[Item], title: str, wanted: bool) -> Iterator[Item]:
    """The items, with a line about the progress."""
    for number, item in enumerate(items):
        progress(f"{title}: {number + 1} of {len(items)}", wanted)
        yield item
    progress("", wanted)


@contextmanager
def spinning(*nodes: Any) -> Iterator[None]:
    """ROS nodes in an executor thread."""
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()


# Tables and files --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Columns of (key of the row, heading, alignment and width such as ">8", format of the values such as ".1%").

    A value that is None or NaN is "-"; a text that is too long keeps its end.
    """

    columns: Sequence[tuple[str, str, str, str]]
    gap: str = " "

    def header(self) -> str:
        """The first line."""
        return self.gap.join(f"{heading:{width}}" for _, heading, width, _ in self.columns)

    def line(self, row: Mapping[str, Any]) -> str:
        """The line of a row."""
        return self.gap.join(_cell(row[key], width, form) for key, _, width, form in self.columns)


def _cell(value: Any, width: str, form: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return f"{'-':{width}}"
    text, room = f"{value:{form}}", int(width[1:])
    return f"{text if len(text) <= room or not isinstance(value, str) else '…' + text[1 - room :]:{width}}"


def write_json(path: Path | None, figures: Any) -> None:
    """Where it was asked for."""
    if path:
        write_file(path, (json.dumps(figures, indent=1, default=str) + "\n").encode())


def new_figure(width: float, height: float) -> Figure:
    """A white one of so many inches. Loaded only for this: its memory is no part of what is measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(path: Path | None, draw: Callable[[], Figure]) -> None:
    """Where it was asked for."""
    if path:
        buffer = io.BytesIO()
        draw().savefig(buffer, format="png")
        write_file(path, buffer.getvalue())


def known(value: float | None) -> float | None:
    """None for what is not a finite number, as JSON has no others."""
    return None if value is None or not math.isfinite(value) else value


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, the first and the last among them."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(len(items), count)).round().astype(int))]


def median(values: Sequence[float] | np.ndarray) -> float:
    """0 without values."""
    return float(np.median(values)) if len(values) else 0.0


def spread(values: Sequence[float] | np.ndarray) -> Row:
    """The median, the quantile of 95 %, the least and the greatest value."""
    quantiles = {"median": 50, "p95": 95, "min": 0, "max": 100}
    return {name: float(np.percentile(values, quantile)) for name, quantile in quantiles.items()}


# Time and memory ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, over `runs` calls; cpu_ms: of this process's CPU time, which a busy machine changes less.

    peak_mib: memory of the device (CUDA) or of the process so far (CPU).
    """

    median_ms: float
    min_ms: float
    runs: int
    peak_mib: float
    cpu_ms: float


def measure(run: Callable[[], object], device: torch.device, runs: int, warm_up: int = 3) -> Timing:
    """Calls a function `warm_up` times and then `runs` times with a clock, each time until the device has done it."""

    def whole() -> None:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(warm_up):
        whole()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = time.process_time()
    times = [timed(whole)[1] for _ in range(runs)]
    cpu_ms = 1e3 * (time.process_time() - before) / runs
    return Timing(statistics.median(times), min(times), runs, peak_mib(device), cpu_ms)


def timed(run: Callable[[], Item]) -> tuple[Item, float]:
    """What a function returns, and the milliseconds it took."""
    start = time.perf_counter()
    result = run()
    return result, 1e3 * (time.perf_counter() - start)


@contextmanager
def clocks(into: list[tuple[float, float]], cpu: Callable[[], float] = time.thread_time) -> Iterator[None]:
    """Appends the milliseconds inside: by the clock, and of CPU time. cpu: tells the seconds of it, of this thread."""
    wall, used = time.perf_counter(), cpu()
    try:
        yield
    finally:
        into.append((1e3 * (time.perf_counter() - wall), 1e3 * (cpu() - used)))


class Laps:
    """A stopwatch. Called with the name of what has just ended, it notes the milliseconds since the last call."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        self.ms[name], self._last = 1e3 * (now - self._last), now


def wait_until(condition: Callable[[], object]) -> None:
    """Asks again and again, however long it takes."""
    while not condition():
        time.sleep(0.02)


def paced(rate: float) -> Iterator[None]:
    """Endless, at a rate in 1/s. A delay is made up for if it is below a second."""
    due = time.monotonic()
    while True:
        due = max(due + 1.0 / rate, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))
        yield


def peak_mib(device: torch.device) -> float:
    """The most memory held: by torch on a CUDA device since the last reset, CUDA graphs' included, else by this process ever."""
    return torch.cuda.max_memory_reserved(device) / 2**20 if device.type == "cuda" else peak_rss_mb() * 1e6 / 2**20


def rss_mb() -> float:
    """Resident memory of this process now, MB (10^6 bytes). Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class _Mallinfo2(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


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


def device_name(device: torch.device | str) -> str:
    """What the figures were measured on."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.get_num_threads()} threads"
