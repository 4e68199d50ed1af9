# SPDX-License-Identifier: Apache-2.0
"""A round room, and keyframes of a camera that moves around in it several times, looking at the wall; what their edges tell.

They have the errors of a pair model: pixel noise, wrong matches, and depth errors (a smooth field, noise, and a scale per
keyframe). The poses have drifted, also in scale; loop edges connect the rounds. Used by the tests and by bench/optimization.py.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.optimization.graph_problem import GraphProblem
from st3r_ros.slam.optimization.pose_graph import GraphEstimate
from st3r_ros.solver.poses import sim3_adjoint
from st3r_ros.types import Edge, Keyframe

PATH_RADIUS, WALL_RADIUS = 4.0, 8.0
FIELD_OF_VIEW_DEG = 70.0


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


def edge_informations(problem: GraphProblem) -> np.ndarray:
    """What each edge's matches tell of its relative pose at the problem's poses: (E, 7, 7) float64 normal matrices.

    Of the tangent (translation, rotation, log-scale) that acts left of T_j_i, in the axes and unit of keyframe j:
    T_j_i <- exp(tangent) @ T_j_i. The inverse of such a matrix is the covariance.
    """
    first = GraphEstimate.first(problem)
    settled = first.at(first.poses, first.delta + first.eliminated().step)
    half, B = len(problem.loop), settled.eliminated().B.double()
    Ad = sim3_adjoint(settled.T)[half:]  # of T_i_j, which a tangent left of T_j_i moves by minus Ad times it
    both = B[:half] + Ad.transpose(1, 2) @ B[half:] @ Ad
    return (problem.share[:, None, None] * both).cpu().numpy()
