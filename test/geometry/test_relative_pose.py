# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass

import numpy as np
import pytest

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.relative_pose import RelativePose, pose_by_alignment, pose_by_pnp
from st3r_ros.geometry.transforms import SE3

CAMERA = Camera.from_fov(512, 384, 60.0)
SCALE = 1.7
COUNT = 600


@dataclass(frozen=True, eq=False)
class TwoViews:
    """The same points in camera 0's coordinates, and in camera 1's but 1/SCALE as long; where image 1 shows them."""

    T_0_1: SE3
    points0: np.ndarray
    points1: np.ndarray
    pixels1: np.ndarray


def views(seed: int, depth_noise: float = 0.0) -> TwoViews:
    rng = np.random.default_rng(seed)
    in_camera1 = CAMERA.unproject(rng.uniform((0, 0), (511, 383), (COUNT, 2)), rng.uniform(1.5, 6.0, COUNT))
    pixels1 = CAMERA.project(in_camera1)
    T_0_1 = SE3.exp(np.concatenate([rng.uniform(-0.6, 0.6, 3), rng.uniform(-0.4, 0.4, 3)]))
    noise0, noise1 = rng.normal(1.0, depth_noise, (2, COUNT, 1))
    return TwoViews(T_0_1, T_0_1 @ in_camera1 * noise0, in_camera1 * noise1 / SCALE, pixels1)


def errors(found: RelativePose | None, truth: SE3) -> tuple[float, float]:
    """Distance of the positions, and angle in degrees."""
    assert found is not None
    difference = (found.T_0_1 @ truth.inverse()).log()
    return float(np.linalg.norm(found.T_0_1.translation - truth.translation)), float(np.rad2deg(np.linalg.norm(difference[3:])))


def by_pnp(scene: TwoViews) -> RelativePose | None:
    return pose_by_pnp(scene.points0, scene.pixels1, CAMERA.K)


def by_alignment(scene: TwoViews) -> RelativePose | None:
    return pose_by_alignment(scene.points0, scene.points1, np.ones(COUNT))


both = pytest.mark.parametrize("estimate", [by_pnp, by_alignment])


@both
@pytest.mark.parametrize("seed", range(3))
def test_exact_points_give_the_exact_pose(estimate, seed):
    scene = views(seed)
    found = estimate(scene)
    distance, angle = errors(found, scene.T_0_1)
    assert distance < 1e-3 and angle < 0.01
    assert found.inlier_share == 1.0
    assert found.baseline == pytest.approx(np.linalg.norm(scene.T_0_1.translation), abs=1e-3)
    assert found.rotation_deg == pytest.approx(np.rad2deg(np.linalg.norm(scene.T_0_1.log()[3:])), abs=0.01)
    assert found.scale_ratio == pytest.approx(SCALE if estimate is by_alignment else 1.0, rel=1e-6)


@both
@pytest.mark.parametrize("seed", range(3))
def test_a_third_of_the_points_may_be_wrong_and_some_missing(estimate, seed):
    scene = views(seed, depth_noise=0.02)
    rng = np.random.default_rng(seed + 50)
    wrong = rng.permutation(COUNT) < COUNT // 3
    missing = ~wrong & (rng.permutation(COUNT) < COUNT // 10)
    for array in (scene.points0, scene.points1, scene.pixels1):
        array[wrong] = rng.permutation(array[wrong])
    scene.points0[missing] = np.nan
    found = estimate(scene)
    distance, angle = errors(found, scene.T_0_1)
    assert distance < 0.05 and angle < 1.0
    assert found.inliers[~wrong & ~missing].mean() > 0.85
    assert not found.inliers[missing].any() and found.inliers[wrong].mean() < 0.2


@both
def test_the_parallax_is_the_angle_between_the_directions_to_a_point(estimate):
    rays = CAMERA.unproject(np.random.default_rng(0).uniform((100, 100), (400, 300), (COUNT, 2)), 1.0)
    in_camera1 = 5.0 * rays / np.linalg.norm(rays, axis=1, keepdims=True)
    sideways = SE3(np.eye(3), np.array([0.5, 0.0, 0.0]))
    scene = TwoViews(sideways, sideways @ in_camera1, in_camera1, CAMERA.project(in_camera1))
    assert estimate(scene).parallax_deg == pytest.approx(np.rad2deg(0.5 / 5.0), rel=0.1)
    turned = SE3.exp(np.array([0.0, 0.0, 0.0, 0.1, -0.2, 0.1]))
    scene = TwoViews(turned, turned @ in_camera1, in_camera1, CAMERA.project(in_camera1))
    assert estimate(scene).parallax_deg < 0.01


@both
def test_points_that_determine_no_pose_give_none(estimate):
    scene = views(0)
    for usable in (0, 2):
        gone = TwoViews(scene.T_0_1, np.full_like(scene.points0, np.nan), scene.points1, scene.pixels1)
        gone.points0[:usable] = scene.points0[:usable]
        assert estimate(gone) is None
    line = np.outer(np.linspace(1.0, 2.0, COUNT), (0.1, 0.2, 1.0))
    assert pose_by_alignment(line, line, np.ones(COUNT)) is None


def test_points_without_confidence_do_not_move_the_alignment():
    scene = views(1)
    conf = np.ones(COUNT)
    conf[: COUNT // 2] = 1e-9
    scene.points1[: COUNT // 2] *= 1.3
    found = pose_by_alignment(scene.points0, scene.points1, conf)
    distance, angle = errors(found, scene.T_0_1)
    assert distance < 1e-3 and angle < 0.01 and found.scale_ratio == pytest.approx(SCALE, rel=1e-4)
