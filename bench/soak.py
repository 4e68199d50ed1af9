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
MIN_MINUTES = 5.0
RSS_ALLOWANCE = 4.0
"""Resident memory goes up and down with where freed memory lies: its slope is known that much worse."""
GREW = 1
COLUMNS = (("minutes", "minute", ">6", ".1f"), ("rss_mb", "RSS MB", ">10", ".1f"), ("heap_mb", "heap MB", ">10", ".1f"))
COLUMNS += (("map_mb", "map MB", ">10", ".1f"), ("keyframes", "keyframes", ">11", ""), ("edges", "edges", ">8", ""))
COLUMNS += (("dropped", "dropped", ">9", ""), ("lost", "lost", ">7", ""), ("wall_s", "wall s", ">9", ".0f"))
TABLE = Table(COLUMNS, gap="")
COMPARED = ("heap_mb", "rss_mb", "objects", "ms_track", "ms_track_cpu", "ms_keyframe", "ms_keyframe_cpu")
REPORT = """\
{frames} frames, {minutes:.1f} minutes of the stream, in {wall_s:.0f} s: {made} keyframes made, {dropped} dropped, {keyframes} \
in the map with {edges} edges; {lost} frames lost.
Heap in use {heap_mb_warm:.1f} MB after the warm-up, {heap_mb_end:.1f} MB at the end: {heap_slope_mb_per_minute:+.3f} MB per \
minute (limit {limit:g}); {objects_warm:.0f} and {objects_end:.0f} blocks of Python.
Resident memory {rss_mb_warm:.1f} MB after the warm-up, {rss_mb_end:.1f} MB at the end, {rss_max_mb:.1f} MB at most: \
{rss_slope_mb_per_minute:+.3f} MB per minute (limit {rss_limit:g}).
A tracked frame took {ms_track_warm:.1f} ms ({ms_track_cpu_warm:.1f}) after the warm-up, {ms_track_end:.1f} ms \
({ms_track_cpu_end:.1f}) at the end.
A new keyframe took {ms_keyframe_warm:.1f} ms ({ms_keyframe_cpu_warm:.1f}) after the warm-up, {ms_keyframe_end:.1f} ms \
({ms_keyframe_cpu_end:.1f}) at the end."""
EXAMPLES = """examples:
  python bench/soak.py                                       half an hour of stamps, some ten minutes on a free core
  python bench/soak.py --minutes 3 --max-keyframes 60 --max-slope 5
  python bench/soak.py --pair-model opencv --source kitchen --minutes 10 --json soak.json"""


def soak(stream: Stream, config: MapperConfig, minutes: float) -> list[Row]:
    """Maps so many minutes of the stream, and prints a line for each of them. Returns the samples.

    minutes: of the stream. frames, lost, made: so far. ms_track, ms_keyframe: of the frames since the last sample that were
    tracked and became no keyframe, and of the new keyframes, medians by the clock; _cpu: of CPU time. The others: see `_sizes`.
    """
    samples: list[Row] = []
    begin, lost, made = time.perf_counter(), 0, 0
    spent: dict[str, list[tuple[float, float]]] = {"track": [], "keyframe": []}
    per_minute, every = 60.0 * stream.fps, max(1, round(SAMPLE_S * stream.fps))
    print(TABLE.header())
    with ThreadPoolExecutor(1) as executor:
        mapper = Mapper(stream.model, config, executor)
        for frame in islice(stream, round(minutes * per_minute)):
            taken: list[tuple[float, float]] = []
            with harness.clocks(taken):
                update = mapper.register_frame(frame)
            lost += update.state is MappingState.LOST
            made += update.new_keyframe is not None
            if update.T_world_cam is not None:
                spent["track" if update.new_keyframe is None else "keyframe"] += taken
            if (frame.id + 1) % every == 0:
                counts = {"minutes": frame.id / per_minute, "frames": frame.id + 1, "lost": lost, "made": made}
                samples.append({**counts, "wall_s": time.perf_counter() - begin, **_sizes(mapper), **_medians(spent)})
                if len(samples) < 2 or int(samples[-1]["minutes"]) > int(samples[-2]["minutes"]):
                    print(TABLE.line(samples[-1]), flush=True)
    return samples


def _sizes(mapper: Mapper) -> Row:
    """rss_mb, heap_mb, map_mb: of the process, its heap, and what the map counts, MB (10^6 bytes).

    objects: blocks that Python has allocated for its objects.
    """
    return {
        "rss_mb": harness.rss_mb(),
        "heap_mb": harness.heap_mb(),
        "objects": sys.getallocatedblocks(),
        "map_mb": map_bytes(mapper.map) / 1e6,
        "keyframes": len(mapper.map.keyframes),
        "edges": len(mapper.map.edges),
        "dropped": mapper.map.keyframes_dropped,
    }


def _medians(spent: dict[str, list[tuple[float, float]]]) -> Row:
    """Of the milliseconds, which are forgotten; None without any."""
    found = {}
    for kind, taken in spent.items():
        found[f"ms_{kind}"], found[f"ms_{kind}_cpu"] = np.median(taken, axis=0).tolist() if taken else (None, None)
        taken.clear()
    return found


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


def summarize(samples: list[Row], warm_up: float) -> Row:
    """The last sample, and what changed after the warm-up, minutes that do not count.

    slope: MB per minute of the stream. ..._warm, ..._end: medians over the first and the last tenth of the samples after the
    warm-up.
    """
    warm = [sample for sample in samples if sample["minutes"] >= warm_up]
    tenth = max(1, len(warm) // 10)
    summary = {**samples[-1], "rss_max_mb": max(sample["rss_mb"] for sample in warm)}
    summary |= {f"{name}_slope_mb_per_minute": _slope_of_minima(warm, f"{name}_mb") for name in ("rss", "heap")}
    for name in COMPARED:
        for end, part in (("warm", warm[:tenth]), ("end", warm[-tenth:])):
            summary[f"{name}_{end}"] = harness.median([s[name] for s in part if harness.known(s[name]) is not None])
    return summary


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = harness.parser(__doc__, EXAMPLES)
    parser.add_argument("--source", default="sim:rooms?seed=1&frames=600", metavar="SEQ", help="what is mapped, as in st3r map")
    parser.add_argument("--pair-model", choices=("opencv", NOISY_DEPTH), default=NOISY_DEPTH)
    parser.add_argument("--minutes", type=float, default=30.0, help="of the stream")
    parser.add_argument("--fps", type=float, default=5.0, help="of the stream: here a camera carried at 0.8 m/s")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="longer side of noisy_depth's images")
    parser.add_argument("--max-keyframes", type=int, default=200)
    parser.add_argument("--keyframe-match-fraction", type=float, default=0.8, help="higher makes more keyframes")
    parser.add_argument("--warm-up", type=float, default=0.0, metavar="MINUTES", help="not counted; 0 is a third of the run")
    parser.add_argument("--max-slope", type=float, default=0.25, metavar="MB", help="per minute, above which the run fails")
    harness.add_outputs(parser, "also write the figures and all samples")
    chosen = parser.parse_args(arguments)
    chosen.warm_up = chosen.warm_up or chosen.minutes / 3.0
    if chosen.fps <= 0 or chosen.minutes <= 0 or chosen.size < 32:
        parser.error("--fps and --minutes are above 0, --size is at least 32.")
    if chosen.minutes - chosen.warm_up < 3 * SAMPLE_S / 60:
        parser.error(f"After the warm-up of {chosen.warm_up:g} minutes there must be {3 * SAMPLE_S:g} s at least.")
    return chosen


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Maps, prints, writes; returns the exit status: 0, 1 when the memory grew, 2 when the run failed."""
    chosen = options(arguments)
    torch.set_num_threads(1)
    config = MapperConfig(max_keyframes=chosen.max_keyframes, keyframe_match_fraction=chosen.keyframe_match_fraction)
    stream = open_stream(chosen.source, chosen.pair_model, size=chosen.size, fps=chosen.fps)
    print(f"{chosen.source} with {chosen.pair_model}: {len(stream.recorded)} frames there and back again")
    samples = soak(stream, config, chosen.minutes)
    summary = summarize(samples, chosen.warm_up)
    print(REPORT.format(**summary, limit=chosen.max_slope, rss_limit=RSS_ALLOWANCE * chosen.max_slope))
    harness.write_json(chosen.json, {"settings": vars(chosen), **summary, "samples": samples})
    flat = not summary["heap_slope_mb_per_minute"] > chosen.max_slope  # a heap that cannot be asked is no failure
    return 0 if flat and summary["rss_slope_mb_per_minute"] <= RSS_ALLOWANCE * chosen.max_slope else GREW


if __name__ == "__main__":
    harness.start(main, one_thread=True)
