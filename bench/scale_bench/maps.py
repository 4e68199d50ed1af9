# SPDX-License-Identifier: Apache-2.0
"""Maps of a given size, made by the mapper itself from a sequence that is played endlessly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from harness import progress
from mapping_bench.cases import Case, open_case

from noisy_depth.model import NoisyDepthModel
from noisy_depth.views import TrueView
from st3r_ros.config import MapperConfig
from st3r_ros.errors import InputError
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import retire
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, PairModel

MANY_KEYFRAMES = MapperConfig(keyframe_match_fraction=0.9, max_keyframes=100_000, memory_budget_mb=0)
"""A keyframe every few frames, and none is dropped."""


class Replay:
    """Played forwards and backwards without jumps, with increasing frame numbers and stamps.

    Each time a frame is shown, noisy_depth draws other errors for it, as its stamp is another one.
    """

    def __init__(self, recorded: list[Frame], fps: float, views: list[TrueView]) -> None:
        self.recorded, self.fps, self._views = recorded, fps, views
        self._interval_ns = round(1e9 / fps)

    def __iter__(self) -> Iterator[Frame]:
        for number in count():
            yield replace(self.recorded[self._place(number)], id=number, stamp_ns=(number + 1) * self._interval_ns)

    def view_of(self, frame: Frame) -> TrueView:
        """What a frame of the stream truly sees, by its stamp."""
        return self._views[self._place(frame.stamp_ns // self._interval_ns - 1)]

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
    """Reads or renders a sequence into memory. size: longer side of noisy_depth's images, pixels. max_frames: 0 = all."""
    opened = open_case(Case(source, pair_model, seed, source, max_frames=max_frames, size=size))
    recorded, views = [], []
    for frame in opened.frames:
        recorded.append(frame)
        views += [opened.views.of(frame)] if opened.views else []
    if len(recorded) < 2:
        raise InputError(f"'{source}' has {len(recorded)} frames; a stream needs two at least.")
    replay = Replay(recorded, fps, views)
    return Stream(replay, NoisyDepthModel(replay.view_of, seed=seed) if views else opened.model)


def grow(mapper: Mapper, frames: Iterator[Frame], keyframes: int) -> None:
    """Feeds frames until the map has so many keyframes. Raises InputError where the frames end before that."""
    for frame in frames:
        mapper.register_frame(frame)
        progress(f"mapping: frame {frame.id + 1}, {len(mapper.map.keyframes)} keyframes")
        if len(mapper.map.keyframes) >= keyframes:
            progress("")
            return
    gave = f"The sequence gave {len(mapper.map.keyframes)} keyframes, not {keyframes}"
    raise InputError(f"{gave}; take one of more frames or a longer way.")


def newest_part(grown: KeyframeMap, keyframes: int) -> KeyframeMap:
    """A copy of the newest keyframes, the edges among them and their frames, packed as in a saved map."""
    part, chosen = KeyframeMap(), list(grown.keyframes.values())[-keyframes:]
    for keyframe in chosen:
        copied = replace(keyframe, X=keyframe.X.clone(), conf=keyframe.conf.clone(), features=None)
        retire(copied)
        part.add_keyframe(copied)
    for edge in grown.edges:
        if edge.i in part.keyframes and edge.j in part.keyframes:
            part.add_edge(edge)
    for index in range(len(grown.frames)):
        if grown.frames[index].keyframe_id in part.keyframes:
            part.frames.append(grown.frames[index])
    part.scale = grown.scale
    return part
