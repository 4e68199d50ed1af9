# SPDX-License-Identifier: Apache-2.0
"""Memory of a large map, in the process and on the device. Each function is meant for its own process."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from harness import Row, rss_mb
from mapping_bench.cases import Case, Wrapper, open_case

from scale_bench.maps import MANY_KEYFRAMES, grow
from st3r_ros.config import MapperConfig
from st3r_ros.results import peak_rss_mb
from st3r_ros.slam.keyframes.memory import map_bytes
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Edge, Matches, PairModel, PairPrediction

WARM_UP_KEYFRAMES = 3
EDGES = 10_000


class OnDevice(Wrapper):
    """Wraps a pair model and moves its predictions to a device, like those of a network."""

    def __init__(self, model: PairModel, device: str) -> None:
        super().__init__(model)
        self._device = device

    def predict(self, *features: Any, **settings: Any) -> PairPrediction:
        """As the model's."""
        found = self.wrapped.predict(*features, **settings)
        m, to = found.matches, lambda tensor: None if tensor is None else tensor.to(self._device)
        matches = Matches(to(m.pixels0), to(m.pixels1), to(m.weight), m.possible)
        return PairPrediction(matches, found.parallax_deg, to(found.X_0_0), to(found.X_0_1), to(found.conf0), to(found.conf1))


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
