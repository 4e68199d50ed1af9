# SPDX-License-Identifier: Apache-2.0
"""Time and accuracy of the optimizations: tracking, local window, global pose graph.

The scene is a round room; a camera moves around it several times, looking at the wall. Its keyframes have the errors of a pair
model: pixel noise, wrong matches, and depth errors (a smooth field, noise, and a scale per keyframe). The poses have drifted,
also in scale; loop edges connect the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from network_bench.timing import measure
from st3r_ros.geometry import so3
from st3r_ros.geometry.alignment import umeyama
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.graph_problem import GraphProblem, make_graph_problem
from st3r_ros.slam.pose_graph import GraphEstimate, GraphResult, edge_informations, solve_graph
from st3r_ros.slam.projection import observations_at, points_at
from st3r_ros.slam.tracking import TrackingProblem, track
from st3r_ros.slam.window import optimize_window
from st3r_ros.types import Edge, Keyframe

PATH_RADIUS, WALL_RADIUS = 4.0, 8.0
FIELD_OF_VIEW_DEG = 70.0
DEPTH_SIGMA = 0.05
TRACKED_MATCHES, WINDOW_KEYFRAMES = 1500, 10
EXAMPLES = """examples:
  OMP_NUM_THREADS=2 python bench/optimization.py --keyframes 300 --edges 900 --device cpu
  python bench/optimization.py --keyframes 300 --edges 900 --device cuda --json optimization.json"""


@dataclass(frozen=True)
class Errors:
    """Standard deviations of what goes wrong; outliers, gross: shares of matches and of pixels.

    drift: of the tangent (metres, radians, log-scale) that every keyframe adds to the poses.
    """

    pixel: float = 0.7
    outliers: float = 0.1
    depth: float = 0.01
    depth_field: float = 0.03
    scale: float = 0.08
    gross: float = 0.005
    drift: float = 0.004


EXACT = Errors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """Keyframes where drift has taken them, edges, and T_world_cam where they are in truth, by the order of the keyframes."""

    keyframes: list[Keyframe]
    edges: list[Edge]
    truth: list[Sim3]

    def errors(self, poses: list[Sim3]) -> np.ndarray:
        """Distances (N,) in metres of the cameras from where they are in truth."""
        return np.array([np.linalg.norm(a.translation - b.translation) for a, b in zip(poses, self.truth, strict=True)])


class Room:
    """The round room, and a camera of `width` x `height` pixels in it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        focal = 0.5 * width / math.tan(math.radians(0.5 * FIELD_OF_VIEW_DEG))
        self.K = np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])

    def pose(self, angle: float) -> Sim3:
        """T_world_cam at an angle of the path: looking at the wall, a little up and down on the way."""
        forward = np.array([math.cos(angle), math.sin(angle), 0.0])
        down = np.array([0.0, 0.0, -1.0])
        R = np.stack([np.cross(down, forward), down, forward], axis=1) @ so3.exp(np.array([0.1 * math.sin(7 * angle), 0.0, 0.0]))
        return Sim3(R, PATH_RADIUS * forward + (0.0, 0.0, 0.3 * math.sin(5 * angle)), np.asarray(1.0))

    def depth(self, T_world_cam: Sim3, pixels: np.ndarray) -> np.ndarray:
        """Depth (N,) of the wall at pixels (N, 2)."""
        rays = np.concatenate([(pixels - self.K[:2, 2]) / self.K[[0, 1], [0, 1]], np.ones((len(pixels), 1))], axis=1)
        d, o = rays @ T_world_cam.rotation.T, T_world_cam.translation
        a, b, c = (d[:, :2] ** 2).sum(1), d[:, :2] @ o[:2], o[:2] @ o[:2] - WALL_RADIUS**2
        return (np.sqrt(b * b - a * c) - b) / a

    def points(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Points (N, 3) in the camera at pixels (N, 2) and depths (N,)."""
        return (
            np.concatenate([(pixels - self.K[:2, 2]) / self.K[[0, 1], [0, 1]], np.ones((len(pixels), 1))], axis=1)
            * depth[:, None]
        )

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) of points (N, 3) in the camera, NaN where it does not see them."""
        z = np.where(points[:, 2:] > 0, points[:, 2:], np.nan)
        pixels = points[:, :2] / z * self.K[[0, 1], [0, 1]] + self.K[:2, 2]
        inside = (pixels >= 0).all(1) & (pixels <= (self.width - 1, self.height - 1)).all(1)
        return np.where(inside[:, None], pixels, np.nan)


def circular_scene(
    keyframes: int,
    edges: int,
    *,
    width: int = 512,
    height: int = 384,
    matches: int = 1024,
    rounds: int = 3,
    arc: float | None = None,
    calibrated: bool = True,
    errors: Errors | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Scene:
    """A walk round the room, `arc` radians of it instead of whole rounds. The truth has the scale of each keyframe's pointmap."""
    errors, rng, room = errors or Errors(), np.random.default_rng(seed), Room(width, height)
    whole = 2 * math.pi * rounds if arc is None else arc
    places = [room.pose(whole * k / keyframes) for k in range(keyframes)]
    scales = np.exp(rng.normal(0, errors.scale, keyframes))
    scales[0] = 1.0
    truth = [Sim3(T.rotation, T.translation, np.asarray(s)) for T, s in zip(places, scales, strict=True)]
    poses, T_guess = [truth[0]], truth[0]
    for before, after in itertools.pairwise(truth):
        T_guess = T_guess @ (before.inverse() @ after) @ Sim3.exp(rng.normal(0, errors.drift, 7))
        poses.append(T_guess)
    made = [
        Keyframe(
            k,
            k,
            k,
            T_guess,
            *pointmap(room, T, errors, rng, device),
            np.zeros((0, 0, 3), np.uint8),
            room.K,
            calibrated,
            calibrated,
        )
        for k, (T, T_guess) in enumerate(zip(truth, poses, strict=True))
    ]
    per_round = keyframes // rounds
    tied = [(k + step, k, "sequential") for step in (1, 2) for k in range(keyframes - step)]
    loops = [(k + per_round * n, k, "loop") for n in range(1, rounds) for k in range(keyframes - per_round * n)]
    chosen = np.linspace(0, len(loops) - 1, min(max(edges - len(tied), 0), len(loops))).round().astype(int)
    tied = (tied + [loops[n] for n in chosen])[:edges]
    return Scene(made, [tie(room, places, i, j, kind, matches, errors, rng) for i, j, kind in tied], truth)


def pointmap(room: Room, T: Sim3, errors: Errors, rng: np.random.Generator, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What a pair model would see of the wall, float16, and its confidence."""
    grid = np.stack(np.meshgrid(np.arange(room.width), np.arange(room.height)), axis=-1).reshape(-1, 2).astype(np.float64)
    depth = room.depth(T, grid).reshape(room.height, room.width)
    field = torch.nn.functional.interpolate(
        torch.from_numpy(rng.normal(0, errors.depth_field, (1, 1, 4, 4))),
        (room.height, room.width),
        mode="bilinear",
        align_corners=True,
    )
    noise = field[0, 0].numpy() + rng.normal(0, errors.depth, (room.height, room.width))
    gross = rng.random((room.height, room.width)) < errors.gross
    noise[gross] = rng.uniform(-1, 1, gross.sum())
    depth = depth * np.exp(noise) / float(T.scale)
    X = room.points(grid, depth.reshape(-1)).reshape(room.height, room.width, 3)
    return torch.from_numpy(X).to(device, torch.float16), torch.ones(room.height, room.width, dtype=torch.float16, device=device)


def tie(
    room: Room, T_world_cam: list[Sim3], i: int, j: int, kind: str, count: int, errors: Errors, rng: np.random.Generator
) -> Edge:
    """An edge of up to `count` matches; some of them wrong."""
    pixels_i = rng.uniform((0, 0), (room.width - 1, room.height - 1), (4 * count, 2))
    world = T_world_cam[i] @ room.points(pixels_i, room.depth(T_world_cam[i], pixels_i))
    pixels_j = room.project(T_world_cam[j].inverse() @ world)
    seen = np.flatnonzero(np.isfinite(pixels_j).all(1))[:count]
    pixels_i, pixels_j = (p[seen] + rng.normal(0, errors.pixel * math.sqrt(0.5), (len(seen), 2)) for p in (pixels_i, pixels_j))
    wrong = rng.random(len(seen)) < errors.outliers
    pixels_j[wrong] = rng.uniform((0, 0), (room.width - 1, room.height - 1), (wrong.sum(), 2))
    limit = (room.width - 1, room.height - 1)
    return Edge.pack(i, j, kind, *(torch.from_numpy(p.clip(0, limit)) for p in (pixels_i, pixels_j)), torch.ones(len(seen)))


# What is measured -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, by the clock and of this process's CPU time (which a busy machine changes less)."""

    median_ms: float
    min_ms: float
    cpu_ms: float


def timed(run: Callable[[], object], device: torch.device, runs: int) -> Timing:
    """Calls a function once to warm up, then `runs` times."""
    found = measure(run, device, runs, warm_up=1)
    before = time.process_time()
    for _ in range(runs):
        run()
    return Timing(found.median_ms, found.min_ms, 1e3 * (time.process_time() - before) / runs)


def tracking_problem(scene: Scene, edge: Edge, matches: int) -> TrackingProblem:
    """Keyframe i tracked against keyframe j, over the first matches of their edge, with claimed depths."""
    frame, keyframe = scene.keyframes[edge.i], scene.keyframes[edge.j]
    pixels_i, pixels_j = (p[:matches].to(frame.X.device) for p in (edge.pixels_i, edge.pixels_j))
    known, claimed, seen = points_at(keyframe, pixels_j), points_at(frame, pixels_i), observations_at(frame, pixels_i)
    depth = seen.log_depth(claimed.points).values.exp()
    information = known.conf / DEPTH_SIGMA**2
    weight = edge.weight[:matches].to(depth)
    return TrackingProblem(known.points, information, seen, weight, depth, 0.1 * claimed.conf / DEPTH_SIGMA**2)


def time_tracking(chosen: argparse.Namespace, device: torch.device) -> dict[str, Timing]:
    """One frame of 1500 matches against one keyframe, from the identity."""
    timings = {}
    for name, calibrated in (("tracking, pixels", True), ("tracking, rays", False)):
        scene = circular_scene(2, 1, arc=0.1, matches=TRACKED_MATCHES, calibrated=calibrated, device=chosen.device)
        problem = tracking_problem(scene, scene.edges[0], TRACKED_MATCHES)
        timings[name] = timed(lambda problem=problem: track(problem, Sim3.identity()), device, chosen.runs)
    return timings


def time_window(chosen: argparse.Namespace, device: torch.device) -> dict[str, Timing]:
    """Ten keyframes and the three fixed ones before them, every one tied to the six before it."""
    timings = {}
    for name, calibrated in (("window, pixels", True), ("window, rays", False)):
        n = 3 + WINDOW_KEYFRAMES
        scene = circular_scene(n, 0, arc=0.06 * n, calibrated=calibrated, device=chosen.device)
        room, rng = Room(512, 384), np.random.default_rng(1)
        places = [room.pose(0.06 * k) for k in range(n)]
        ties = [(i, j) for i in range(n) for j in range(max(0, i - 6), i)]
        edges = [tie(room, places, i, j, "sequential", 1024, Errors(), rng) for i, j in ties]
        run = lambda scene=scene, edges=edges: optimize_window(scene.keyframes, edges, {0, 1, 2}, DEPTH_SIGMA, 1.0)  # noqa: E731
        timings[name] = timed(run, device, chosen.runs)
    return timings


@dataclass(frozen=True, eq=False)
class GraphBench:
    """Timings of the pose graph, its result, and the mean errors of the keyframes in metres, laid over the truth."""

    timings: dict[str, Timing]
    result: GraphResult
    error_before: float
    error_after: float


def time_graph(chosen: argparse.Namespace, device: torch.device) -> GraphBench:
    """The whole map."""
    scene = circular_scene(chosen.keyframes, chosen.edges, calibrated=not chosen.uncalibrated, device=chosen.device)

    def make() -> GraphProblem:
        return make_graph_problem(scene.keyframes, scene.edges, DEPTH_SIGMA, matches_per_edge=chosen.matches)

    problem = make()
    first = GraphEstimate.first(problem)
    stages: dict[str, Callable[[], object]] = {
        "graph, problem": make,
        "graph, solved": lambda: solve_graph(problem),
        "graph, both": lambda: solve_graph(make()),
        "  one look at all matches": lambda: first.at(first.poses, first.delta),
        "  one linear system": lambda: first.system(first.eliminated(), 1e-9).solve(),
        "  all edges' information": lambda: edge_informations(problem),
    }
    timings = {name: timed(run, device, chosen.runs) for name, run in stages.items()}
    result = solve_graph(problem)
    before = aligned_error(scene, [k.T_world_cam for k in scene.keyframes])
    return GraphBench(timings, result, before, aligned_error(scene, list(result.poses.values())))


def aligned_error(scene: Scene, poses: list[Sim3]) -> float:
    """Mean distance in metres of the cameras from the truth, after the similarity that fits best."""
    found, truth = (np.array([T.translation for T in p]) for p in (poses, scene.truth))
    return float(np.linalg.norm(umeyama(found, truth) @ found - truth, axis=1).mean())


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keyframes", type=int, default=300)
    parser.add_argument("--edges", type=int, default=900)
    parser.add_argument("--matches", type=int, default=128, help="of each edge that the graph uses; 1024 are stored")
    parser.add_argument("--uncalibrated", action="store_true", help="the graph's camera has no intrinsics")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--runs", type=int, default=5, help="timed calls of each stage")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no CUDA device.")
    if chosen.keyframes < 6 or min(chosen.edges, chosen.matches, chosen.runs) < 1:
        parser.error("--keyframes is at least 6, --edges, --matches and --runs at least 1.")
    if chosen.device == "auto":
        chosen.device = "cuda" if torch.cuda.is_available() else "cpu"
    return chosen


def main() -> None:
    """Print the table."""
    chosen = options()
    device = torch.device(chosen.device)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    print(f"Optimizations on {name}: {chosen.keyframes} keyframes, {chosen.edges} edges, {chosen.matches} matches of each")
    graph = time_graph(chosen, device)
    timings = {**time_tracking(chosen, device), **time_window(chosen, device), **graph.timings}
    print(f"{'':<28}{'median ms':>10}{'min ms':>10}{'CPU ms':>10}")
    for stage, timing in timings.items():
        print(f"{stage:<28}{timing.median_ms:10.1f}{timing.min_ms:10.1f}{timing.cpu_ms:10.1f}")
    result = graph.result
    print(
        f"The graph took {result.iterations} iterations; mean error {graph.error_before:.3f} m before, {graph.error_after:.3f} m "
        f"after; rms of the matches {result.rmse_before_px:.2f} px before, {result.rmse_px:.2f} px after."
    )
    if chosen.json:
        figures = {
            "device": name,
            "keyframes": chosen.keyframes,
            "edges": len(result.edge_weight),
            "matches_per_edge": chosen.matches,
            "calibrated": not chosen.uncalibrated,
            "iterations": result.iterations,
            "error_before_m": graph.error_before,
            "error_after_m": graph.error_after,
            "rmse_before_px": result.rmse_before_px,
            "rmse_px": result.rmse_px,
            "results": {stage.strip(): asdict(timing) for stage, timing in timings.items()},
        }
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
