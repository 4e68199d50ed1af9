# SPDX-License-Identifier: Apache-2.0
"""The window of the newest keyframes, for models that see depth in one image.

They know it apart from the matches, and their pointmaps hold the map straight where the matches leave it loose (a wall seen on
the way along it). From frame to frame the same, predicted depths would drift with the matches, and stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.optimization.later import poses_now
from st3r_ros.slam.optimization.window import optimize_window
from st3r_ros.types import Edge, Keyframe


@dataclass(frozen=True, eq=False)
class LocalWindow:
    """What was read of a map. keyframes: copies, with the poses they had. fixed: ids."""

    keyframes: list[Keyframe]
    edges: list[Edge]
    fixed: set[int]

    @staticmethod
    def of(keyframe_map: KeyframeMap, newest: Sequence[int]) -> LocalWindow:
        """The keyframes with the ids `newest`, and fixed those that see the same; without such, the oldest one is fixed."""
        edges = keyframe_map.edges_at(newest)
        seen_again = {other for e in edges for other in (e.i, e.j)} - set(newest)
        keyframes = [replace(keyframe_map.keyframes[k]) for k in sorted(seen_again | set(newest))]
        return LocalWindow(keyframes, edges, seen_again or {newest[0]})

    def adjusted(self, depth_sigma: float) -> AdjustedWindow | None:
        """On any thread: the map is not looked at. None without any match. depth_sigma: as for `optimize_window`."""
        result = optimize_window(self.keyframes, self.edges, self.fixed, depth_sigma) if len(self.keyframes) > 1 else None
        if result is None:
            return None
        solved = {k: T for k, T in result.poses.items() if k not in self.fixed}
        return AdjustedWindow({k.id: k.T_world_cam for k in self.keyframes}, self.fixed, solved)


@dataclass(frozen=True, eq=False)
class AdjustedWindow:
    """then: poses when the map was read, of all. fixed: ids. solved: poses of the others."""

    then: dict[int, Sim3]
    fixed: set[int]
    solved: dict[int, Sim3]

    def apply(self, keyframe_map: KeyframeMap) -> list[int]:
        """Moves the keyframes; ids of those that moved."""
        poses = poses_now(keyframe_map, self.then, self.solved, sorted(self.fixed))
        keyframe_map.move(poses)
        return list(poses)
