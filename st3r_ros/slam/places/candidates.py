# SPDX-License-Identifier: Apache-2.0
"""Selects the keyframes of a map that may show the same place as a query."""

from __future__ import annotations

from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.places.loops import LOCAL_HOPS, within_hops
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Features, Keyframe

PER_PLACE = 2
"""Maximum number of candidates from one neighbourhood, so that similar places elsewhere are compared as well."""
EXPECTED = 3
"""Number of keyframes selected by an approximate pose."""


def alike(at: Workspace, query: Features, count: int) -> tuple[list[Keyframe], list[Keyframe]]:
    """The `count` keyframes most similar to the query, with a limit per neighbourhood."""
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
    """The keyframes with the largest overlap with a camera at this pose; empty without overlap."""
    every = list(at.map.keyframes.values())
    h, w = query.image.shape[:2]
    overlap = at.index.overlap(every, T_world_cam.sim3(1.0), query.K, w, h)
    return [every[n] for n in overlap.argsort()[::-1][:EXPECTED] if overlap[n] > 0]
