# SPDX-License-Identifier: Apache-2.0
"""Maps of a given size, made by the mapper itself from a sequence that may be played endlessly, and the memory they take."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import torch
from harness import Row, progress, rss_mb
from mapping_bench.cases import Case, Opened, Wrapper, open_case

from noisy_depth.model import NoisyDepthModel
from st3r_ros.config import MapperConfig
from st3r_ros.errors import InputError
from st3r_ros.results import peak_rss_mb
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import map_bytes, retire
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Edge, Frame, PairModel, PairPrediction

WARM_UP_KEYFRAMES = 3
EDGES = 10_000
MANY_KEYFRAMES = MapperConfig(keyframe_match_fraction=0.9, max_keyframes=100_000, memory_budget_mb=0)
"""A keyframe every few frames, and none is dropped."""


class Stream:
    """A sequence played forwards and backwards without end, with increasing frame numbers and stamps, and its pair model.

    Each time a frame is shown, noisy_depth draws other errors for it, as its stamp is another one. seed: of these errors.
    """

    def __init__(self, opened: Opened, fps: float, seed: int = 1) -> None:
        seen = [(frame, opened.views.of(frame) if opened.views else None) for frame in opened.frames]
        self.recorded, self._views, self.fps = [frame for frame, _ in seen], [view for _, view in seen], fps
        self._interval_ns = round(1e9 / fps)
        self.model = NoisyDepthModel(self._view_of, seed=seed) if opened.views else opened.model

    def __iter__(self) -> Iterator[Frame]:
        for number in count():
            yield replace(self.recorded[self._place(number)], id=number, stamp_ns=(number + 1) * self._interval_ns)

    def _view_of(self, frame: Frame) -> Any:
        """What a frame truly sees, by its stamp."""
        return self._views[self._place(frame.stamp_ns // self._interval_ns - 1)]

    def _place(self, number: int) -> int:
        """Where in the recording."""
        last = len(self.recorded) - 1
        return last - abs(last - number % (2 * last))


def open_stream(source: str, pair_model: str, *, size: int, fps: float) -> Stream:
    """Reads or renders a sequence into memory. size: longer side of noisy_depth's images, pixels."""
    stream = Stream(open_case(Case(source, pair_model, 1, source, size=size)), fps)
    if len(stream.recorded) < 2:
        raise InputError(f"'{source}' has {len(stream.recorded)} frames; a stream needs two at least.")
    return stream


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


class OnDevice(Wrapper):
    """Wraps a pair model and moves its predictions to a device, like those of a network."""

    def __init__(self, model: PairModel, device: str) -> None:
        super().__init__(model)
        self._device = device

    def predict(self, *features: Any, **settings: Any) -> PairPrediction:
        """As the model's."""
        found = self.wrapped.predict(*features, **settings)
        return replace(found, **{name: value.to(self._device) for name, value in vars(found).items() if hasattr(value, "to")})


def map_memory(source: str, keyframes: int, size: int, device: str) -> Row:
    """Maps until there are so many keyframes. size: longer side of the images, pixels. device: where pointmaps are.

    MB are 10^6 bytes. rss_mb: of the process, more than before the map. rss_peak_mb: the most on the way. device_mb,
    device_peak_mb: the same of CUDA tensors, 0 without CUDA. map_mb: what `map_bytes` says. pointmaps_mb, images_mb,
    descriptors_mb, edges_mb: parts of it. half: keyframes with a pointmap in half precision. matches: of an edge, the mean.
    Raises InputError where the sequence is too short.
    """
    torch.set_num_threads(1)
    opened = open_case(Case(source, "noisy_depth", 1, source, size=size))
    model = OnDevice(opened.model, device)
    grow(Mapper(model, MANY_KEYFRAMES), iter(opened.frames), WARM_UP_KEYFRAMES)  # what libraries take once is not the map's
    gc.collect()
    before = rss_mb()
    cuda = device == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    mapper = Mapper(model, replace(MANY_KEYFRAMES, keyframe_match_fraction=1.0))
    grow(mapper, iter(opened.frames), keyframes)
    gc.collect()
    made, edges = list(mapper.map.keyframes.values()), mapper.map.edges
    height, width = made[0].conf.shape
    return {
        "keyframes": len(made),
        "edges": len(edges),
        "frames": len(mapper.map.frames),
        "width": width,
        "height": height,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "rss_mb": rss_mb() - before,
        "rss_peak_mb": peak_rss_mb() - before,
        "device_mb": torch.cuda.memory_allocated() / 1e6 if cuda else 0.0,
        "device_peak_mb": torch.cuda.max_memory_allocated() / 1e6 if cuda else 0.0,
        "map_mb": map_bytes(mapper.map) / 1e6,
        "pointmaps_mb": _kept_mb(tensor for k in made for tensor in (k.X, k.conf)),
        "images_mb": sum(k.image.nbytes for k in made) / 1e6,
        "descriptors_mb": _kept_mb(k.descriptor for k in made if k.descriptor is not None),
        "edges_mb": _kept_mb(tensor for e in edges for tensor in (e.packed_i, e.packed_j, e.packed_weight)),
        "half": sum(k.X.dtype == torch.float16 for k in made),
        "with_features": sum(k.features is not None for k in made),
        "matches": float(np.mean([len(e) for e in edges])),
    }


def _kept_mb(tensors: Any) -> float:
    """Memory that tensors keep alive, which is more than their own where they are parts of others."""
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors) / 1e6


def edge_bytes(matches: int = MapperConfig.edge_matches) -> float:
    """Of the process, per edge of so many matches, with everything that Python and torch need for it."""
    pixels = torch.rand(matches, 2) * 500
    Edge.pack(0, 1, "sequential", pixels, pixels, torch.ones(matches))
    before = rss_mb()
    edges = [Edge.pack(0, n, "sequential", pixels, pixels, torch.ones(matches)) for n in range(EDGES)]
    return 1e6 * (rss_mb() - before) / len(edges)


def parts_mb(row: Row) -> dict[str, float]:
    """MB by what takes them, of `map_mb`."""
    parts = {name: row[f"{name}_mb"] for name in ("pointmaps", "images", "descriptors", "edges")}
    return {**parts, "features and frames": max(row["map_mb"] - sum(parts.values()), 0.0)}
