# SPDX-License-Identifier: Apache-2.0
"""Does the memory of the mapper stay the same in a long run?

A sequence is played there and back again, for half an hour of stamps, as fast as the machine maps it; the map may hold fewer
keyframes than the sequence asks for, so that keyframes are made and dropped all the time. The whole map is optimized on a thread
of its own, as in the node. Printed are the resident memory of the process (RSS), the heap in use (what was allocated and not
freed) and their slopes after the warm-up (Theil and Sen: the median of the slopes between all pairs of values). What an
optimization takes for a moment comes and goes, so the slopes are those of the least value of each minute; RSS still goes up and
down by where freed memory lies, by a few per cent, while the heap is exact. What must grow is the log of the frames, 128 bytes
each. Milliseconds are medians by the clock, in brackets of CPU time. The exit status is 1 when the slope of the heap is above the
limit, or that of RSS above four times the limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from mapping_bench.cases import NOISY_DEPTH
from scale_bench.process import Clocks, heap_mb, rss_mb
from scale_bench.replay import Stream, open_stream

from st3r_ros.config import MapperConfig
from st3r_ros.errors import St3rError
from st3r_ros.io.atomic import write_file
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.memory import map_bytes
from st3r_ros.types import MappingState

SAMPLE_S = 5.0
"""Of the stream, between two samples."""
COMPARED_SHARE = 0.1
"""Of the run: its beginning after the warm-up, and its end, of which the times are compared."""
NOTED = "rss_mb", "heap_mb", "objects"
MIN_MINUTES = 5.0
RSS_ALLOWANCE = 4.0
"""Resident memory goes up and down with where freed memory lies: its slope is known that much worse."""
GREW, FAILED = 1, 2
EXAMPLES = """examples:
  python bench/soak.py                                       half an hour of stamps, some ten minutes on a free core
  python bench/soak.py --minutes 3 --max-keyframes 60 --frames 200 --max-slope 5
  python bench/soak.py --pair-model opencv --source kitchen --minutes 10 --json soak.json --png soak.png"""


@dataclass(frozen=True)
class Sample:
    """minutes: of the stream. rss_mb, heap_mb, map_mb: of the process, its heap, and what the map counts, MB (10^6 bytes).

    objects: blocks that Python has allocated for its objects.
    """

    minutes: float
    rss_mb: float
    heap_mb: float
    objects: int
    map_mb: float
    keyframes: int
    edges: int
    dropped: int
    lost: int


@dataclass(eq=False)
class Log:
    """What happened. times: of the frames that were tracked and became no keyframe, and of the new keyframes, by minutes."""

    samples: list[Sample] = field(default_factory=list)
    tracked: list[tuple[float, Clocks]] = field(default_factory=list)
    keyframes: list[tuple[float, Clocks]] = field(default_factory=list)
    frames: int = 0
    lost: int = 0
    wall_s: float = 0.0


@dataclass(frozen=True)
class Summary:
    """The figures. slope: MB per minute of the stream after the warm-up. ms by the clock and of CPU time, at either end.

    rss_warm, rss_end: medians over a tenth of the samples after the warm-up, and the same of the heap and of Python's objects.
    """

    minutes: float
    frames: int
    wall_s: float
    rss_slope_mb_per_minute: float
    heap_slope_mb_per_minute: float
    heap_warm_mb: float
    heap_end_mb: float
    objects_warm: int
    objects_end: int
    rss_warm_mb: float
    rss_end_mb: float
    rss_max_mb: float
    keyframes: int
    edges: int
    map_mb: float
    made: int
    dropped: int
    lost: int
    ms_track: tuple[float, float]
    ms_track_cpu: tuple[float, float]
    ms_keyframe: tuple[float, float]
    ms_keyframe_cpu: tuple[float, float]


def soak(stream: Stream, config: MapperConfig, minutes: float) -> Log:
    """Maps so many minutes of the stream, and prints a line for each of them."""
    log, started = Log(), time.perf_counter()
    interval_s = 1.0 / stream.replay.fps
    every = max(1, round(SAMPLE_S / interval_s))
    shown = -1
    print(
        f"{'minute':>6}{'RSS MB':>10}{'heap MB':>10}{'map MB':>10}{'keyframes':>11}{'edges':>8}{'dropped':>9}{'lost':>7}"
        f"{'wall s':>9}"
    )
    with ThreadPoolExecutor(1) as executor:
        mapper = Mapper(stream.model, config, executor)
        for frame in islice(stream.replay, round(60.0 * minutes / interval_s)):
            at = frame.id * interval_s / 60.0
            before = Clocks.now()
            update = mapper.register_frame(frame)
            taken = Clocks.now().ms_since(before)
            log.frames += 1
            log.lost += update.state is MappingState.LOST
            if update.new_keyframe is not None:
                log.keyframes.append((at, taken))
            elif update.T_world_cam is not None:
                log.tracked.append((at, taken))
            if log.frames % every == 0:
                log.samples.append(_sample(mapper, at, log.lost))
                if int(at) != shown:
                    shown = int(at)
                    _print(log.samples[-1], time.perf_counter() - started)
    log.wall_s = time.perf_counter() - started
    return log


def _sample(mapper: Mapper, minutes: float, lost: int) -> Sample:
    known = mapper.map
    return Sample(
        minutes,
        rss_mb(),
        heap_mb(),
        sys.getallocatedblocks(),
        map_bytes(known) / 1e6,
        len(known.keyframes),
        len(known.edges),
        mapper.map.keyframes_dropped,
        lost,
    )


def _print(s: Sample, wall_s: float) -> None:
    print(
        f"{s.minutes:6.1f}{s.rss_mb:10.1f}{s.heap_mb:10.1f}{s.map_mb:10.1f}{s.keyframes:11d}{s.edges:8d}{s.dropped:9d}{s.lost:7d}"
        f"{wall_s:9.0f}",
        flush=True,
    )


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Median of the slopes (y over x) between all pairs of samples (N,), whatever single ones do; NaN below two."""
    i, j = np.triu_indices(len(x), 1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i]))) if len(i) else float("nan")


def _slope_of_minima(samples: list[Sample], name: str) -> float:
    """MB per minute, of the least value of each minute (of each sample, where there are few minutes)."""
    minutes, values = np.array([s.minutes for s in samples]), np.array([getattr(s, name) for s in samples])
    spans = minutes.astype(int) if np.ptp(minutes) > MIN_MINUTES else np.arange(len(minutes))
    least = [np.flatnonzero(spans == span)[np.argmin(values[spans == span])] for span in np.unique(spans)]
    return slope(minutes[least], values[least])


def summarize(log: Log, minutes: float, warm_up: float) -> Summary:
    """warm_up: minutes that do not count for the slope."""
    warm = [s for s in log.samples if s.minutes >= warm_up]
    tenth = max(1, len(warm) // 10)
    before, after = ([np.median([getattr(s, n) for s in part]) for n in NOTED] for part in (warm[:tenth], warm[-tenth:]))
    last, part = log.samples[-1], COMPARED_SHARE * minutes
    ends = (warm_up, warm_up + part), (minutes - part, minutes)
    return Summary(
        minutes=minutes,
        frames=log.frames,
        wall_s=log.wall_s,
        rss_slope_mb_per_minute=_slope_of_minima(warm, "rss_mb"),
        heap_slope_mb_per_minute=_slope_of_minima(warm, "heap_mb"),
        heap_warm_mb=float(before[1]),
        heap_end_mb=float(after[1]),
        objects_warm=int(before[2]),
        objects_end=int(after[2]),
        rss_warm_mb=float(before[0]),
        rss_end_mb=float(after[0]),
        rss_max_mb=max(s.rss_mb for s in warm),
        keyframes=last.keyframes,
        edges=last.edges,
        map_mb=last.map_mb,
        made=len(log.keyframes),
        dropped=last.dropped,
        lost=log.lost,
        ms_track=_both_ends(log.tracked, ends, "wall"),
        ms_track_cpu=_both_ends(log.tracked, ends, "cpu"),
        ms_keyframe=_both_ends(log.keyframes, ends, "wall"),
        ms_keyframe_cpu=_both_ends(log.keyframes, ends, "cpu"),
    )


def _both_ends(
    times: list[tuple[float, Clocks]], ends: tuple[tuple[float, float], tuple[float, float]], clock: str
) -> tuple[float, float]:
    """Median milliseconds in either span of minutes; 0 where there are none."""
    chosen = [[getattr(ms, clock) for at, ms in times if low <= at < high] for low, high in ends]
    return (float(np.median(chosen[0] or [0.0])), float(np.median(chosen[1] or [0.0])))


def draw(log: Log, summary: Summary, warm_up: float) -> bytes:
    """Memory over time as PNG bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.2), dpi=130, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    minutes = [s.minutes for s in log.samples]
    axes.plot(minutes, [s.rss_mb for s in log.samples], color="#2563eb", lw=1.5, label="process")
    axes.plot(minutes, [s.heap_mb for s in log.samples], color="#9333ea", lw=1.5, label="heap in use")
    axes.plot(minutes, [s.map_mb for s in log.samples], color="#16a34a", lw=1.5, label="map")
    axes.axvline(warm_up, color="#94a3b8", lw=1.0, ls="--")
    axes.set_ylim(bottom=0.0)
    axes.set(xlabel="minutes of the stream", ylabel="MB")
    title = f"heap {summary.heap_slope_mb_per_minute:+.3f}, process {summary.rss_slope_mb_per_minute:+.3f} MB per minute"
    axes.set_title(f"{title} after the warm-up", fontsize=10, loc="left")
    keyframes = axes.twinx()
    keyframes.plot(minutes, [s.keyframes for s in log.samples], color="#ea580c", lw=1.0, label="keyframes (right)")
    keyframes.set_ylim(0.0, 2.0 * max(s.keyframes for s in log.samples))
    lines = [*axes.get_lines()[:3], *keyframes.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="lower right", fontsize=8, frameon=False)
    axes.grid(color="#94a3b8", alpha=0.25, lw=0.6)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def report(summary: Summary, limit: float) -> None:
    """Print the figures."""
    s = summary
    print(
        f"{s.frames} frames, {s.minutes:g} minutes of the stream, in {s.wall_s:.0f} s: {s.made} keyframes made, {s.dropped} "
        f"dropped, {s.keyframes} in the map with {s.edges} edges; {s.lost} frames lost."
    )
    print(
        f"Heap in use {s.heap_warm_mb:.1f} MB after the warm-up, {s.heap_end_mb:.1f} MB at the end: "
        f"{s.heap_slope_mb_per_minute:+.3f} MB per minute (limit {limit:g}); "
        f"{s.objects_warm} and {s.objects_end} blocks of Python."
    )
    print(
        f"Resident memory {s.rss_warm_mb:.1f} MB after the warm-up, {s.rss_end_mb:.1f} MB at the end, {s.rss_max_mb:.1f} MB at "
        f"most: {s.rss_slope_mb_per_minute:+.3f} MB per minute (limit {RSS_ALLOWANCE * limit:g})."
    )
    for name, wall, cpu in (
        ("tracked frame", s.ms_track, s.ms_track_cpu),
        ("new keyframe", s.ms_keyframe, s.ms_keyframe_cpu),
    ):
        print(f"A {name} took {wall[0]:.1f} ms ({cpu[0]:.1f}) after the warm-up, {wall[1]:.1f} ms ({cpu[1]:.1f}) at the end.")


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="sim:rooms?seed=1&frames=600", metavar="SEQ", help="what is mapped, as in st3r map")
    parser.add_argument("--pair-model", choices=("opencv", NOISY_DEPTH), default=NOISY_DEPTH)
    parser.add_argument("--minutes", type=float, default=30.0, help="of the stream")
    parser.add_argument("--fps", type=float, default=5.0, help="of the stream: here a camera carried at 0.8 m/s")
    parser.add_argument("--frames", type=int, default=0, help="take only so many of the source, 0 = all")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="longer side of noisy_depth's images")
    parser.add_argument("--max-keyframes", type=int, default=200)
    parser.add_argument("--keyframe-match-fraction", type=float, default=0.8, help="higher makes more keyframes")
    parser.add_argument("--warm-up", type=float, default=0.0, metavar="MINUTES", help="not counted; 0 is a third of the run")
    parser.add_argument("--max-slope", type=float, default=0.25, metavar="MB", help="per minute, above which the run fails")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures and all samples")
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw the memory over time")
    chosen = parser.parse_args(arguments)
    chosen.warm_up = chosen.warm_up or chosen.minutes / 3.0
    if chosen.fps <= 0 or chosen.minutes <= 0 or chosen.size < 32 or chosen.frames < 0:
        parser.error("--fps and --minutes are above 0, --size is at least 32, --frames at least 0.")
    if chosen.minutes - chosen.warm_up < 3 * SAMPLE_S / 60:
        parser.error(f"After the warm-up of {chosen.warm_up:g} minutes there must be {3 * SAMPLE_S:g} s at least.")
    return chosen


def main(arguments: list[str] | None = None) -> int:
    """Maps, prints, writes; returns the exit status: 0, 1 when the memory grew, 2 when the run failed."""
    chosen = options(arguments)
    torch.set_num_threads(1)
    try:
        config = MapperConfig(max_keyframes=chosen.max_keyframes, keyframe_match_fraction=chosen.keyframe_match_fraction)
        stream = open_stream(chosen.source, chosen.pair_model, size=chosen.size, max_frames=chosen.frames, fps=chosen.fps)
        print(f"{chosen.source} with {chosen.pair_model}: {len(stream.replay.recorded)} frames there and back again")
        log = soak(stream, config, chosen.minutes)
        summary = summarize(log, chosen.minutes, chosen.warm_up)
        report(summary, chosen.max_slope)
        if chosen.json:
            settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(chosen).items()}
            samples = [dataclasses.asdict(s) for s in log.samples]
            text = json.dumps({"settings": settings, **dataclasses.asdict(summary), "samples": samples}, indent=1)
            write_file(chosen.json, (text + "\n").encode())
        if chosen.png:
            write_file(chosen.png, draw(log, summary, chosen.warm_up))
    except St3rError as error:
        print(error, file=sys.stderr)
        return FAILED
    flat = not summary.heap_slope_mb_per_minute > chosen.max_slope  # a heap that cannot be asked is no failure
    return 0 if flat and summary.rss_slope_mb_per_minute <= RSS_ALLOWANCE * chosen.max_slope else GREW


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # every tensor is small
    sys.exit(main())
