# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.tracking import frame_pose as tracking
from st3r_ros.slam.tracking.frame_pose import TrackingProblem, solve, track
from st3r_ros.solver.damped import Minimum, minimize_unseen
from st3r_ros.solver.residuals import Observations, PixelObservations, RayObservations

CAMERA = Camera.from_fov(320, 240, 70.0)
T_CAM_KF = Sim3.exp(np.array([0.2, -0.1, 0.15, 0.05, -0.1, 0.04, 0.0]))
KINDS = ["pixels", "rays"]


def observations(kind: str, pixels: np.ndarray) -> Observations:
    if kind == "pixels":
        return PixelObservations(torch.from_numpy(pixels), torch.tensor(CAMERA.K))
    rays = CAMERA.unproject(pixels)
    return RayObservations(torch.from_numpy(rays / np.linalg.norm(rays, axis=1, keepdims=True)), float(CAMERA.K[0, 0]))


def depth_of(kind: str, points: np.ndarray) -> np.ndarray:
    return points[:, 2] if kind == "pixels" else np.linalg.norm(points, axis=1)


def make(
    T_cam_kf: Sim3 = T_CAM_KF,
    *,
    count: int = 150,
    noise_px: float = 0.0,
    outliers: float = 0.0,
    depth_sigma: float = 0.02,
    gross: float = 0.0,
    claimed_depth: bool = False,
    kind: str = "pixels",
    seed: int = 0,
) -> TrackingProblem:
    """Points of a keyframe with errors as their information tells, seen in a frame; the first ones matched wrongly.

    gross: share of the points, the last ones, whose depth is far off though claimed to be good.
    """
    rng = np.random.default_rng(seed)
    true = CAMERA.unproject(rng.uniform((10, 10), (309, 229), (count, 2)), rng.uniform(1.5, 6.0, count))
    in_frame = T_cam_kf @ true
    pixels = CAMERA.project(in_frame) + rng.normal(0, noise_px, (count, 2))
    wrong = round(outliers * count)
    pixels[:wrong] = rng.uniform((0, 0), (319, 239), (wrong, 2))
    points = true * np.exp(rng.normal(0, depth_sigma, (count, 1))) if noise_px else true
    far_off = round(gross * count)
    points[count - far_off :] *= rng.uniform(0.3, 3.0, (far_off, 1))
    one = torch.ones(count, dtype=torch.float64)
    problem = TrackingProblem(torch.from_numpy(points), one / depth_sigma**2, observations(kind, pixels), one.clone())
    if not claimed_depth:
        return problem
    claimed = depth_of(kind, in_frame) * (np.exp(rng.normal(0, depth_sigma, count)) if noise_px else 1.0)
    claimed[:wrong] = rng.uniform(1.5, 6.0, wrong)
    claimed[: far_off // 2] *= 2.0
    return dataclasses.replace(problem, frame_depth=torch.from_numpy(claimed), frame_information=one / 0.05**2)


def some(problem: TrackingProblem, index: torch.Tensor) -> TrackingProblem:
    """Some of the matches."""
    return TrackingProblem(**{name: value[index] for name, value in vars(problem).items() if value is not None})


def errors(found: Sim3, truth: Sim3) -> tuple[float, float]:
    """Distance of the translations and angle in degrees, of T_cam_kf."""
    difference = (found @ truth.inverse()).log()
    return float(np.linalg.norm(found.translation - truth.translation)), float(np.rad2deg(np.linalg.norm(difference[3:6])))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_a_perturbed_guess_comes_back_to_the_truth(kind, seed):
    problem = make(seed=seed, kind=kind)
    off = Sim3.exp(np.append(0.05 * np.random.default_rng(seed).normal(size=6), 0.0))
    result = track(problem, (off @ T_CAM_KF).inverse())
    distance, angle = errors(result.T_kf_cam.inverse(), T_CAM_KF)
    assert distance < 1e-3 and angle < 0.02
    assert result.inliers.all() and result.rmse_px < 0.05
    assert float(result.T_kf_cam.scale) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_a_guess_that_is_far_off_is_replaced_by_pnp(kind, seed):
    far = Sim3.exp(np.array([1.0, -0.5, 0.8, 0.5, -0.7, 0.9, 0.0]))
    result = track(make(far, noise_px=0.5, seed=seed, kind=kind), Sim3.identity())
    distance, angle = errors(result.T_kf_cam.inverse(), far)
    assert distance < 0.05 and angle < 1.0 and result.inliers.double().mean() > 0.9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_two_fifths_of_the_matches_may_be_wrong(kind, seed):
    problem = make(count=200, noise_px=0.5, outliers=0.4, seed=seed, kind=kind)
    result = track(problem, Sim3.identity())
    distance, angle = errors(result.T_kf_cam.inverse(), T_CAM_KF)
    assert distance < 0.03 and angle < 0.5
    assert result.inliers[80:].double().mean() > 0.95 and result.inliers[:80].double().mean() < 0.2


@pytest.mark.parametrize("claimed_depth", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_models_errors_do_not_keep_it_from_the_truth(kind, claimed_depth):
    """From identity, over typical motions: wrong matches, noise in pixels and depths, depths far off with high confidence."""
    distances, angles = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        T = Sim3.exp(np.concatenate([0.15 * rng.normal(size=3), 0.08 * rng.normal(size=3), [0.0]]))
        problem = make(
            T,
            count=400,
            noise_px=0.7,
            outliers=0.1,
            depth_sigma=0.03,
            gross=0.005,
            claimed_depth=claimed_depth,
            kind=kind,
            seed=seed,
        )
        if claimed_depth:
            problem = dataclasses.replace(problem, frame_depth=1.2 * problem.frame_depth)
        result = track(problem, Sim3.identity())
        distance, angle = errors(result.T_kf_cam, T.inverse())
        distances.append(distance)
        angles.append(angle)
        assert result.inliers[40:-2].double().mean() > 0.97 and result.inliers[:40].double().mean() < 0.25
        scale = 1 / 1.2 if claimed_depth else 1.0
        assert float(result.T_kf_cam.scale) == pytest.approx(scale, rel=0.01)
    assert max(distances) < 0.02 and max(angles) < 0.25


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_outliers_that_all_pull_to_one_side_do_not_make_it_diverge(kind, seed):
    problem = make(count=300, noise_px=0.5, kind=kind, seed=seed)
    pixels = CAMERA.project(T_CAM_KF @ problem.points.numpy())
    pixels[:45] += (60.0, 5.0)
    problem = dataclasses.replace(problem, seen=observations(kind, pixels))
    distance, angle = errors(track(problem, Sim3.identity()).T_kf_cam.inverse(), T_CAM_KF)
    assert distance < 0.02 and angle < 0.3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_repeated_things_with_vague_depths_do_not_drag_the_pose_to_where_all_agree_a_little(kind, seed):
    """Two strips beside a masked middle; half of the left one matched one repetition too low."""
    rng, count, wrong, depth_sigma = np.random.default_rng(seed), 110, 30, 0.15
    T = Sim3.exp(np.array([0.15, 0.02, 0.05, 0.0, 0.16, 0.0, 0.0]))
    left, right = rng.uniform((30, 40), (75, 225), (count // 2, 2)), rng.uniform((240, 10), (315, 225), (count // 2, 2))
    depth = np.concatenate([rng.uniform(2.0, 2.3, count // 2), rng.uniform(2.5, 3.5, count // 2)])
    true = CAMERA.unproject(np.concatenate([left, right]), depth)
    pixels = CAMERA.project(T @ true) + rng.normal(0, 0.2, (count, 2))
    pixels[:wrong] += (0.0, 16.0)
    points = torch.from_numpy(true * np.exp(rng.normal(0, depth_sigma, (count, 1))))
    one = torch.ones(count, dtype=torch.float64)
    guess = Sim3.exp(np.array([0.0, 0.0, 0.0, 0.0, 0.04, 0.0, 0.0])) @ T
    result = track(TrackingProblem(points, one / depth_sigma**2, observations(kind, pixels), one), guess.inverse())
    _, angle = errors(result.T_kf_cam.inverse(), T)
    assert angle < 1.5
    assert not result.inliers[:wrong].any() and result.close > 0.7 * (count - wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_claimed_depths_in_another_scale_give_that_scale(kind):
    problem = make(claimed_depth=True, kind=kind)
    problem = dataclasses.replace(problem, frame_depth=2.0 * problem.frame_depth)
    result = track(problem, T_CAM_KF.inverse())
    # In units of the frame everything is twice as large; pixels do not tell.
    assert float(result.T_kf_cam.scale) == pytest.approx(0.5, rel=1e-2)
    np.testing.assert_allclose(result.T_kf_cam.translation, T_CAM_KF.inverse().translation, atol=0.01)


def test_without_claimed_depths_the_scale_stays_that_of_the_guess():
    guess = Sim3.exp(np.array([0.05, 0.0, 0.0, 0.02, 0.0, 0.0, 0.4])) @ T_CAM_KF.inverse()
    result = track(make(), guess)
    assert float(result.T_kf_cam.scale) == pytest.approx(float(guess.scale), rel=0.02)
    np.testing.assert_allclose(result.T_kf_cam.translation, T_CAM_KF.inverse().translation, atol=0.01)


def test_many_matches_are_solved_by_some_and_judged_by_all():
    problem = make(count=4000, noise_px=0.5, outliers=0.1)
    result = track(problem, Sim3.identity())
    distance, angle = errors(result.T_kf_cam.inverse(), T_CAM_KF)
    assert distance < 0.01 and angle < 0.05
    assert len(result.inliers) == len(result.log_depth) == len(result.information) == 4000
    assert result.inliers[400:].double().mean() > 0.98 and result.inliers[:400].double().mean() < 0.1
    few = track(some(problem, torch.arange(0, 4000, 4)), Sim3.identity())
    np.testing.assert_allclose(few.log_depth, result.log_depth[::4], atol=0.02)


@pytest.mark.parametrize("claimed_depth", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_solver_never_waits_for_the_device(kind, claimed_depth):
    """The meta device, whose tensors have no values, refuses to give any."""

    def on_meta(value):
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    problem = make(kind=kind, claimed_depth=claimed_depth)
    there = {name: on_meta(value) for name, value in vars(problem).items()}
    seen = type(problem.seen)(*(on_meta(value) for value in vars(problem.seen).values()))
    points = TrackingProblem(**{**there, "seen": seen}).stated()
    for guessed in (True, False):
        found = solve(points, points, torch.eye(4, dtype=torch.float64, device="meta"), guessed=guessed)
        assert found.T_cam_kf.device.type == "meta" and found.T_cam_kf.shape == (4, 4)
        assert found.distance_px.shape == found.log_depth.shape == (150,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_is_never_asked_gives_the_same_pose(kind, monkeypatch):
    problem = make(kind=kind, noise_px=0.7, outliers=0.1, claimed_depth=True)
    seen = track(problem, Sim3.identity())
    monkeypatch.setattr(tracking, "minimize", lambda pose, schedule: Minimum(minimize_unseen(pose, schedule), 0, True))
    unseen = track(problem, Sim3.identity())
    np.testing.assert_allclose(unseen.T_kf_cam.log(), seen.T_kf_cam.log(), atol=2e-4)
    np.testing.assert_allclose(unseen.covariance, seen.covariance, rtol=0.02, atol=1e-8)


def test_points_and_claims_that_are_none_are_left_out():
    problem = make(claimed_depth=True)
    assert problem.frame_depth is not None
    problem.points[:3] = torch.tensor([[torch.nan], [torch.inf], [-torch.inf]])
    problem.frame_depth[3:6] = torch.tensor([0.0, torch.nan, -1.0])
    result = track(problem, Sim3.identity())
    distance, angle = errors(result.T_kf_cam.inverse(), T_CAM_KF)
    assert distance < 1e-3 and angle < 0.02
    assert not result.inliers[:3].any() and bool(result.inliers[3:].all())


def test_the_covariance_tells_how_large_the_errors_are():
    """NEES of the camera pose over many seeded trials with the noise that the problem claims."""
    nees = []
    for seed in range(100):
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
    index = torch.cat([torch.arange(150), torch.arange(20)])
    doubled = some(problem, index)
    doubled = dataclasses.replace(doubled, points=torch.cat([problem.points, -problem.points[:20]]))
    assert not track(doubled, T_CAM_KF.inverse()).inliers[150:].any()
