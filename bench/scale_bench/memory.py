# SPDX-License-Identifier: Apache-2.0
"""Memory of a large map, in the process and on the device. Each function is meant for its own process."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mapping_bench.cases import Case, open_case

from scale_bench.growth import MANY_KEYFRAMES, grow, storage_bytes
from scale_bench.process import rss_mb
from st3r_ros.config import MapperConfig
from st3r_ros.results import peak_rss_mb
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.memory import map_bytes
from st3r_ros.types import Edge, Matches, PairModel, PairPrediction

WARM_UP_KEYFRAMES = 3
EDGES = 10_000


@dataclass(frozen=True)
class MemoryRow:
    """Of one map. MB are 10^6 bytes.

    rss_mb: of the process, more than before the map. rss_peak_mb: the most on the way. device_mb, device_peak_mb: the same
    of CUDA tensors, 0 without CUDA. map_mb: what `slam.memory.map_bytes` says. pointmaps_mb, images_mb, descriptors_mb, edges_mb:
    parts of it. half: keyframes with a pointmap in half precision. matches: of an edge, the mean.
    """

    keyframes: int
    edges: int
    frames: int
    width: int
    height: int
    device: str
    rss_mb: float
    rss_peak_mb: float
    device_mb: float
    device_peak_mb: float
    map_mb: float
    pointmaps_mb: float
    images_mb: float
    descriptors_mb: float
    edges_mb: float
    half: int
    with_features: int
    matches: float


class OnDevice:
    """Wraps a pair model and moves its predictions to a device, like those of a network."""

    def __init__(self, model: PairModel, device: str) -> None:
        self._model, self._device = model, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, *features: Any, **settings: Any) -> PairPrediction:
        """As the model's."""
        found = self._model.predict(*features, **settings)
        m, to = found.matches, lambda tensor: None if tensor is None else tensor.to(self._device)
        matches = Matches(to(m.pixels0), to(m.pixels1), to(m.weight), m.possible)
        return PairPrediction(matches, found.parallax_deg, to(found.X_0_0), to(found.X_0_1), to(found.conf0), to(found.conf1))


def map_memory(source: str, keyframes: int, size: int, device: str) -> MemoryRow:
    """Maps until there are so many keyframes. size: longer side of the images, pixels. device: where pointmaps are.

    Raises:
        InputError: the sequence is too short.
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
    known = mapper.map
    h, w = next(iter(known.keyframes.values())).conf.shape
    parts = [(k.X, k.conf) for k in known.keyframes.values()]
    return MemoryRow(
        keyframes=len(known.keyframes),
        edges=len(known.edges),
        frames=len(known.frames),
        width=w,
        height=h,
        device=torch.cuda.get_device_name() if cuda else "cpu",
        rss_mb=rss_mb() - before,
        rss_peak_mb=peak_rss_mb() - before,
        device_mb=torch.cuda.memory_allocated() / 1e6 if cuda else 0.0,
        device_peak_mb=torch.cuda.max_memory_allocated() / 1e6 if cuda else 0.0,
        map_mb=map_bytes(known) / 1e6,
        pointmaps_mb=sum(storage_bytes(t) for pair in parts for t in pair) / 1e6,
        images_mb=sum(k.image.nbytes for k in known.keyframes.values()) / 1e6,
        descriptors_mb=sum(storage_bytes(k.descriptor) for k in known.keyframes.values() if k.descriptor is not None) / 1e6,
        edges_mb=sum(storage_bytes(t) for e in known.edges for t in (e.packed_i, e.packed_j, e.packed_weight)) / 1e6,
        half=sum(X.dtype == torch.float16 for X, _ in parts),
        with_features=sum(k.features is not None for k in known.keyframes.values()),
        matches=float(np.mean([len(e) for e in known.edges])),
    )


def edge_bytes(matches: int = MapperConfig.edge_matches) -> float:
    """Of the process, per edge of so many matches, with everything that Python and torch need for it."""
    pixels = torch.rand(matches, 2) * 500
    Edge.pack(0, 1, "sequential", pixels, pixels, torch.ones(matches))
    before = rss_mb()
    edges = [Edge.pack(0, n, "sequential", pixels, pixels, torch.ones(matches)) for n in range(EDGES)]
    return 1e6 * (rss_mb() - before) / len(edges)


def parts_mb(row: MemoryRow) -> dict[str, float]:
    """MB by what takes them, of `map_mb`."""
    named = {"pointmaps": row.pointmaps_mb, "images": row.images_mb, "descriptors": row.descriptors_mb, "edges": row.edges_mb}
    return {**named, "features and frames": max(row.map_mb - sum(named.values()), 0.0)}
