# SPDX-License-Identifier: Apache-2.0
"""A finished map in which images are looked for: which of its keyframes may show the same."""

from __future__ import annotations

from typing import Any

from st3r_ros.geometry.se3 import SE3
from st3r_ros.slam.covisibility import CovisibilityIndex
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.slam.loops import LOCAL_HOPS, within_hops
from st3r_ros.slam.memory import FeatureStore
from st3r_ros.slam.retrieval import PlaceIndex
from st3r_ros.types import Features, Keyframe, PairModel

PER_PLACE = 2
"""Candidates from one neighbourhood of the map at most, so that a place that looks the same elsewhere is compared too."""


class KnownMap:
    """A map and what finds its keyframes; nothing but their descriptors is changed."""

    def __init__(self, model: PairModel, keyframe_map: KeyframeMap) -> None:
        self.keyframe_map = keyframe_map
        self.store = FeatureStore(model)
        self._model = model
        self._index, self._places = CovisibilityIndex(), PlaceIndex()
        for keyframe in keyframe_map.keyframes.values():
            descriptor: Any = keyframe.descriptor
            if descriptor is None:
                descriptor = keyframe.descriptor = model.describe(self.store.of(keyframe)).float().cpu()
            self._places.add(keyframe.id, descriptor)
            self._index.update(keyframe)

    def candidates(self, query: Features, guess: SE3 | None, count: int) -> list[Keyframe]:
        """The keyframes that look most like the query, of no neighbourhood too many; before them those that the guess sees."""
        keyframes = self.keyframe_map.keyframes
        chosen: list[int] = []
        if guess is not None and keyframes:
            h, w = query.image.shape[:2]
            every = list(keyframes.values())
            overlap = self._index.overlap(every, guess.sim3(1.0), query.K, w, h)
            chosen = [every[n].id for n in overlap.argsort()[::-1][:PER_PLACE] if overlap[n] > 0]
        taken: dict[int, int] = {}
        for place in self._places.query(self._model.describe(query), len(keyframes)):
            if len(chosen) >= count:
                break
            if place.id in chosen or taken.get(place.id, 0) >= PER_PLACE:
                continue
            chosen.append(place.id)
            for near in within_hops(self.keyframe_map, place.id, LOCAL_HOPS):
                taken[near] = taken.get(near, 0) + 1
        return [keyframes[k] for k in chosen]
