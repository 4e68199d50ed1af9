# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam import tracking
from st3r_ros.slam.projection import GEMAN_MCCLURE, HUBER
from st3r_ros.slam.tracking import TrackingProblem, make_problem, track
from st3r_ros.types import Matches

CAMERA = Camera.from_fov(320, 240, 70.0)
T_CAM_KF = Sim3.exp(np.array([0.2, -0.1, 0.15, 0.05, -0.1, 0.04, 0.0]))


def make(
    T_cam_kf: Sim3 = T_CAM_KF,
    *,
    count: int = 150,
    noise_px: float = 0.0,
    outliers: float = 0.0,
    depth_sigma: float = 0.02,
    claimed_depth: bool = False,
    seed: int = 0,
) -> TrackingProblem:
    """Points of a keyframe with errors as their information tells, seen in a frame; the first ones matched wrongly."""
    rng = np.random.default_rng(seed)
    true = CAMERA.unproject(rng.uniform((10, 10), (309, 229), (count, 2)), rng.uniform(1.5, 6.0, count))
    in_frame = T_cam_kf @ true
    pixels = CAMERA.project(in_frame) + rng.normal(0, noise_px, (count, 2))
    wrong = round(outliers * count)
    pixels[:wrong] = rng.uniform((0, 0), (319, 239), (wrong, 2))
    points = true * np.exp(rng.normal(0, depth_sigma, (count, 1))) if noise_px else true
    one = torch.ones(count, dtype=torch.float64)
    problem = TrackingProblem(torch.from_numpy(points), one / depth_sigma**2, torch.from_numpy(pixels), one.clone(), CAMERA.K)
    if not claimed_depth:
        return problem
    claimed = torch.from_numpy(in_frame[:, 2].copy())
    return dataclasses.replace(problem, frame_depth=claimed, frame_information=one / 0.05**2)


def errors(found: Sim3, truth: Sim3) -> tuple[float, float]:
    """Distance of the translations and angle in degrees, of T_cam_kf."""
    difference = (found @ truth.inverse()).log()
    return float(np.linalg.norm(found.translation - truth.translation)), float(np.rad2deg(np.linalg.norm(difference[3:6])))


def huber(normalized: np.ndarray) -> np.ndarray:
    return np.where(normalized < HUBER, 0.5 * normalized**2, HUBER * (normalized - 0.5 * HUBER))


def geman_mcclure(normalized: np.ndarray) -> np.ndarray:
    return 0.5 * normalized**2 / (1.0 + (normalized / GEMAN_MCCLURE) ** 2)


def cost(problem: TrackingProblem, T_cam_kf: Sim3, delta: np.ndarray, redescend: bool) -> float:
    """What the solver minimizes, written down without derivatives."""
    points = T_cam_kf @ (problem.points.numpy() * np.exp(delta)[:, None])
    distance = np.linalg.norm(CAMERA.project(points) - problem.pixels.numpy(), axis=1) / tracking.PIXEL_SIGMA
    total = problem.weight.numpy() @ (geman_mcclure(distance) if redescend else huber(distance))
    total += 0.5 * problem.information.numpy() @ delta**2
    if problem.frame_depth is not None:
        ratio = np.log(points[:, 2] / problem.frame_depth.numpy())
        total += huber(np.abs(ratio) * np.sqrt(problem.frame_information.numpy())).sum()
    return float(total)


def gradient(system: tracking._System) -> tuple[np.ndarray, np.ndarray]:
    """By pose (7,) and by depth (N,), with the elimination of the depths undone."""
    by_pose = system.g + (system.E * (system.g_point / system.h_point)[:, None]).sum(0)
    return by_pose.numpy(), system.g_point.numpy()


def linearize(problem: TrackingProblem, T: Sim3, delta: np.ndarray, redescend: bool = True) -> tracking._System:
    return tracking._linearize(problem, T, torch.from_numpy(delta), torch.tensor(problem.K), redescend)


@pytest.mark.parametrize("redescend", [True, False])
@pytest.mark.parametrize("claimed_depth", [True, False])
def test_the_gradient_is_that_of_the_robust_cost(claimed_depth, redescend):
    problem = make(count=25, noise_px=1.0, outliers=0.2, claimed_depth=claimed_depth)
    rng = np.random.default_rng(1)
    T, delta, step = Sim3.exp(0.01 * rng.normal(size=7)) @ T_CAM_KF, rng.normal(0, 0.02, 25), 1e-6

    def central(change) -> float:
        return (cost(problem, *change(step), redescend) - cost(problem, *change(-step), redescend)) / (2 * step)

    numeric_pose = [central(lambda e, a=a: (Sim3.exp(e * a) @ T, delta)) for a in np.eye(7)]
    numeric_depth = [central(lambda e, a=a: (T, delta + e * a)) for a in np.eye(25)]
    by_pose, by_depth = gradient(linearize(problem, T, delta, redescend))
    np.testing.assert_allclose(by_pose, numeric_pose, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(by_depth, numeric_depth, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("claimed_depth", [True, False])
def test_without_residuals_the_normal_matrix_is_the_derivative_of_the_gradient(claimed_depth):
    problem, zero, step = make(count=20, claimed_depth=claimed_depth), np.zeros(20), 1e-6
    system = linearize(problem, T_CAM_KF, zero)

    def derivative(change) -> tuple[np.ndarray, np.ndarray]:
        high, low = (gradient(linearize(problem, *change(e))) for e in (step, -step))
        return tuple((above - below) / (2 * step) for above, below in zip(high, low, strict=True))

    pose_rows = [derivative(lambda e, a=a: (Sim3.exp(e * a) @ T_CAM_KF, zero)) for a in np.eye(7)]
    depth_rows = [derivative(lambda e, a=a: (T_CAM_KF, zero + e * a)) for a in np.eye(20)]
    E = system.E.numpy()
    H = system.H.numpy() + E.T @ (E / system.h_point.numpy()[:, None])
    scale = np.abs(H).max()
    np.testing.assert_allclose(H, [by_pose for by_pose, _ in pose_rows], atol=1e-4 * scale)
    np.testing.assert_allclose(E.T, [by_depth for _, by_depth in pose_rows], atol=1e-4 * np.abs(E).max())
    np.testing.assert_allclose(np.diag(system.h_point), [by_depth for _, by_depth in depth_rows], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_a_perturbed_guess_comes_back_to_the_truth(seed):
    problem = make(seed=seed)
    off = Sim3.exp(np.append(0.05 * np.random.default_rng(seed).normal(size=6), 0.0))
    result = track(problem, (off @ T_CAM_KF).inverse())
    distance, angle = errors(result.T_kf_cam.inverse(), T_CAM_KF)
    assert distance < 1e-3 and angle < 0.02
    assert result.inliers.all() and result.rmse_px < 0.05
    assert float(result.T_kf_cam.scale) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_guess_that_is_far_off_is_replaced_by_pnp(seed):
    far = Sim3.exp(np.array([1.0, -0.5, 0.8, 0.5, -0.7, 0.9, 0.0]))
    result = track(make(far, noise_px=0.5, seed=seed), Sim3.identity())
    distance, angle = errors(result.T_kf_cam.inverse(), far)
    assert distance < 0.05 and angle < 1.0 and result.inliers.double().mean() > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_two_fifths_of_the_matches_may_be_wrong(seed):
    problem = make(count=200, noise_px=0.5, outliers=0.4, seed=seed)
    result = track(problem, Sim3.identity())
    distance, angle = errors(result.T_kf_cam.inverse(), T_CAM_KF)
    assert distance < 0.03 and angle < 0.5
    assert result.inliers[80:].double().mean() > 0.95 and result.inliers[:80].double().mean() < 0.2


def test_claimed_depths_in_another_scale_give_that_scale():
    problem = make(claimed_depth=True)
    problem = dataclasses.replace(problem, frame_depth=2.0 * problem.frame_depth)
    result = track(problem, T_CAM_KF.inverse())
    # In units of the frame everything is twice as large; pixels do not tell.
    assert float(result.T_kf_cam.scale) == pytest.approx(0.5, rel=1e-2)
    np.testing.assert_allclose(result.T_kf_cam.translation, T_CAM_KF.inverse().translation, atol=0.01)


def test_the_covariance_tells_how_large_the_errors_are():
    """NEES of the camera pose over many seeded trials with the noise that the problem claims."""
    nees = []
    for seed in range(200):
        problem = make(count=80, noise_px=tracking.PIXEL_SIGMA, depth_sigma=0.05, seed=seed)
        result = track(problem, T_CAM_KF.inverse())
        error = (result.T_kf_cam.inverse() @ T_CAM_KF.inverse()).log()[:6]
        nees.append(error @ np.linalg.solve(result.covariance[:6, :6], error))
    assert 0.5 * 6 < np.mean(nees) < 2 * 6


def test_the_covariance_shrinks_with_more_points():
    few, many = (track(make(count=n, noise_px=1.0), T_CAM_KF.inverse()).covariance[:6, :6] for n in (40, 400))
    assert np.trace(many[:3, :3]) < 0.3 * np.trace(few[:3, :3]) and np.trace(many[3:, 3:]) < 0.3 * np.trace(few[3:, 3:])
    np.testing.assert_allclose(many, many.T, atol=1e-12)
    assert (np.linalg.eigvalsh(many) > 0).all()


def test_vague_depths_are_corrected_by_what_the_frame_sees():
    problem = make(count=150)
    rng = np.random.default_rng(4)
    off = torch.from_numpy(rng.normal(0, 0.2, 150) * (np.arange(150) < 30))
    vague = dataclasses.replace(
        problem,
        points=problem.points * off.exp()[:, None],
        information=torch.where(off != 0, 1.0, problem.information),
    )
    result = track(vague, T_CAM_KF.inverse())
    assert float((result.log_depth + off)[:30].abs().median()) < 0.02
    assert float(result.log_depth[30:].abs().max()) < 0.01
    assert bool((result.information >= 0).all())


def test_points_behind_the_frame_are_no_inliers():
    problem = make()
    behind = torch.cat([problem.points, -problem.points[:20]])
    one = torch.cat([problem.weight, problem.weight[:20]])
    problem = dataclasses.replace(
        problem,
        points=behind,
        pixels=torch.cat([problem.pixels, problem.pixels[:20]]),
        information=one * 100.0,
        weight=one,
    )
    assert not track(problem, T_CAM_KF.inverse()).inliers[150:].any()


def test_a_problem_lifts_the_keyframe_pixels_of_the_matches():
    rng = np.random.default_rng(5)
    pixels0, pixels1 = (torch.from_numpy(rng.uniform((0, 0), (319, 239), (30, 2)).astype(np.float32)) for _ in range(2))
    depth = torch.from_numpy(rng.uniform(1, 5, 30))
    problem = make_problem(Matches(pixels0, pixels1, torch.ones(30), 40), depth, torch.ones(30), CAMERA.K, CAMERA.K)
    np.testing.assert_allclose(CAMERA.project(problem.points.numpy()), pixels1.numpy(), atol=1e-4)
    np.testing.assert_allclose(problem.points[:, 2], depth)
    np.testing.assert_allclose(problem.pixels, pixels0)
