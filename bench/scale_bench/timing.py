# SPDX-License-Identifier: Apache-2.0
"""Time per frame in small and large maps: the same frames in maps of several sizes."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from scale_bench.growth import MANY_KEYFRAMES, grow, newest_part
from scale_bench.process import Clocks
from scale_bench.replay import open_stream
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, MappingUpdate, PairModel, PairPrediction

KEYFRAME_STAGES = ("keyframe", "loops", "optimize", "global")
FIRST_FRAMES = 5
"""Of the probe, in which every camera has just been found again; they do not count."""


class TimedModel:
    """Wraps a pair model and measures the time spent in it, to separate the mapper's own time."""

    def __init__(self, model: PairModel) -> None:
        self._model = model
        self.ms = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, frame: Frame) -> Any:
        """As the model's."""
        return self._timed(self._model.encode, frame)

    def predict(self, *features: Any, **settings: Any) -> PairPrediction:
        """As the model's."""
        return self._timed(self._model.predict, *features, **settings)

    def describe(self, features: Any) -> Any:
        """As the model's."""
        return self._timed(self._model.describe, features)

    def _timed(self, function: Any, *arguments: Any, **settings: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **settings)
        finally:
            self.ms += 1e3 * (time.perf_counter() - started)


@dataclass(eq=False)
class Probe:
    """One map, and what each frame cost in it, milliseconds: all stages, CPU time, the mapper without the pair model."""

    keyframes: int
    edges: int
    mapper: Mapper
    model: TimedModel
    tracked: list[tuple[float, float, float]] = field(default_factory=list)
    new: list[dict[str, float]] = field(default_factory=list)
    lost: int = 0

    def register(self, frame: Frame) -> MappingUpdate:
        """Maps a frame and notes what it cost."""
        model_ms, before = self.model.ms, Clocks.now()
        update = self.mapper.register_frame(frame)
        cpu = Clocks.now().ms_since(before).cpu
        total = sum(update.timings_ms.values())
        if update.new_keyframe is not None:
            self.new.append(update.timings_ms)
        elif update.T_world_cam is not None:
            self.tracked.append((total, cpu, total - (self.model.ms - model_ms)))
        else:
            self.lost += 1
        return update


@dataclass(frozen=True)
class TimingRow:
    """Of one map: its size, and milliseconds of tracked frames (made no keyframe) and of new keyframes.

    track: all stages of `MappingUpdate.timings_ms`, median; track_mean, track_p95: the same. track_cpu: CPU time, median.
    track_mapper: the mapper without the pair model, median. keyframe: all stages of a frame that becomes a keyframe, median;
    stages: medians of the stages that only new keyframes have.
    """

    keyframes: int
    edges: int
    frames: int
    lost: int
    track: float
    track_mean: float
    track_p95: float
    track_cpu: float
    track_mapper: float
    new_keyframes: int
    keyframe: float
    stages: dict[str, float]


def time_sizes(source: str, sizes: list[int], size_px: int, frames: int) -> list[TimingRow]:
    """Grows a map to the largest of the sizes, cuts the others from its newest end, and goes on in all of them.

    source: a simulated sequence. size_px: longer side of the images. frames: that are tracked in every map.

    Raises:
        InputError: the sequence is too short.
    """
    stream = open_stream(source, "noisy_depth", size=size_px, max_frames=0, fps=15.0)
    frames_of_stream = iter(stream.replay)
    grown = Mapper(stream.model, MANY_KEYFRAMES)
    grow(grown, islice(frames_of_stream, len(stream.replay.recorded)), max(sizes))
    probes = [_probe(stream.model, grown, size) for size in sizes]
    for number, frame in enumerate(islice(frames_of_stream, frames + FIRST_FRAMES)):
        for turn in range(len(probes)):  # in turn, so that whatever else the machine does meets all alike
            probes[(number + turn) % len(probes)].register(frame)
        if number + 1 == FIRST_FRAMES:
            for probe in probes:
                probe.tracked, probe.new, probe.lost = [], [], 0
        if sys.stderr.isatty():
            print(f"\r\033[Kprobing: frame {number + 1} of {frames + FIRST_FRAMES}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return [_row(probe) for probe in probes]


def _probe(model: PairModel, grown: Mapper, size: int) -> Probe:
    part, timed = newest_part(grown.map, size), TimedModel(model)
    mapper = Mapper(timed, MANY_KEYFRAMES)
    mapper.load(part)
    return Probe(len(part.keyframes), len(part.edges), mapper, timed)


def _row(probe: Probe) -> TimingRow:
    total, cpu, own = np.array(probe.tracked).reshape(-1, 3).T
    stages: dict[str, list[float]] = defaultdict(list)
    for timings in probe.new:
        for stage in KEYFRAME_STAGES:
            if stage in timings:
                stages[stage].append(timings[stage])
    return TimingRow(
        keyframes=probe.keyframes,
        edges=probe.edges,
        frames=len(total),
        lost=probe.lost,
        track=_median(total),
        track_mean=float(np.mean(total)) if len(total) else 0.0,
        track_p95=float(np.percentile(total, 95)) if len(total) else 0.0,
        track_cpu=_median(cpu),
        track_mapper=_median(own),
        new_keyframes=len(probe.new),
        keyframe=_median([sum(timings.values()) for timings in probe.new]),
        stages={stage: _median(times) for stage, times in stages.items()},
    )


def _median(values: Any) -> float:
    return float(np.median(values)) if len(values) else 0.0
