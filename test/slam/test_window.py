# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.optimization.window import WindowResult, optimize_window
from st3r_ros.types import Edge, Keyframe

CAMERA = Camera.from_fov(160, 120, 70.0)
KEYFRAMES = 4
DEPTH_SIGMA = 0.5


@dataclass
class Problem:
    """Keyframes that see the same points. world: (P, 3). pixels: (K, P, 2) exact pixels of each point in each keyframe."""

    keyframes: list[Keyframe]
    edges: list[Edge]
    world: np.ndarray
    pixels: np.ndarray

    def optimize(self, fixed: set[int]) -> WindowResult:
        result = optimize_window(self.keyframes, self.edges, fixed, DEPTH_SIGMA)
        assert result is not None
        return result


def spread(pixels: np.ndarray) -> np.ndarray:
    """Which points (P,) are in every image and share their pixel with no other one in any of them."""
    whole = np.rint(pixels).astype(int)
    alone = ((whole >= 2) & (whole <= (157, 117))).all((0, 2))
    for image in whole:
        _, index, count = np.unique(image, axis=0, return_inverse=True, return_counts=True)
        alone &= count[index.ravel()] == 1
    return alone


def pointmap(at: np.ndarray, points: np.ndarray, calibrated: bool) -> torch.Tensor:
    """Right directions everywhere; right depths, or distances if not calibrated, of points (P, 3) at their pixels."""
    grid = np.stack(np.meshgrid(np.arange(160.0), np.arange(120.0)), axis=-1)
    X = CAMERA.unproject(grid)
    rays = X[at[:, 1], at[:, 0]]
    along = points[:, 2] if calibrated else np.linalg.norm(points, axis=1) / np.linalg.norm(rays, axis=1)
    X[at[:, 1], at[:, 0]] = rays * along[:, None]
    return torch.from_numpy(X.astype(np.float32))


def make(*, noise_px: float = 0.0, outliers: float = 0.0, calibrated: bool = True, seed: int = 0) -> Problem:
    """An exact map: poses with scales of their own, pointmaps known at the pixels of the points, an edge per pair."""
    rng = np.random.default_rng(seed)
    tangents = np.array([[0.25 * i, 0.1 * (i % 2), 0.1 * i, 0.02 * i, -0.06 * i, 0.03 * i, 0.1 * i] for i in range(KEYFRAMES)])
    T_world_cam = [Sim3.exp(xi) for xi in tangents]
    world = CAMERA.unproject(rng.uniform((0, 0), (159, 119), (500, 2)), rng.uniform(2, 6, 500))
    in_camera = np.stack([T.inverse() @ world for T in T_world_cam])
    pixels = np.stack([CAMERA.project(X) for X in in_camera])
    kept = np.flatnonzero(spread(np.nan_to_num(pixels, nan=-1e3)))[:120]
    world, in_camera, pixels = world[kept], in_camera[:, kept], pixels[:, kept]
    keyframes = []
    for i, (T, X, at) in enumerate(zip(T_world_cam, in_camera, np.rint(pixels).astype(int), strict=True)):
        conf = torch.zeros(120, 160)
        conf[at[:, 1], at[:, 0]] = 1.0
        image, K = np.zeros((120, 160, 3), np.uint8), np.array(CAMERA.K)
        keyframes.append(Keyframe(i, i, i, T, pointmap(at, X, calibrated), conf, image, K, calibrated, calibrated))
    edges = []
    for i in range(KEYFRAMES):
        for j in range(i):
            seen_i, seen_j = (pixels[k] + rng.normal(0, noise_px, pixels[k].shape) for k in (i, j))
            wrong = rng.random(len(kept)) < outliers
            seen_j[wrong] = pixels[j][rng.permutation(len(kept))[: wrong.sum()]]
            pair = (torch.from_numpy(p.astype(np.float32)) for p in (seen_i, seen_j))
            edges.append(Edge.pack(i, j, "sequential", *pair, torch.ones(len(kept))))
    return Problem(keyframes, edges, world, pixels)


def disturb(problem: Problem, fixed: set[int], *, pose: float = 0.02, depth: float = 0.05, seed: int = 1) -> None:
    """Moves the poses that are not fixed, and all depths of their keyframes."""
    rng = np.random.default_rng(seed)
    for keyframe in problem.keyframes:
        if keyframe.id not in fixed:
            keyframe.T_world_cam = Sim3.exp(pose * rng.normal(size=7)) @ keyframe.T_world_cam
            keyframe.X = keyframe.X * torch.from_numpy(np.exp(rng.normal(0, depth, (120, 160, 1)))).float()


def pose_errors(problem: Problem, truth: list[Sim3], poses: dict[int, Sim3]) -> tuple[float, float]:
    """Largest distance, and largest angle in degrees, of the keyframes' cameras."""
    differences = [(truth[k.id].inverse() @ poses[k.id]).log() for k in problem.keyframes]
    distance = max(np.linalg.norm(truth[k.id].translation - poses[k.id].translation) for k in problem.keyframes)
    return float(distance), float(np.rad2deg(max(np.linalg.norm(d[3:6]) for d in differences)))


@pytest.mark.parametrize("calibrated", [True, False])
def test_an_exact_map_stays_as_it_is(calibrated):
    problem = make(calibrated=calibrated)
    truth = [k.T_world_cam for k in problem.keyframes]
    result = problem.optimize({0, 1})
    assert max(pose_errors(problem, truth, result.poses)) < 1e-2
    assert result.rmse_before_px < 0.15 and result.rmse_px < 0.15  # edges keep sixteenths of a pixel


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("calibrated", [True, False])
def test_disturbed_poses_and_depths_come_back(calibrated, seed):
    problem = make(calibrated=calibrated, seed=seed)
    truth = [k.T_world_cam for k in problem.keyframes]
    disturb(problem, {0, 1}, seed=seed)
    result = problem.optimize({0, 1})
    before = pose_errors(problem, truth, {k.id: k.T_world_cam for k in problem.keyframes})
    distance, angle = pose_errors(problem, truth, result.poses)
    assert distance < 0.01 < before[0] and angle < 0.1 < before[1]
    assert result.rmse_px < 0.1 * result.rmse_before_px


def test_fixed_keyframes_do_not_move():
    problem = make(noise_px=0.5)
    result = problem.optimize({0, 2})
    for number in (0, 2):
        before, after = problem.keyframes[number].T_world_cam, result.poses[number]
        np.testing.assert_array_equal(after.as_matrix(), before.as_matrix())
    assert any(np.abs(result.poses[i].translation - problem.keyframes[i].T_world_cam.translation).max() > 1e-6 for i in (1, 3))


def test_one_fixed_keyframe_leaves_the_scale_where_it_is():
    problem = make()
    truth = [k.T_world_cam for k in problem.keyframes]
    disturb(problem, {0})
    result = problem.optimize({0})
    length = np.linalg.norm(result.poses[3].translation) / np.linalg.norm(truth[3].translation)
    assert length == pytest.approx(1.0, abs=0.1) and result.rmse_px < 0.1


@pytest.mark.parametrize("calibrated", [True, False])
def test_outliers_are_voted_down(calibrated):
    problem = make(noise_px=0.3, outliers=0.2, calibrated=calibrated)
    truth = [k.T_world_cam for k in problem.keyframes]
    disturb(problem, {0, 1}, pose=0.01, depth=0.03)
    distance, angle = pose_errors(problem, truth, problem.optimize({0, 1}).poses)
    clean = make(noise_px=0.3, calibrated=calibrated)
    disturb(clean, {0, 1}, pose=0.01, depth=0.03)
    without = pose_errors(clean, truth, clean.optimize({0, 1}).poses)
    assert distance < 0.03 and angle < 0.4
    assert distance < 3 * without[0] + 0.01 and angle < 3 * without[1] + 0.1


def test_noise_averages_out_over_the_points():
    problem = make(noise_px=0.5)
    truth = [k.T_world_cam for k in problem.keyframes]
    distance, angle = pose_errors(problem, truth, problem.optimize({0, 1}).poses)
    assert distance < 0.03 and angle < 0.3


def test_keyframes_without_an_edge_between_them_have_nothing_to_optimize():
    problem = make()
    assert optimize_window(problem.keyframes, [], {0}, DEPTH_SIGMA) is None
    assert optimize_window(problem.keyframes[:1], problem.edges, {0}, DEPTH_SIGMA) is None


def test_pixels_without_depth_are_left_out():
    problem = make()
    empty = problem.keyframes[3]
    empty.conf = torch.zeros_like(empty.conf)
    truth = [k.T_world_cam for k in problem.keyframes]
    disturb(problem, {0, 1})
    distance, angle = pose_errors(problem, truth, problem.optimize({0, 1}).poses)
    assert distance < 0.02 and angle < 0.2


@pytest.mark.parametrize("calibrated", [True, False])
def test_retired_pointmaps_of_half_precision_do(calibrated):
    problem = make(calibrated=calibrated)
    truth = [k.T_world_cam for k in problem.keyframes]
    disturb(problem, {0, 1})
    for keyframe in problem.keyframes[:2]:
        keyframe.X, keyframe.conf = keyframe.X.half(), keyframe.conf.half()
    distance, angle = pose_errors(problem, truth, problem.optimize({0, 1}).poses)
    assert distance < 0.02 and angle < 0.2


def test_a_camera_without_intrinsics_among_others_that_have_them():
    problem = make()
    truth = [k.T_world_cam for k in problem.keyframes]
    other = make(calibrated=False)
    problem.keyframes[2] = other.keyframes[2]
    disturb(problem, {0, 1})
    distance, angle = pose_errors(problem, truth, problem.optimize({0, 1}).poses)
    assert distance < 0.02 and angle < 0.2


def test_keyframes_of_different_sizes():
    problem = make()
    truth = [k.T_world_cam for k in problem.keyframes]
    wide = problem.keyframes[2]
    wide.X = torch.cat([wide.X, torch.ones(120, 40, 3)], dim=1)
    wide.conf = torch.cat([wide.conf, torch.zeros(120, 40)], dim=1)
    problem.keyframes[3].T_world_cam = Sim3.exp(np.full(7, 0.02)) @ truth[3]
    result = problem.optimize({0, 1})
    distance, angle = pose_errors(problem, truth, result.poses)
    assert distance < 0.02 and angle < 0.2


def test_steps_that_do_not_help_are_not_taken():
    """A start so far off that plain Gauss-Newton runs away."""
    problem = make(noise_px=0.5)
    disturb(problem, {0, 1}, pose=0.4, depth=0.5)
    result = problem.optimize({0, 1})
    assert result.rmse_px <= result.rmse_before_px and np.isfinite(result.rmse_px)


def test_two_views_without_parallax_agree_on_their_scale_by_their_depths():
    problem = make()
    for keyframe in problem.keyframes:
        keyframe.T_world_cam = Sim3.identity()
        keyframe.X, keyframe.conf = problem.keyframes[0].X.clone(), problem.keyframes[0].conf.clone()
    pixels = torch.from_numpy(problem.pixels[0].astype(np.float32))
    edge = Edge.pack(0, 1, "sequential", pixels, pixels, torch.ones(len(pixels)))
    problem.keyframes[1].T_world_cam = Sim3(np.eye(3), np.zeros(3), np.asarray(1.3))
    result = optimize_window(problem.keyframes[:2], [edge], {0}, 0.05)
    assert result is not None and float(result.poses[1].scale) == pytest.approx(1.0, abs=0.02)
