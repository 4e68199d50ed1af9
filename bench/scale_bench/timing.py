# SPDX-License-Identifier: Apache-2.0
"""Time per frame in small and large maps: the same frames in maps of several sizes."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from harness import Row, clocks, median, progress, timed
from mapping_bench.cases import Wrapper

from scale_bench.maps import MANY_KEYFRAMES, grow, newest_part, open_stream
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, PairModel

KEYFRAME_STAGES = ("keyframe", "loops", "optimize", "global")
FIRST_FRAMES = 5
"""Of the probe, in which every camera has just been found again; they do not count."""


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
    stream = open_stream(source, "noisy_depth", size=size_px, max_frames=0, fps=15.0)
    frames_of_stream = iter(stream.replay)
    grown = Mapper(stream.model, MANY_KEYFRAMES)
    grow(grown, islice(frames_of_stream, len(stream.replay.recorded)), max(sizes))
    probes = [Probe(stream.model, grown, size) for size in sizes]
    for number, frame in enumerate(islice(frames_of_stream, frames + FIRST_FRAMES)):
        for turn in range(len(probes)):  # in turn, so that whatever else the machine does meets all alike
            probes[(number + turn) % len(probes)].register(frame)
            if number + 1 == FIRST_FRAMES:
                probes[(number + turn) % len(probes)].forget()
        progress(f"probing: frame {number + 1} of {frames + FIRST_FRAMES}")
    progress("")
    return [probe.row() for probe in probes]
