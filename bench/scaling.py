# SPDX-License-Identifier: Apache-2.0
"""What a large map costs: milliseconds per frame and memory. The pair model is noisy_depth, the sequence a simulated house.

Time: the mapper makes a map of as many keyframes as the largest size. The smaller ones are its newest keyframes with the edges
among them. The frames that come next are tracked in all of these maps in turn, one frame here and there before the next one, so
that whatever else the machine does meets all alike; each map grows a little by that. A tracked frame is one that made no
keyframe, its time the sum of `MappingUpdate.timings_ms`. The mapper alone is that without the pair model. The ratio is that of
the medians in the largest and in the smallest map.

A new keyframe's time is that of its frame; global is the optimization of the whole map, in the few frames with new loops, which
the node leaves to a thread of its own.

Memory: the mapper makes a map from images of 512x384, with everything it keeps for it. RSS is that of a process of its own, more
than before the map. The status is 1 when a figure is above its limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scale_bench.memory import MemoryRow, edge_bytes, map_memory, parts_mb
from scale_bench.timing import TimingRow, time_sizes

from st3r_ros.errors import St3rError
from st3r_ros.io.atomic import write_file

MAX_RATIO = 1.2
MAX_MAP_MB = 2 * 1024**3 / 1e6
MAX_EDGE_BYTES = 20_000
ABOVE, FAILED = 1, 2
COLORS = "#2563eb", "#94a3b8", "#ea580c", "#16a34a", "#9333ea"
EXAMPLES = """examples:
  python bench/scaling.py                                    both, some ten minutes on a free core
  python bench/scaling.py --part time --sizes 20,60 --probe-frames 60
  python bench/scaling.py --part memory --keyframes 100 --json scaling.json --png scaling.png"""


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs it in a fresh process, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def print_times(rows: list[TimingRow]) -> None:
    """The table of the times, milliseconds."""
    stages = list(dict.fromkeys(stage for row in rows for stage in row.stages))
    print("Milliseconds of a tracked frame, and of a new keyframe with its stages (medians, but for mean and 95 %)")
    titles = ("keyframes", "edges", "tracked", "mean", "95 %", "CPU", "mapper", "frames", "new kf", *stages, "made", "lost")
    print("".join(f"{title:>10}" for title in titles))
    for r in rows:
        track = (r.track, r.track_mean, r.track_p95, r.track_cpu, r.track_mapper)
        made = (r.keyframe, *(r.stages.get(stage, 0.0) for stage in stages))
        cells = [f"{r.keyframes:10d}{r.edges:10d}", *(f"{ms:10.2f}" for ms in track), f"{r.frames:10d}"]
        print("".join([*cells, *(f"{ms:10.1f}" for ms in made), f"{r.new_keyframes:10d}{r.lost:10d}"]))


def ratios(rows: list[TimingRow]) -> dict[str, float]:
    """Of the largest map's times to those of the smallest one."""
    small, large = rows[0], rows[-1]
    names = ("track", "track_mean", "track_cpu", "track_mapper", "keyframe")
    return {name: getattr(large, name) / max(getattr(small, name), 1e-9) for name in names}


def print_ratios(rows: list[TimingRow], found: dict[str, float]) -> None:
    """One sentence."""
    print(
        f"A tracked frame takes {found['track']:.3f} x as long at {rows[-1].keyframes} keyframes as at {rows[0].keyframes} "
        f"(limit {MAX_RATIO}); its mean {found['track_mean']:.3f} x, its CPU time {found['track_cpu']:.3f} x, without the pair "
        f"model {found['track_mapper']:.3f} x; a new keyframe {found['keyframe']:.2f} x."
    )


def print_memory(row: MemoryRow, per_edge: float) -> None:
    """The figures of the memory."""
    print(
        f"{row.keyframes} keyframes of {row.width}x{row.height}, {row.half} of them in half precision, {row.with_features} with "
        f"features; {row.edges} edges of {row.matches:.0f} matches; {row.frames} frames"
    )
    print(f"  resident memory of the process {row.rss_mb:8.0f} MB more than before, at most {row.rss_peak_mb:.0f} MB")
    print(
        f"  memory of the map, as counted  {row.map_mb:8.0f} MB: " + ", ".join(f"{n} {mb:.0f}" for n, mb in parts_mb(row).items())
    )
    if row.device_peak_mb:
        print(f"  memory of {row.device:<20} {row.device_mb:8.0f} MB, at most {row.device_peak_mb:.0f} MB")
    print(f"  limit                          {MAX_MAP_MB:8.0f} MB (2 GiB) for the map in memory, or on the device")
    print(f"  an edge of 1024 matches takes {per_edge:.0f} bytes of the process (limit {MAX_EDGE_BYTES})")


def draw(times: list[TimingRow], memory: MemoryRow | None) -> bytes:
    """Times over sizes, and what takes the memory, as PNG bytes."""
    panels = 2 * bool(times) + (memory is not None)
    figure = Figure(figsize=(3.7 * panels, 3.8), dpi=130, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if times:
        stages = [stage for stage in times[0].stages if stage != "global"]  # which runs beside the tracking in the node
        of_track = {"all": [r.track for r in times], "without the pair model": [r.track_mapper for r in times]}
        of_keyframe = {"all": [r.keyframe for r in times]}
        of_keyframe |= {stage: [r.stages.get(stage, np.nan) for r in times] for stage in stages}
        _draw_times(axes[0], "tracked frame", [r.keyframes for r in times], of_track)
        _draw_times(axes[1], "new keyframe", [r.keyframes for r in times], of_keyframe)
    if memory is not None:
        _draw_memory(axes[-1], memory)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _draw_times(axes: Axes, title: str, sizes: list[int], curves: dict[str, list[float]]) -> None:
    for (label, ms), color in zip(curves.items(), COLORS, strict=False):
        axes.plot(sizes, ms, "o-", color=color, lw=1.5, ms=4, label=label)
    axes.set(title=title, xlabel="keyframes in the map", ylabel="milliseconds")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.15 * np.nanmax(list(curves.values())))
    axes.legend(fontsize=8, frameon=False)
    axes.grid(color="#94a3b8", alpha=0.25, lw=0.6)


def _draw_memory(axes: Axes, memory: MemoryRow) -> None:
    bottom = 0.0
    for (name, mb), color in zip(parts_mb(memory).items(), COLORS, strict=True):
        axes.bar(0, mb, bottom=bottom, color=color, label=f"{name}, {mb:.0f}")
        bottom += mb
    axes.bar(1, memory.rss_mb, color="#cbd5e1")
    axes.set_ylim(0, 1.5 * MAX_MAP_MB)
    axes.axhline(MAX_MAP_MB, color="#dc2626", lw=1.0, ls="--", label="limit")
    axes.set_xticks([0, 1], ["as counted", "process"])
    axes.set(title=f"{memory.keyframes} keyframes of {memory.width}x{memory.height}", ylabel="MB")
    axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("both", "time", "memory"), default="both")
    parser.add_argument("--sizes", type=_sizes, default=[50, 150, 300, 500], metavar="50,500", help="keyframes of the timed maps")
    parser.add_argument("--probe-frames", type=int, default=150, help="timed in each map")
    parser.add_argument("--time-source", default="sim:rooms?seed=1&length=150&frames=2000", metavar="SIM")
    parser.add_argument("--time-size", type=int, default=128, metavar="PX", help="longer side of the timed images")
    parser.add_argument("--keyframes", type=int, default=500, help="of the map whose memory is measured")
    parser.add_argument("--memory-source", default="sim:rooms?seed=1&length=150&frames=1100", metavar="SIM")
    parser.add_argument("--memory-size", type=int, default=512, metavar="PX")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where the pointmaps are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw them")
    chosen = parser.parse_args(arguments)
    if chosen.device == "auto":
        chosen.device = "cuda" if torch.cuda.is_available() else "cpu"
    elif chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no CUDA device.")
    if chosen.probe_frames < 1 or chosen.keyframes < 4:
        parser.error("--probe-frames is at least 1, --keyframes at least 4.")
    return chosen


def _sizes(text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of whole numbers such as 50,500") from None
    if len(sizes) < 2 or sizes[0] < 12:
        raise argparse.ArgumentTypeError(f"'{text}' must be two sizes at least, the smallest 12 or more")
    return sizes


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit status: 0, 1 when a figure is above its limit, 2 when a run failed."""
    chosen = options(arguments)
    torch.set_num_threads(1)
    times: list[TimingRow] = []
    memory: MemoryRow | None = None
    within, figures = True, {}
    try:
        if chosen.part != "memory":
            times = time_sizes(chosen.time_source, chosen.sizes, chosen.time_size, chosen.probe_frames)
            found = ratios(times)
            print_times(times)
            print_ratios(times, found)
            within &= found["track"] <= MAX_RATIO
            figures |= {"times": [dataclasses.asdict(row) for row in times], "ratios": found}
        if chosen.part != "time":
            memory = apart(map_memory, chosen.memory_source, chosen.keyframes, chosen.memory_size, chosen.device)
            per_edge = apart(edge_bytes)
            print_memory(memory, per_edge)
            within &= max(memory.map_mb, memory.rss_mb, memory.device_peak_mb) <= MAX_MAP_MB and per_edge <= MAX_EDGE_BYTES
            figures |= {"memory": dataclasses.asdict(memory), "edge_bytes": per_edge}
        if chosen.json:
            write_file(chosen.json, (json.dumps({**figures, "within_limits": within}, indent=1) + "\n").encode())
        if chosen.png:
            write_file(chosen.png, draw(times, memory))
    except St3rError as error:
        print(error, file=sys.stderr)
        return FAILED
    except BrokenProcessPool:
        print("The process that measured the memory was killed, perhaps for want of memory.", file=sys.stderr)
        return FAILED
    return 0 if within else ABOVE


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # every tensor is small
    sys.exit(main())
