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
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import harness
import numpy as np
import torch
from harness import Row, Table
from mapping_bench.cases import NOISY_DEPTH
from scale_bench.maps import Stream, open_stream

from st3r_ros.config import MapperConfig
from st3r_ros.slam.keyframes.memory import map_bytes
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import MappingState

SAMPLE_S = 5.0
"""Of the stream, between two samples."""
COMPARED_SHARE = 0.1
"""Of the run: its beginning after the warm-up, and its end, of which the times are compared."""
MIN_MINUTES = 5.0
RSS_ALLOWANCE = 4.0
"""Resident memory goes up and down with where freed memory lies: its slope is known that much worse."""
GREW = 1
COLUMNS = (("minutes", "minute", ">6", ".1f"), ("rss_mb", "RSS MB", ">10", ".1f"), ("heap_mb", "heap MB", ">10", ".1f"))
COLUMNS += (("map_mb", "map MB", ">10", ".1f"), ("keyframes", "keyframes", ">11", ""), ("edges", "edges", ">8", ""))
COLUMNS += (("dropped", "dropped", ">9", ""), ("lost", "lost", ">7", ""), ("wall_s", "wall s", ">9", ".0f"))
TABLE = Table(COLUMNS, gap="")
REPORT = """\
{frames} frames, {minutes:g} minutes of the stream, in {wall_s:.0f} s: {made} keyframes made, {dropped} dropped, {keyframes} in \
the map with {edges} edges; {lost} frames lost.
Heap in use {heap_warm_mb:.1f} MB after the warm-up, {heap_end_mb:.1f} MB at the end: {heap_slope_mb_per_minute:+.3f} MB per \
minute (limit {limit:g}); {objects_warm} and {objects_end} blocks of Python.
Resident memory {rss_warm_mb:.1f} MB after the warm-up, {rss_end_mb:.1f} MB at the end, {rss_max_mb:.1f} MB at most: \
{rss_slope_mb_per_minute:+.3f} MB per minute (limit {rss_limit:g}).
A tracked frame took {ms_track[0]:.1f} ms ({ms_track_cpu[0]:.1f}) after the warm-up, {ms_track[1]:.1f} ms \
({ms_track_cpu[1]:.1f}) at the end.
A new keyframe took {ms_keyframe[0]:.1f} ms ({ms_keyframe_cpu[0]:.1f}) after the warm-up, {ms_keyframe[1]:.1f} ms \
({ms_keyframe_cpu[1]:.1f}) at the end."""
EXAMPLES = """examples:
  python bench/soak.py                                       half an hour of stamps, some ten minutes on a free core
  python bench/soak.py --minutes 3 --max-keyframes 60 --frames 200 --max-slope 5
  python bench/soak.py --pair-model opencv --source kitchen --minutes 10 --json soak.json --png soak.png"""


@dataclass(eq=False)
class Log:
    """What happened.

    samples: see `_sample`. tracked, keyframes: minutes of the stream, and milliseconds by the clock and of CPU time, (3,) of each
    frame that was tracked and became no keyframe, and of each new keyframe.
    """

    samples: list[Row] = field(default_factory=list)
    tracked: list[tuple[float, ...]] = field(default_factory=list)
    keyframes: list[tuple[float, ...]] = field(default_factory=list)
    frames: int = 0
    lost: int = 0
    wall_s: float = 0.0


def soak(stream: Stream, config: MapperConfig, minutes: float) -> Log:
    """Maps so many minutes of the stream, and prints a line for each of them."""
    log, started = Log(), time.perf_counter()
    per_minute = 60.0 * stream.replay.fps
    every = max(1, round(SAMPLE_S * stream.replay.fps))
    shown = -1
    print(TABLE.header())
    with ThreadPoolExecutor(1) as executor:
        mapper = Mapper(stream.model, config, executor)
        for frame in islice(stream.replay, round(minutes * per_minute)):
            at, taken = frame.id / per_minute, []
            with harness.clocks(taken):
                update = mapper.register_frame(frame)
            log.frames += 1
            log.lost += update.state is MappingState.LOST
            if update.T_world_cam is not None:
                (log.tracked if update.new_keyframe is None else log.keyframes).append((at, *taken[0]))
            if log.frames % every == 0:
                log.samples.append(_sample(mapper, at, log.lost))
                if int(at) != shown:
                    shown = int(at)
                    print(TABLE.line({**log.samples[-1], "wall_s": time.perf_counter() - started}), flush=True)
    log.wall_s = time.perf_counter() - started
    return log


def _sample(mapper: Mapper, minutes: float, lost: int) -> Row:
    """minutes: of the stream. rss_mb, heap_mb, map_mb: of the process, its heap, and what the map counts, MB (10^6 bytes).

    objects: blocks that Python has allocated for its objects.
    """
    return {
        "minutes": minutes,
        "rss_mb": harness.rss_mb(),
        "heap_mb": harness.heap_mb(),
        "objects": sys.getallocatedblocks(),
        "map_mb": map_bytes(mapper.map) / 1e6,
        "keyframes": len(mapper.map.keyframes),
        "edges": len(mapper.map.edges),
        "dropped": mapper.map.keyframes_dropped,
        "lost": lost,
    }


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Median of the slopes (y over x) between all pairs of samples (N,), whatever single ones do; NaN below two."""
    i, j = np.triu_indices(len(x), 1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i]))) if len(i) else float("nan")


def _slope_of_minima(samples: list[Row], name: str) -> float:
    """MB per minute, of the least value of each minute (of each sample, where there are few minutes)."""
    minutes, values = np.array([s["minutes"] for s in samples]), np.array([s[name] for s in samples])
    spans = minutes.astype(int) if np.ptp(minutes) > MIN_MINUTES else np.arange(len(minutes))
    least = [np.flatnonzero(spans == span)[np.argmin(values[spans == span])] for span in np.unique(spans)]
    return slope(minutes[least], values[least])


def summarize(log: Log, minutes: float, warm_up: float) -> Row:
    """The figures. slope: MB per minute of the stream after the warm-up, minutes that do not count.

    rss_warm, rss_end: medians over a tenth of the samples after the warm-up, and the same of the heap and of Python's objects.
    ms_track, ms_keyframe: by the clock and (_cpu) of CPU time, medians at either end.
    """
    warm = [s for s in log.samples if s["minutes"] >= warm_up]
    last, tenth, part = log.samples[-1], max(1, len(warm) // 10), COMPARED_SHARE * minutes
    spans = (warm_up, warm_up + part), (minutes - part, minutes)

    def at_the_ends(name: str, unit: str = "") -> Row:
        ends = {"warm": warm[:tenth], "end": warm[-tenth:]}
        return {f"{name}_{end}{unit}": harness.median([s[name + unit] for s in samples]) for end, samples in ends.items()}

    times = {
        f"ms_{name}{suffix}": [harness.median([taken[clock] for taken in kind if low <= taken[0] < high]) for low, high in spans]
        for name, kind in (("track", log.tracked), ("keyframe", log.keyframes))
        for clock, suffix in ((1, ""), (2, "_cpu"))
    }
    return {
        "minutes": minutes,
        "frames": log.frames,
        "wall_s": log.wall_s,
        **{f"{name}_slope_mb_per_minute": _slope_of_minima(warm, f"{name}_mb") for name in ("rss", "heap")},
        **at_the_ends("heap", "_mb"),
        **{end: int(objects) for end, objects in at_the_ends("objects").items()},
        **at_the_ends("rss", "_mb"),
        "rss_max_mb": max(s["rss_mb"] for s in warm),
        **{name: last[name] for name in ("keyframes", "edges", "map_mb")},
        "made": len(log.keyframes),
        "dropped": last["dropped"],
        "lost": log.lost,
        **times,
    }


def draw(log: Log, summary: Row, warm_up: float) -> harness.Figure:
    """Memory over time."""
    figure = harness.new_figure(8.0, 4.2)
    axes = figure.subplots()
    keyframes = axes.twinx()
    minutes, counts = ([s[name] for s in log.samples] for name in ("minutes", "keyframes"))
    lines = []
    for name, label, color in (("rss", "process", "#2563eb"), ("heap", "heap in use", "#9333ea"), ("map", "map", "#16a34a")):
        lines += axes.plot(minutes, [s[f"{name}_mb"] for s in log.samples], color=color, lw=1.5, label=label)
    lines += keyframes.plot(minutes, counts, color="#ea580c", lw=1.0, label="keyframes (right)")
    keyframes.set_ylim(0.0, 2.0 * max(counts))
    axes.axvline(warm_up, color="#94a3b8", lw=1.0, ls="--")
    axes.set_ylim(bottom=0.0)
    axes.set(xlabel="minutes of the stream", ylabel="MB")
    slopes = "heap {heap_slope_mb_per_minute:+.3f}, process {rss_slope_mb_per_minute:+.3f}".format(**summary)
    axes.set_title(f"{slopes} MB per minute after the warm-up", fontsize=10, loc="left")
    axes.legend(handles=lines, loc="lower right", fontsize=8, frameon=False)
    axes.grid(color="#94a3b8", alpha=0.25, lw=0.6)
    return figure


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = harness.parser(__doc__, EXAMPLES)
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
    harness.add_outputs(parser, "also write the figures and all samples", png="also draw the memory over time")
    chosen = parser.parse_args(arguments)
    chosen.warm_up = chosen.warm_up or chosen.minutes / 3.0
    if chosen.fps <= 0 or chosen.minutes <= 0 or chosen.size < 32 or chosen.frames < 0:
        parser.error("--fps and --minutes are above 0, --size is at least 32, --frames at least 0.")
    if chosen.minutes - chosen.warm_up < 3 * SAMPLE_S / 60:
        parser.error(f"After the warm-up of {chosen.warm_up:g} minutes there must be {3 * SAMPLE_S:g} s at least.")
    return chosen


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Maps, prints, writes; returns the exit status: 0, 1 when the memory grew, 2 when the run failed."""
    chosen = options(arguments)
    torch.set_num_threads(1)
    config = MapperConfig(max_keyframes=chosen.max_keyframes, keyframe_match_fraction=chosen.keyframe_match_fraction)
    stream = open_stream(chosen.source, chosen.pair_model, size=chosen.size, max_frames=chosen.frames, fps=chosen.fps)
    print(f"{chosen.source} with {chosen.pair_model}: {len(stream.replay.recorded)} frames there and back again")
    log = soak(stream, config, chosen.minutes)
    summary = summarize(log, chosen.minutes, chosen.warm_up)
    print(REPORT.format(**summary, limit=chosen.max_slope, rss_limit=RSS_ALLOWANCE * chosen.max_slope))
    harness.write_json(chosen.json, {"settings": vars(chosen), **summary, "samples": log.samples})
    harness.write_png(chosen.png, lambda: draw(log, summary, chosen.warm_up))
    flat = not summary["heap_slope_mb_per_minute"] > chosen.max_slope  # a heap that cannot be asked is no failure
    return 0 if flat and summary["rss_slope_mb_per_minute"] <= RSS_ALLOWANCE * chosen.max_slope else GREW


if __name__ == "__main__":
    harness.start(main, one_thread=True)
