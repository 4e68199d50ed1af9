# SPDX-License-Identifier: Apache-2.0
"""A sequence in memory, played endlessly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from mapping_bench.cases import NOISY_DEPTH, Case, open_case
from mapping_bench.noisy_depth import NoisyDepthModel
from mapping_bench.views import DepthFrames, TrueView, TrueViews

from st3r_ros.errors import InputError
from st3r_ros.types import Frame, PairModel


@dataclass(eq=False)
class Replay:
    """Played forwards and backwards without jumps, with increasing frame numbers and stamps.

    Each time a frame is shown, noisy_depth draws other errors for it, as its stamp is another one.
    """

    recorded: list[Frame]
    fps: float
    views: list[TrueView] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        while True:
            yield self.frame(number)
            number += 1

    def frame(self, number: int) -> Frame:
        """One frame of the stream, counted from 0."""
        return replace(self.recorded[self._place(number)], id=number, stamp_ns=(number + 1) * self._interval_ns)

    def view_of(self, frame: Frame) -> TrueView:
        """What a frame of the stream truly sees, by its stamp."""
        return self.views[self._place(frame.stamp_ns // self._interval_ns - 1)]

    @property
    def _interval_ns(self) -> int:
        return round(1e9 / self.fps)

    def _place(self, number: int) -> int:
        """Where in the recording."""
        last = len(self.recorded) - 1
        return last - abs(last - number % (2 * last))


@dataclass(frozen=True, eq=False)
class Stream:
    """A stream and the pair model that maps it."""

    replay: Replay
    model: PairModel


def open_stream(source: str, pair_model: str, *, size: int, max_frames: int, fps: float, seed: int = 1) -> Stream:
    """Reads or renders a sequence into memory. size: longer side of noisy_depth's images, pixels. max_frames: 0 = all.

    Raises:
        St3rError: the sequence or the pair model cannot be used.
    """
    opened = open_case(Case(source, pair_model, seed, source, max_frames=max_frames, size=size))
    frames: Any = opened.frames
    views: list[TrueView] = []
    if pair_model == NOISY_DEPTH:
        true_views = TrueViews(opened.sequence, size)
        frames = DepthFrames(opened.sequence, true_views, max_frames=max_frames)
        recorded = []
        for frame in frames:
            recorded.append(frame)
            views.append(true_views.of(frame))
    else:
        recorded = list(frames)
    if len(recorded) < 2:
        raise InputError(f"'{source}' has {len(recorded)} frames; a stream needs two at least.")
    replay = Replay(recorded, fps, views)
    model = NoisyDepthModel(replay.view_of, seed=seed) if pair_model == NOISY_DEPTH else opened.model
    return Stream(replay, model)
