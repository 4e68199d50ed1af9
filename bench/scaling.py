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

import harness
import numpy as np
import torch
from harness import Row, Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scale_bench.memory import edge_bytes, map_memory, parts_mb
from scale_bench.timing import time_sizes

MAX_RATIO = 1.2
MAX_MAP_MB = 2 * 1024**3 / 1e6
MAX_EDGE_BYTES = 20_000
ABOVE = 1
COLORS = "#2563eb", "#94a3b8", "#ea580c", "#16a34a", "#9333ea"
TRACKED = {"track": "tracked", "track_mean": "mean", "track_p95": "95 %", "track_cpu": "CPU", "track_mapper": "mapper"}
RATIOS = """\
A tracked frame takes {track:.3f} x as long at {largest} keyframes as at {smallest} (limit {limit}); its mean \
{track_mean:.3f} x, its CPU time {track_cpu:.3f} x, without the pair model {track_mapper:.3f} x; a new keyframe \
{keyframe:.2f} x."""
MEMORY = """\
{keyframes} keyframes of {width}x{height}, {half} of them in half precision, {with_features} with features; {edges} edges of \
{matches:.0f} matches; {frames} frames
  resident memory of the process {rss_mb:8.0f} MB more than before, at most {rss_peak_mb:.0f} MB
  memory of the map, as counted  {map_mb:8.0f} MB: {parts}"""
ON_DEVICE = "  memory of {device:<20} {device_mb:8.0f} MB, at most {device_peak_mb:.0f} MB"
EXAMPLES = """examples:
  python bench/scaling.py                                    both, some ten minutes on a free core
  python bench/scaling.py --part time --sizes 20,60 --probe-frames 60
  python bench/scaling.py --part memory --keyframes 100 --json scaling.json --png scaling.png"""


def print_times(rows: list[Row], found: dict[str, float]) -> None:
    """The table of the times, milliseconds, and a sentence about their ratios."""
    stages = {f"ms_{stage}": stage for row in rows for stage in row["stages"]}
    print("Milliseconds of a tracked frame, and of a new keyframe with its stages (medians, but for mean and 95 %)")
    columns = [
        *((key, key, "") for key in ("keyframes", "edges")),
        *((key, title, ".2f") for key, title in TRACKED.items()),
        ("frames", "frames", ""),
        ("keyframe", "new kf", ".1f"),
        *((key, stage, ".1f") for key, stage in stages.items()),
        ("new_keyframes", "made", ""),
        ("lost", "lost", ""),
    ]
    table = Table([(key, title, ">10", form) for key, title, form in columns], gap="")
    print(table.header())
    for row in rows:
        print(table.line({**row, **{key: row["stages"].get(stage, 0.0) for key, stage in stages.items()}}))
    print(RATIOS.format(**found, smallest=rows[0]["keyframes"], largest=rows[-1]["keyframes"], limit=MAX_RATIO))


def ratios(rows: list[Row]) -> dict[str, float]:
    """Of the largest map's times to those of the smallest one."""
    names = ("track", "track_mean", "track_cpu", "track_mapper", "keyframe")
    return {name: rows[-1][name] / max(rows[0][name], 1e-9) for name in names}


def print_memory(row: Row, per_edge: float) -> None:
    """The figures of the memory."""
    print(MEMORY.format(**row, parts=", ".join(f"{name} {mb:.0f}" for name, mb in parts_mb(row).items())))
    if row["device_peak_mb"]:
        print(ON_DEVICE.format(**row))
    print(f"  limit                          {MAX_MAP_MB:8.0f} MB (2 GiB) for the map in memory, or on the device")
    print(f"  an edge of 1024 matches takes {per_edge:.0f} bytes of the process (limit {MAX_EDGE_BYTES})")


def draw(times: list[Row], memory: Row | None) -> Figure:
    """Times over sizes, and what takes the memory."""
    panels = 2 * bool(times) + (memory is not None)
    figure = harness.new_figure(3.7 * panels, 3.8)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if times:
        stages = [stage for stage in times[0]["stages"] if stage != "global"]  # which runs beside the tracking in the node
        of_track = {"all": [r["track"] for r in times], "without the pair model": [r["track_mapper"] for r in times]}
        of_stages = {stage: [r["stages"].get(stage, np.nan) for r in times] for stage in stages}
        sizes = [r["keyframes"] for r in times]
        _draw_times(axes[0], "tracked frame", sizes, of_track)
        _draw_times(axes[1], "new keyframe", sizes, {"all": [r["keyframe"] for r in times], **of_stages})
    if memory is not None:
        _draw_memory(axes[-1], memory)
    return figure


def _draw_times(axes: Axes, title: str, sizes: list[int], curves: dict[str, list[float]]) -> None:
    for (label, ms), color in zip(curves.items(), COLORS, strict=False):
        axes.plot(sizes, ms, "o-", color=color, lw=1.5, ms=4, label=label)
    axes.set(title=title, xlabel="keyframes in the map", ylabel="milliseconds")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.15 * np.nanmax(list(curves.values())))
    axes.legend(fontsize=8, frameon=False)
    axes.grid(color="#94a3b8", alpha=0.25, lw=0.6)


def _draw_memory(axes: Axes, memory: Row) -> None:
    bottom = 0.0
    for (name, mb), color in zip(parts_mb(memory).items(), COLORS, strict=True):
        axes.bar(0, mb, bottom=bottom, color=color, label=f"{name}, {mb:.0f}")
        bottom += mb
    axes.bar(1, memory["rss_mb"], color="#cbd5e1")
    axes.set_ylim(0, 1.5 * MAX_MAP_MB)
    axes.axhline(MAX_MAP_MB, color="#dc2626", lw=1.0, ls="--", label="limit")
    axes.set_xticks([0, 1], ["as counted", "process"])
    axes.set(title=f"{memory['keyframes']} keyframes of {memory['width']}x{memory['height']}", ylabel="MB")
    axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = harness.parser(__doc__, EXAMPLES)
    parser.add_argument("--part", choices=("both", "time", "memory"), default="both")
    parser.add_argument("--sizes", type=_sizes, default=[50, 150, 300, 500], metavar="50,500", help="keyframes of the timed maps")
    parser.add_argument("--probe-frames", type=harness.positive, default=150, help="timed in each map")
    parser.add_argument("--time-source", default="sim:rooms?seed=1&length=150&frames=2000", metavar="SIM")
    parser.add_argument("--time-size", type=int, default=128, metavar="PX", help="longer side of the timed images")
    parser.add_argument("--keyframes", type=int, default=500, help="of the map whose memory is measured")
    parser.add_argument("--memory-source", default="sim:rooms?seed=1&length=150&frames=1100", metavar="SIM")
    parser.add_argument("--memory-size", type=int, default=512, metavar="PX")
    harness.add_device(parser, "where the pointmaps are kept")
    harness.add_outputs(parser, "also write the figures", png="also draw them")
    chosen = parser.parse_args(arguments)
    if chosen.keyframes < 4:
        parser.error("--keyframes is at least 4.")
    return chosen


def _sizes(text: str) -> list[int]:
    sizes = sorted(set(harness.numbers(text)))
    if len(sizes) < 2 or sizes[0] < 12:
        raise argparse.ArgumentTypeError(f"'{text}' must be two sizes at least, the smallest 12 or more")
    return sizes


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit status: 0, 1 when a figure is above its limit, 2 when a run failed."""
    chosen = options(arguments)
    torch.set_num_threads(1)
    times: list[Row] = []
    memory: Row | None = None
    within, figures = True, {}
    if chosen.part != "memory":
        times = time_sizes(chosen.time_source, chosen.sizes, chosen.time_size, chosen.probe_frames)
        found = ratios(times)
        print_times(times, found)
        within &= found["track"] <= MAX_RATIO
        figures |= {"times": times, "ratios": found}
    if chosen.part != "time":
        memory = harness.apart(map_memory, chosen.memory_source, chosen.keyframes, chosen.memory_size, chosen.device)
        per_edge = harness.apart(edge_bytes)
        print_memory(memory, per_edge)
        most = max(memory[key] for key in ("map_mb", "rss_mb", "device_peak_mb"))
        within &= most <= MAX_MAP_MB and per_edge <= MAX_EDGE_BYTES
        figures |= {"memory": memory, "edge_bytes": per_edge}
    harness.write_json(chosen.json, {**figures, "within_limits": within})
    harness.write_png(chosen.png, lambda: draw(times, memory))
    return 0 if within else ABOVE


if __name__ == "__main__":
    harness.start(main, one_thread=True)
