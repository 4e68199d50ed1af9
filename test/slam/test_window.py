# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam import window
from st3r_ros.slam.residuals import GEMAN_MCCLURE
from st3r_ros.slam.window import WindowResult, optimize_window
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


def make(*, noise_px: float = 0.0, outliers: float = 0.0, seed: int = 0) -> Problem:
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
        pointmap, conf = np.zeros((120, 160, 3), np.float32), np.zeros((120, 160), np.float32)
        pointmap[at[:, 1], at[:, 0]], conf[at[:, 1], at[:, 0]] = X, 1.0
        image = np.zeros((120, 160, 3), np.uint8)
        keyframes.append(Keyframe(i, i, i, T, torch.from_numpy(pointmap), torch.from_numpy(conf), image, np.array(CAMERA.K)))
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


def world_points(problem: Problem, result: WindowResult, number: int) -> np.ndarray:
    """Where the optimized keyframe puts its points, (P, 3), in the order of `problem.world`."""
    update = result.points[number]
    X = problem.keyframes[number].X[update.rows, update.columns] * update.log_depth.exp()[:, None]
    found = {(c, r): x for c, r, x in zip(update.columns.tolist(), update.rows.tolist(), X.double().numpy(), strict=True)}
    in_order = np.array([found.get(tuple(p), (np.nan,) * 3) for p in np.rint(problem.pixels[number]).astype(int).tolist()])
    return result.poses[number] @ in_order


def test_an_exact_map_stays_as_it_is():
    problem = make()
    truth = [k.T_world_cam for k in problem.keyframes]
    result = problem.optimize({0, 1})
    assert max(pose_errors(problem, truth, result.poses)) < 1e-2
    assert result.rmse_before_px < 0.15 and result.rmse_px < 0.15  # edges keep sixteenths of a pixel


@pytest.mark.parametrize("seed", range(3))
def test_disturbed_poses_and_depths_come_back(seed):
    problem = make(seed=seed)
    truth = [k.T_world_cam for k in problem.keyframes]
    disturb(problem, {0, 1}, seed=seed)
    result = problem.optimize({0, 1})
    before = pose_errors(problem, truth, {k.id: k.T_world_cam for k in problem.keyframes})
    distance, angle = pose_errors(problem, truth, result.poses)
    assert distance < 0.01 < before[0] and angle < 0.1 < before[1]
    assert result.rmse_px < 0.1 * result.rmse_before_px
    for number in (2, 3):
        error = np.linalg.norm(world_points(problem, result, number) - problem.world, axis=1)
        assert np.nanmedian(error) < 0.02 and np.isnan(error).mean() < 0.2  # a sixteenth of a pixel is another pixel at times


def test_fixed_keyframes_do_not_move():
    problem = make(noise_px=0.5)
    result = problem.optimize({0, 2})
    for number in (0, 2):
        before, after = problem.keyframes[number].T_world_cam, result.poses[number]
        np.testing.assert_allclose(after.as_matrix(), before.as_matrix(), atol=1e-12)
    assert any(np.abs(result.poses[i].translation - problem.keyframes[i].T_world_cam.translation).max() > 1e-6 for i in (1, 3))


def test_one_fixed_keyframe_leaves_the_scale_where_it_is():
    problem = make()
    truth = [k.T_world_cam for k in problem.keyframes]
    disturb(problem, {0})
    result = problem.optimize({0})
    length = np.linalg.norm(result.poses[3].translation) / np.linalg.norm(truth[3].translation)
    assert length == pytest.approx(1.0, abs=0.1) and result.rmse_px < 0.1


def test_outliers_are_voted_down():
    problem = make(noise_px=0.3, outliers=0.2)
    truth = [k.T_world_cam for k in problem.keyframes]
    disturb(problem, {0, 1}, pose=0.01, depth=0.03)
    distance, angle = pose_errors(problem, truth, problem.optimize({0, 1}).poses)
    clean = make(noise_px=0.3)
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
    result = problem.optimize({0, 1})
    assert len(result.points[3].rows) == 0 and len(result.points[2].rows) > 100


def test_points_seen_in_more_keyframes_are_known_better():
    problem = make()
    everything = problem.optimize({0, 1}).points[2].information
    only_one = replace(problem, edges=[e for e in problem.edges if (e.i, e.j) in ((1, 0), (2, 1), (3, 2))])
    assert bool((everything >= 0).all())
    assert float(everything.median()) > float(only_one.optimize({0, 1}).points[2].information.median())


# The derivatives -----------------------------------------------------------------------------------------------------


def cost(obs: window._Observations, poses: list[Sim3], delta: np.ndarray) -> float:
    """What the optimization minimizes, written down without derivatives."""
    X = (obs.X.numpy() * np.exp(delta)[:, None])[obs.point.numpy()]
    total = 0.5 * obs.prior.numpy() @ delta**2
    for x, i, j, pixel, weight in zip(X, obs.source, obs.target, obs.pixels.numpy(), obs.weight, strict=True):
        in_target = poses[j].inverse() @ (poses[i] @ x)
        normalized = np.linalg.norm(CAMERA.project(in_target) - pixel) / window.PIXEL_SIGMA
        total += float(weight) * 0.5 * normalized**2 / (1 + (normalized / GEMAN_MCCLURE) ** 2)
    return float(total)


@pytest.fixture
def observations() -> tuple[window._Observations, list[Sim3]]:
    problem = make(noise_px=0.5, outliers=0.1)
    edges = [Edge.pack(e.i, e.j, e.kind, e.pixels_i[:8], e.pixels_j[:8], e.weight[:8]) for e in problem.edges]
    obs = window._collect(problem.keyframes, edges, DEPTH_SIGMA)
    assert obs is not None
    return obs, [k.T_world_cam for k in problem.keyframes]


def moved(poses: list[Sim3], number: int, xi: np.ndarray) -> list[Sim3]:
    return [T @ Sim3.exp(xi) if i == number else T for i, T in enumerate(poses)]


def test_the_gradient_is_that_of_the_robust_cost(observations):
    obs, poses = observations
    delta, step = np.random.default_rng(2).normal(0, 0.02, len(obs.prior)), 1e-6
    system = window._linearize(obs, poses, torch.from_numpy(delta))
    numeric_pose = [
        (cost(obs, moved(poses, i, step * a), delta) - cost(obs, moved(poses, i, -step * a), delta)) / (2 * step)
        for i in range(KEYFRAMES)
        for a in np.eye(7)
    ]
    numeric_depth = [
        (cost(obs, poses, delta + step * a) - cost(obs, poses, delta - step * a)) / (2 * step) for a in np.eye(len(delta))[:10]
    ]
    np.testing.assert_allclose(system.g, numeric_pose, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(system.g_point[:10], numeric_depth, rtol=1e-4, atol=1e-3)


def test_without_residuals_the_normal_matrix_is_the_derivative_of_the_gradient(observations):
    obs, poses = observations
    source, target, X = obs.source.tolist(), obs.target.tolist(), obs.X.numpy()[obs.point.numpy()]
    exact = [CAMERA.project(poses[j].inverse() @ (poses[i] @ x)) for i, j, x in zip(source, target, X, strict=True)]
    obs, zero, step = replace(obs, pixels=torch.from_numpy(np.array(exact))), torch.zeros_like(obs.prior), 1e-6
    system = window._linearize(obs, poses, zero)
    columns = []
    for i in range(KEYFRAMES):
        for a in np.eye(7):
            high, low = (window._linearize(obs, moved(poses, i, s * a), zero) for s in (step, -step))
            columns.append(torch.cat([high.g - low.g, high.g_point - low.g_point]) / (2 * step))
    derivative = torch.stack(columns, dim=1)
    n = 7 * KEYFRAMES
    np.testing.assert_allclose(system.H, derivative[:n], atol=1e-4 * float(system.H.abs().max()))
    np.testing.assert_allclose(system.E, derivative[n:], atol=1e-4 * float(system.E.abs().max()))
    e = step * torch.ones_like(zero)
    by_depth = (window._linearize(obs, poses, e).g_point - window._linearize(obs, poses, -e).g_point) / (2 * step)
    np.testing.assert_allclose(system.h_point, by_depth, rtol=1e-4)
