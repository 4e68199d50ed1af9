# SPDX-License-Identifier: Apache-2.0
"""The correction of the whole map after a loop: solved in parallel to the tracking, applied at once between two frames."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import give_back_freed
from st3r_ros.slam.optimization.graph_problem import make_graph_problem
from st3r_ros.slam.optimization.later import poses_now
from st3r_ros.slam.optimization.pose_graph import solve_graph
from st3r_ros.types import Edge, Keyframe

MIN_LOOP_WEIGHT = 0.25
MAX_BEND = 1.5
BEND_TOLERANCE_PX = 0.5


@dataclass(frozen=True, eq=False)
class Correction:
    """Result of an optimization: ids of the moved keyframes, accepted and rejected loop edges."""

    moved: tuple[int, ...]
    accepted: tuple[Edge, ...]
    rejected: tuple[Edge, ...]


class GlobalOptimizer:
    """Closes loops: solves the whole graph with new loop edges and applies the result between two frames.

    depth_sigma: relative depth error at confidence 1.
    executor: runs the solver; None solves immediately, for repeatable runs.
    """

    def __init__(self, keyframe_map: KeyframeMap, depth_sigma: float, executor: Executor | None = None) -> None:
        self._map = keyframe_map
        self._executor = executor
        self._depth_sigma = depth_sigma
        self._waiting: list[Edge] = []
        self._running: Future[_Solved] | None = None
        self._snapshot: tuple[dict[int, Sim3], list[Edge]] = ({}, [])

    @property
    def busy(self) -> bool:
        """Whether loop edges are pending."""
        return bool(self._waiting) or self._running is not None

    def close(self, edges: list[Edge]) -> None:
        """Adds pending loop edges; they become part of the map when the graph has been solved with them."""
        self._waiting += edges

    def step(self, *, wait: bool = False) -> Correction | None:
        """Applies finished results and starts pending work. Call it between two frames. wait: for what is running."""
        correction = self._apply() if self._running is not None and (wait or self._running.done()) else None
        if self._running is None and self._waiting:
            self._start()
            if self._executor is None:
                correction = self._apply()
        return correction

    def _start(self) -> None:
        keyframes = [replace(k) for k in self._map.keyframes.values()]  # a copy, independent of the tracking meanwhile
        loops = [e for e in self._waiting if e.i in self._map.keyframes and e.j in self._map.keyframes]
        self._waiting = []
        self._snapshot = {k.id: k.T_world_cam for k in keyframes}, loops
        new = {_ends(e) for e in loops}
        edges = [e for e in self._map.edges if _ends(e) not in new] + loops
        work = keyframes, edges, new, self._depth_sigma
        if self._executor is None:
            self._running = Future()
            self._running.set_result(_solve(*work))
        else:
            self._running = self._executor.submit(_solve, *work)

    def _apply(self) -> Correction:
        """Moves the keyframes; newer ones move with the last one of the optimization."""
        assert self._running is not None
        solved, (known, loops) = self._running.result(), self._snapshot
        self._running, self._snapshot = None, ({}, [])
        alive = [k for k in known if k in self._map.keyframes]
        loops = [e for e in loops if e.i in self._map.keyframes and e.j in self._map.keyframes]
        rejected = tuple(loops) if solved.bends_the_map else tuple(e for e in loops if solved.weight[_ends(e)] < MIN_LOOP_WEIGHT)
        accepted = tuple(e for e in loops if e not in rejected)
        if not accepted or not alive:
            return Correction((), (), tuple(loops))
        # The first keyframe was fixed: its current pose (the unit may have changed) defines the frame of the result.
        self._map.move(poses_now(self._map, known, solved.poses, alive[:1]))
        for edge in accepted:
            self._map.add_edge(edge)
        return Correction(tuple(self._map.keyframes), accepted, rejected)


@dataclass(frozen=True, eq=False)
class _Solved:
    """New poses, the remaining weight of each edge, and whether the new loops cost the other edges too much."""

    poses: dict[int, Sim3]
    weight: dict[tuple[int, int], float]
    bends_the_map: bool


def _ends(edge: Edge) -> tuple[int, int]:
    return min(edge.i, edge.j), max(edge.i, edge.j)


def _solve(keyframes: list[Keyframe], edges: list[Edge], new: set[tuple[int, int]], depth_sigma: float) -> _Solved:
    edges = [e for e in edges if len(e)]
    result = solve_graph(make_graph_problem(keyframes, edges, depth_sigma))
    old = np.array([_ends(e) not in new for e in edges])
    before, after = (np.sqrt(np.mean(rmse[old] ** 2)) for rmse in (result.edge_rmse_before_px, result.edge_rmse_px))
    weight = {_ends(e): float(w) for e, w in zip(edges, result.edge_weight, strict=True)}
    give_back_freed()
    return _Solved(result.poses, weight, bool(after > MAX_BEND * before + BEND_TOLERANCE_PX))
