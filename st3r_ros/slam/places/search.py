# SPDX-License-Identifier: Apache-2.0
"""The one search of a map: which keyframes show what a camera sees, by how images look and by where cameras are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch

from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.places.covisibility import CovisibilityIndex, PosedCamera, expected_matches
from st3r_ros.slam.places.retrieval import PlaceIndex, SimilarPlace
from st3r_ros.types import Keyframe, Matches

LOCAL_HOPS = 3
"""Keyframes at most so many edges away are the neighbourhood of one."""
PER_PLACE = 2
"""Maximum number of similar keyframes from one neighbourhood, so that similar places elsewhere are compared as well."""


@dataclass(frozen=True, eq=False)
class Covisible:
    """A keyframe and the share of its known points that a camera sees."""

    keyframe: Keyframe
    overlap: float


class PlaceSearch:
    """Finds keyframes of one map. It keeps a descriptor and a few points of each, which `add`, `update` and `remove` maintain."""

    def __init__(self, keyframe_map: KeyframeMap) -> None:
        self._map = keyframe_map
        self._descriptors = PlaceIndex()
        self._points = CovisibilityIndex()

    def add(self, keyframe: Keyframe) -> None:
        """Takes a keyframe of the map; one without a descriptor is not found by how it looks."""
        self._points.update(keyframe)
        if keyframe.descriptor is not None:
            self._descriptors.add(keyframe.id, keyframe.descriptor)

    def update(self, keyframe: Keyframe) -> None:
        """Takes the changed points of a keyframe."""
        self._points.update(keyframe)

    def remove(self, keyframe_id: int) -> None:
        """Forgets a keyframe, if it is known."""
        self._points.remove(keyframe_id)
        self._descriptors.remove(keyframe_id)

    # By where the camera is -------------------------------------------------------------------------------------------

    def near(self, keyframe_id: int, hops: int = LOCAL_HOPS) -> set[int]:
        """Ids of the neighbourhood of a keyframe in the graph, this one included."""
        return self._map.around(keyframe_id, hops)

    def covisible(
        self, camera: PosedCamera, among: Iterable[int], count: int | None = None, *, at_least: float = 0.0
    ) -> list[Covisible]:
        """The keyframes of some ids of which a camera sees most, at most `count`, those with the largest overlap first.

        at_least: the overlap that counts.
        """
        keyframes = [self._map.keyframes[k] for k in sorted(among)]
        overlap = self._points.overlap(keyframes, camera)
        order = (-overlap).argsort(kind="stable")[:count]
        return [Covisible(keyframes[n], float(overlap[n])) for n in order if overlap[n] >= at_least]

    def matches(self, camera: PosedCamera, keyframe: Keyframe) -> Matches:
        """Where a camera (0) should see the points of a keyframe (1), to begin matching with."""
        return expected_matches(keyframe, camera)

    # By how the image looks -------------------------------------------------------------------------------------------

    def similar(
        self,
        descriptor: torch.Tensor,
        count: int,
        *,
        exclude: Collection[int] = (),
        min_similarity: float = -1.0,
        min_lift: float = -2.0,
    ) -> list[SimilarPlace]:
        """As `PlaceIndex.query`."""
        return self._descriptors.query(descriptor, count, exclude=exclude, min_similarity=min_similarity, min_lift=min_lift)

    def similar_places(self, descriptor: torch.Tensor, count: int) -> tuple[list[Keyframe], list[Keyframe]]:
        """The `count` keyframes most similar to a descriptor (D,), with a limit per neighbourhood; then those left out by it."""
        spread: list[int] = []
        rest: list[int] = []
        taken: dict[int, int] = {}
        for place in self._descriptors.query(descriptor, len(self._map.keyframes)):
            if len(spread) >= count:
                break
            if taken.get(place.id, 0) >= PER_PLACE:
                rest.append(place.id)
                continue
            spread.append(place.id)
            for near in self.near(place.id):
                taken[near] = taken.get(near, 0) + 1
        return [self._map.keyframes[k] for k in spread], [self._map.keyframes[k] for k in rest[: count - len(spread)]]
