# SPDX-License-Identifier: Apache-2.0
"""The bundle of the newest keyframes, with some of the frames between them, after each new keyframe.

For depths that come from the matches alone. What the older keyframes and the pixels say decides where the newest ones are; the
frames between, which see much from nearby, make the points that these share exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.tracks import matched_pixels
from st3r_ros.slam.optimization.adjustment import Cameras, Round, Solved, Views, solve
from st3r_ros.slam.optimization.following import apply
from st3r_ros.solver.damped import Schedule
from st3r_ros.types import Edge

KEYFRAMES = 8
"""At most so many are adjusted."""
NEWEST, FRAMES_OF_NEWEST = 2, 10
"""So many frames of each of the so many newest keyframes take part: few others have seen their points yet."""
MOST_FRAMES, FRAMES = 12, 4
"""Frames of the other keyframes that take part: in all, and of each at most."""
POINTS = 140
"""Per camera, those seen most often."""
ROUNDS = (
    Round((12.0,), 0.8, Schedule(iterations=3, share=1e-2, most=1e4)),
    Round((3.0,), 0.2, Schedule(iterations=6, share=2e-3, most=1e4)),
)
"""Few steps: a keyframe takes part again and again, and only the newest ones come from afar."""


@dataclass(frozen=True, eq=False)
class LocalBundle:
    """What was read of a map. edges: between the cameras' keyframes."""

    cameras: Cameras
    edges: list[Edge]

    @staticmethod
    def of(keyframe_map: KeyframeMap, newest: Sequence[int]) -> LocalBundle:
        """The last of the keyframes with the ids `newest`, in their order, and fixed those that see the same."""
        newest = newest[-KEYFRAMES:]
        edges = keyframe_map.edges_at(newest)
        held = {other for e in edges for other in (e.i, e.j)} - set(newest)
        others = newest[:-NEWEST]
        each = min(MOST_FRAMES // max(len(others), 1), FRAMES)
        most = dict.fromkeys(others, each) | dict.fromkeys(newest[-NEWEST:], FRAMES_OF_NEWEST)
        keyframes = [keyframe_map.keyframes[k] for k in sorted(held | set(newest))]
        return LocalBundle(Cameras.of(keyframe_map, keyframes, held, lambda k: most.get(k, 0)), edges)

    def adjusted(self, depth_sigma: float) -> AdjustedBundle | None:
        """On any thread: the map is not looked at. None where too little is connected.

        depth_sigma: relative error of a depth of confidence 1.
        """
        matched = matched_pixels(self.cameras.then, self.edges, self.cameras.seen)
        views = Views.of(matched).seen_by(~self.cameras.held).most_seen(POINTS)
        found = solve(self.cameras, views, ROUNDS)
        return None if found is None else AdjustedBundle(self.cameras, found, depth_sigma)


@dataclass(frozen=True, eq=False)
class AdjustedBundle:
    """What was found."""

    cameras: Cameras
    found: Solved
    depth_sigma: float

    def apply(self, keyframe_map: KeyframeMap) -> list[int]:
        """Moves keyframes, frames and points of the map; ids of the keyframes that moved."""
        return apply(keyframe_map, self.cameras, self.found, self.depth_sigma)
