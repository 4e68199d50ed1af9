# SPDX-License-Identifier: Apache-2.0
"""Which keyframes of a map may show what a query shows."""

from __future__ import annotations

from st3r_ros.geometry.se3 import SE3
from st3r_ros.slam.loops import LOCAL_HOPS, within_hops
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Features, Keyframe

PER_PLACE = 2
"""Candidates from one neighbourhood of the map at most, so that a place that looks the same elsewhere is compared too."""
EXPECTED = 3
"""Keyframes that are compared because a guess says that the camera sees what they show."""


def alike(at: Workspace, query: Features, count: int) -> tuple[list[Keyframe], list[Keyframe]]:
    """The keyframes that look most like the query: of no neighbourhood too many, and the next best ones, `count` in all."""
    keyframes = at.map.keyframes
    spread: list[int] = []
    rest: list[int] = []
    taken: dict[int, int] = {}
    for place in at.places.query(at.model.describe(query), len(keyframes)):
        if len(spread) >= count:
            break
        if taken.get(place.id, 0) >= PER_PLACE:
            rest.append(place.id)
            continue
        spread.append(place.id)
        for near in within_hops(at.map, place.id, LOCAL_HOPS):
            taken[near] = taken.get(near, 0) + 1
    return [keyframes[k] for k in spread], [keyframes[k] for k in rest[: count - len(spread)]]


def expected(at: Workspace, query: Features, T_world_cam: SE3) -> list[Keyframe]:
    """The keyframes that show most of what a camera would see from there; none where the map shows nothing of it."""
    every = list(at.map.keyframes.values())
    h, w = query.image.shape[:2]
    overlap = at.index.overlap(every, T_world_cam.sim3(1.0), query.K, w, h)
    return [every[n] for n in overlap.argsort()[::-1][:EXPECTED] if overlap[n] > 0]
