# SPDX-License-Identifier: Apache-2.0
"""Time and accuracy of the optimizations: tracking, local window, global pose graph.

The scene is a round room; a camera moves around it several times, looking at the wall. Its keyframes have the errors of a pair
model, and their poses have drifted (test/round_room.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import harness
import numpy as np
from harness import Table

from round_room import Errors, Room, Scene, circular_scene, edge_informations, tie
from st3r_ros.geometry.alignment import umeyama
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.pair.mast3r.load import choose_device
from st3r_ros.slam.keyframes.projection import observations_at, points_at
from st3r_ros.slam.optimization.graph_problem import GraphProblem, make_graph_problem
from st3r_ros.slam.optimization.pose_graph import GraphEstimate, solve_graph
from st3r_ros.slam.optimization.window import optimize_window
from st3r_ros.slam.tracking.frame_pose import TrackingProblem, track
from st3r_ros.types import Edge

DEPTH_SIGMA = 0.05
TRACKED_MATCHES, WINDOW_KEYFRAMES = 1500, 10
Stages = dict[str, Callable[[], object]]
TIMES = (("median_ms", "median ms", ">10", ".1f"), ("min_ms", "min ms", ">10", ".1f"), ("cpu_ms", "CPU ms", ">10", ".1f"))
TABLE = Table((("stage", "", "<28", ""), *TIMES), gap="")
ACCURACY = """\
The graph took {iterations} iterations; mean error {error_before_m:.3f} m before, {error_after_m:.3f} m after; rms of the \
matches {rmse_before_px:.2f} px before, {rmse_px:.2f} px after."""


def tracking_problem(scene: Scene, edge: Edge, matches: int) -> TrackingProblem:
    """Keyframe i tracked against keyframe j, over the first matches of their edge, with claimed depths."""
    frame, keyframe = scene.keyframes[edge.i], scene.keyframes[edge.j]
    pixels_i, pixels_j = (p[:matches].to(frame.X.device) for p in (edge.pixels_i, edge.pixels_j))
    known, claimed, seen = points_at(keyframe, pixels_j), points_at(frame, pixels_i), observations_at(frame, pixels_i)
    depth = seen.log_depth(claimed.points).values.exp()
    information = known.conf / DEPTH_SIGMA**2
    weight = edge.weight[:matches].to(depth)
    return TrackingProblem(known.points, information, seen, weight, depth, 0.1 * claimed.conf / DEPTH_SIGMA**2)


def tracking_stages(device: str) -> Stages:
    """One frame of 1500 matches against one keyframe, from the identity."""
    stages = {}
    for name, calibrated in (("tracking, pixels", True), ("tracking, rays", False)):
        scene = circular_scene(2, 1, arc=0.1, matches=TRACKED_MATCHES, calibrated=calibrated, device=device)
        problem = tracking_problem(scene, scene.edges[0], TRACKED_MATCHES)
        stages[name] = partial(track, problem, Sim3.identity())
    return stages


def window_stages(device: str) -> Stages:
    """Ten keyframes and the three fixed ones before them, every one tied to the six before it."""
    stages = {}
    for name, calibrated in (("window, pixels", True), ("window, rays", False)):
        n = 3 + WINDOW_KEYFRAMES
        scene = circular_scene(n, 0, arc=0.06 * n, calibrated=calibrated, device=device)
        room, rng = Room(512, 384), np.random.default_rng(1)
        places = [room.pose(0.06 * k) for k in range(n)]
        ties = [(i, j) for i in range(n) for j in range(max(0, i - 6), i)]
        edges = [tie(room, places, i, j, "sequential", 1024, Errors(), rng) for i, j in ties]
        stages[name] = partial(optimize_window, scene.keyframes, edges, {0, 1, 2}, DEPTH_SIGMA)
    return stages


def graph_stages(make: Callable[[], GraphProblem]) -> Stages:
    """The pose graph of a whole map: made, solved, and parts of that."""
    problem = make()
    first = GraphEstimate.first(problem)
    return {
        "graph, problem": make,
        "graph, solved": lambda: solve_graph(problem),
        "graph, both": lambda: solve_graph(make()),
        "  one look at all matches": lambda: first.at(first.poses, first.delta),
        "  one linear system": lambda: first.system(first.eliminated(), 1e-9).solve(),
        "  all edges' information": lambda: edge_informations(problem),
    }


def aligned_error(scene: Scene, poses: list[Sim3]) -> float:
    """Mean distance in metres of the cameras from the truth, after the similarity that fits best."""
    found, truth = (np.array([T.translation for T in p]) for p in (poses, scene.truth))
    return float(np.linalg.norm(umeyama(found, truth) @ found - truth, axis=1).mean())


def options() -> argparse.Namespace:
    """The command line."""
    parser = harness.parser(__doc__)
    parser.add_argument("--keyframes", type=int, default=300)
    parser.add_argument("--edges", type=harness.positive, default=900)
    parser.add_argument("--matches", type=harness.positive, default=128, help="of each edge that the graph uses; 1024 are stored")
    parser.add_argument("--uncalibrated", action="store_true", help="the graph's camera has no intrinsics")
    harness.add_device(parser)
    parser.add_argument("--runs", type=harness.positive, default=5, help="timed calls of each stage")
    harness.add_outputs(parser, "also write the results to this file")
    chosen = parser.parse_args()
    if chosen.keyframes < 6:
        parser.error("--keyframes is at least 6.")
    return chosen


@harness.command
def main() -> None:
    """Print the table."""
    chosen = options()
    device = choose_device(chosen.device)
    name = harness.device_name(device)
    print(f"Optimizations on {name}: {chosen.keyframes} keyframes, {chosen.edges} edges, {chosen.matches} matches of each")
    scene = circular_scene(chosen.keyframes, chosen.edges, calibrated=not chosen.uncalibrated, device=str(device))
    make = partial(make_graph_problem, scene.keyframes, scene.edges, DEPTH_SIGMA, matches_per_edge=chosen.matches)
    print(TABLE.header())
    results = {}
    for stage, run in {**tracking_stages(str(device)), **window_stages(str(device)), **graph_stages(make)}.items():
        timing = harness.measure(run, device, chosen.runs, warm_up=1)
        results[stage.strip()] = {key: getattr(timing, key) for key, *_ in TIMES}
        print(TABLE.line({"stage": stage, **results[stage.strip()]}), flush=True)
    result = solve_graph(make())
    figures = {
        "device": name,
        "keyframes": chosen.keyframes,
        "edges": len(result.edge_weight),
        "matches_per_edge": chosen.matches,
        "calibrated": not chosen.uncalibrated,
        "iterations": result.iterations,
        "error_before_m": aligned_error(scene, [k.T_world_cam for k in scene.keyframes]),
        "error_after_m": aligned_error(scene, list(result.poses.values())),
        "rmse_before_px": result.rmse_before_px,
        "rmse_px": result.rmse_px,
        "results": results,
    }
    print(ACCURACY.format(**figures))
    harness.write_json(chosen.json, figures)


if __name__ == "__main__":
    harness.start(main)
