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
from itertools import islice
from typing import Any

import harness
import numpy as np
import torch
from harness import Row, Table, clocks, median, progress, timed
from mapping_bench.cases import Wrapper
from scale_bench.maps import MANY_KEYFRAMES, edge_bytes, grow, map_memory, newest_part, open_stream, parts_mb

from st3r_ros.pair.mast3r.load import choose_device
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, PairModel

MAX_RATIO = 1.2
MAX_MAP_MB = 2 * 1024**3 / 1e6
MAX_EDGE_BYTES = 20_000
ABOVE = 1
KEYFRAME_STAGES = ("keyframe", "optimize", "global")
FIRST_FRAMES = 5
"""Of the probe, in which every camera has just been found again; they do not count."""
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
  python bench/scaling.py --part memory --keyframes 100 --json scaling.json"""


class TimedModel(Wrapper):
    """Wraps a pair model and measures the time spent in it, to separate the mapper's own time."""

    ms = 0.0

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)

        def run(*arguments: Any, **settings: Any) -> Any:
            result, ms = timed(lambda: found(*arguments, **settings))
            self.ms += ms
            return result

        return run if name in ("encode", "predict", "describe") else found


class Probe:
    """One map, made of the newest keyframes of a map that has grown, and what each frame costs in it."""

    def __init__(self, model: PairModel, grown: Mapper, keyframes: int) -> None:
        part, self.model = newest_part(grown.map, keyframes), TimedModel(model)
        self.size = {"keyframes": len(part.keyframes), "edges": len(part.edges)}
        self.mapper = Mapper(self.model, MANY_KEYFRAMES)
        self.mapper.load(part)
        self.forget()

    def forget(self) -> None:
        """What the frames have cost so far. tracked: milliseconds of all stages, CPU time, the mapper without the pair model."""
        self.tracked: list[tuple[float, float, float]] = []
        self.new: list[dict[str, float]] = []
        self.lost = 0

    def register(self, frame: Frame) -> None:
        """Maps a frame and notes what it cost."""
        model_ms, taken = self.model.ms, []
        with clocks(taken):
            update = self.mapper.register_frame(frame)
        total = sum(update.timings_ms.values())
        if update.new_keyframe is not None:
            self.new.append(update.timings_ms)
        elif update.T_world_cam is not None:
            self.tracked.append((total, taken[0][1], total - (self.model.ms - model_ms)))
        else:
            self.lost += 1

    def row(self) -> Row:
        """The size of the map, and milliseconds of tracked frames (made no keyframe) and of new keyframes.

        track: all stages of `MappingUpdate.timings_ms`, median; track_mean, track_p95: the same. track_cpu: CPU time, median.
        track_mapper: the mapper without the pair model, median. keyframe: all stages of a frame that becomes a keyframe, median;
        stages: medians of the stages that only new keyframes have.
        """
        total, cpu, own = np.array(self.tracked).reshape(-1, 3).T
        found = {stage for timings in self.new for stage in timings}
        return {
            **self.size,
            "frames": len(total),
            "lost": self.lost,
            "track": median(total),
            "track_mean": float(np.mean(total)) if len(total) else 0.0,
            "track_p95": float(np.percentile(total, 95)) if len(total) else 0.0,
            "track_cpu": median(cpu),
            "track_mapper": median(own),
            "new_keyframes": len(self.new),
            "keyframe": median([sum(timings.values()) for timings in self.new]),
            "stages": {s: median([t[s] for t in self.new if s in t]) for s in KEYFRAME_STAGES if s in found},
        }


def time_sizes(source: str, sizes: list[int], size_px: int, frames: int) -> list[Row]:
    """Grows a map to the largest of the sizes, cuts the others from its newest end, and goes on in all of them.

    source: a simulated sequence; InputError where it is too short. size_px: longer side of the images. frames: that are tracked
    in every map.
    """
    stream = open_stream(source, "noisy_depth", size=size_px, fps=15.0)
    frames_of_stream = iter(stream)
    grown = Mapper(stream.model, MANY_KEYFRAMES)
    grow(grown, islice(frames_of_stream, len(stream.recorded)), max(sizes))
    probes = [Probe(stream.model, grown, size) for size in sizes]
    for number, frame in enumerate(islice(frames_of_stream, frames + FIRST_FRAMES)):
        for turn in range(len(probes)):  # in turn, so that whatever else the machine does meets all alike
            probes[(number + turn) % len(probes)].register(frame)
            if number + 1 == FIRST_FRAMES:
                probes[(number + turn) % len(probes)].forget()
        progress(f"probing: frame {number + 1} of {frames + FIRST_FRAMES}")
    progress("")
    return [probe.row() for probe in probes]


def print_times(rows: list[Row], found: dict[str, float]) -> None:
    """The table of the times, milliseconds, and a sentence about their ratios."""
    stages = {f"ms_{stage}": stage for row in rows for stage in row["stages"]}
    print("Milliseconds of a tracked frame, and of a new keyframe with its stages (medians, but for mean and 95 %)")
    columns = [(key, key, "") for key in ("keyframes", "edges")]
    columns += [*((key, title, ".2f") for key, title in TRACKED.items()), ("frames", "frames", ""), ("keyframe", "new kf", ".1f")]
    columns += [*((key, stage, ".1f") for key, stage in stages.items()), ("new_keyframes", "made", ""), ("lost", "lost", "")]
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
    harness.add_outputs(parser, "also write the figures")
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
    within, figures = True, {}
    if chosen.part != "memory":
        times = time_sizes(chosen.time_source, chosen.sizes, chosen.time_size, chosen.probe_frames)
        found = ratios(times)
        print_times(times, found)
        within &= found["track"] <= MAX_RATIO
        figures |= {"times": times, "ratios": found}
    if chosen.part != "time":
        device = choose_device(chosen.device).type
        memory = harness.apart(map_memory, chosen.memory_source, chosen.keyframes, chosen.memory_size, device)
        per_edge = harness.apart(edge_bytes)
        print_memory(memory, per_edge)
        most = max(memory[key] for key in ("map_mb", "rss_mb", "device_peak_mb"))
        within &= most <= MAX_MAP_MB and per_edge <= MAX_EDGE_BYTES
        figures |= {"memory": memory, "edge_bytes": per_edge}
    harness.write_json(chosen.json, {**figures, "within_limits": within})
    return 0 if within else ABOVE


if __name__ == "__main__":
    harness.start(main, one_thread=True)
