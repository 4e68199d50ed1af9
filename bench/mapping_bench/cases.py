# SPDX-License-Identifier: Apache-2.0
"""The inputs of one run of the benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisy_depth.model import NoisyDepthModel
from noisy_depth.views import DepthFrames, TrueViews
from st3r_ros.config import MapperConfig, SimulationConfig
from st3r_ros.pair import PAIR_MODELS
from st3r_ros.runtime import start_pair_model
from st3r_ros.sequences import SIMULATOR, FrameSequence, open_sequence
from st3r_ros.types import Frame, PairModel

NOISY_DEPTH = "noisy_depth"
MODELS = (*PAIR_MODELS, NOISY_DEPTH)
RECORDED_SIZE, SIMULATED_SIZE = 512, 320
"""Longer side of noisy_depth's working images, pixels."""


@dataclass(frozen=True)
class Case:
    """One run: a source of images as `st3r map` takes it, a pair model and its seed, and the settings.

    calibrated: whether the mapper is told the camera. loops: whether it closes them. max_frames: 0 = all. size: longer side of
    noisy_depth's images, 0 = 512, simulated 320. group: what runs that differ only in their seed have in common.
    """

    source: str
    pair_model: str
    seed: int
    group: str = ""
    checkpoint: str = ""
    calibrated: bool = True
    loops: bool = True
    every: int = 1
    max_frames: int = 0
    size: int = 0

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.source}, {self.pair_model}, seed {self.seed}" + ("" if self.loops else ", loops off")

    @property
    def mapper_config(self) -> MapperConfig:
        """The defaults, but for the loops."""
        return dataclasses.replace(MapperConfig(), loop_closure=self.loops)


@dataclass(frozen=True, eq=False)
class Opened:
    """sequence: the whole source, with its truth. frames: what is mapped of it. views: what noisy_depth sees."""

    sequence: Any
    frames: FrameSequence
    model: PairModel
    views: TrueViews | None = None


def open_case(case: Case) -> Opened:
    """The images and the pair model of a run. Raises St3rError where either cannot be used."""
    if case.pair_model == NOISY_DEPTH:
        return _open_noisy_depth(case)
    frames = open_sequence(case.source, every=case.every, max_frames=case.max_frames or None)
    model = start_pair_model(case.pair_model, case.checkpoint)
    return Opened(frames, frames if case.calibrated else Uncalibrated(frames), model)


def _open_noisy_depth(case: Case) -> Opened:
    simulated = case.source.startswith(SIMULATOR)
    size = case.size or (SIMULATED_SIZE if simulated else RECORDED_SIZE)
    sequence: Any = open_sequence(_rendered_at(case.source, size) if simulated else case.source)
    views = TrueViews(sequence, size)
    frames = DepthFrames(sequence, views, calibrated=case.calibrated, every=case.every, max_frames=case.max_frames)
    twins = getattr(sequence, "twins", None)
    model = NoisyDepthModel(views.of, seed=case.seed, calibrated=case.calibrated, twins=twins)
    return Opened(sequence, frames, model, views)


def _rendered_at(source: str, size: int) -> str:
    """The simulated source with images of this longer side, unless it says how large they are."""
    if "width=" in source or "height=" in source:
        return source
    width, height = SimulationConfig.width, SimulationConfig.height
    scale = size / max(width, height)
    return f"{source}{'&' if '?' in source else '?'}width={round(width * scale)}&height={round(height * scale)}"


class Wrapper:
    """Like what it wraps, but for what a subclass does in another way."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


class Uncalibrated(Wrapper):
    """A sequence whose frames do not tell their camera. Follows `FrameSequence`."""

    camera = None

    def __iter__(self) -> Iterator[Frame]:
        return (dataclasses.replace(frame, camera=None) for frame in self.wrapped)

    def at(self, stamps_ns: Collection[int]) -> dict[int, Frame]:
        """The frames of these stamps."""
        return {stamp: dataclasses.replace(frame, camera=None) for stamp, frame in frames_at(self.wrapped, stamps_ns).items()}


def frames_at(frames: Any, stamps_ns: Collection[int]) -> dict[int, Frame]:
    """The frames of these stamps, read again."""
    if hasattr(frames, "at"):
        return frames.at(stamps_ns)
    if frames.kind == "sim":
        chosen = (frames.frame(int(index)) for index in np.flatnonzero(np.isin(frames.stamps_ns, list(stamps_ns))))
    else:
        chosen = (frame for frame in frames if frame.stamp_ns in stamps_ns)
    return {frame.stamp_ns: frame for frame in chosen}


def expand(sources: list[str], models: list[str], seeds: list[int], loops: list[bool], settings: dict[str, Any]) -> list[Case]:
    """Every source with every model and seed; `{seed}` in a source becomes the seed."""
    return [
        Case(source.replace("{seed}", str(seed)), model, seed, source, loops=closing, **settings)
        for source in sources
        for model in models
        for closing in loops
        for seed in seeds
    ]
