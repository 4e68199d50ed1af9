# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pnp import solve_pnp
from st3r_ros.geometry.transforms import SE3

CAMERA = Camera.from_fov(320, 240, 70.0)


def scene(seed: int, count: int = 120) -> tuple[SE3, np.ndarray, np.ndarray]:
    """A far-off pose T_cam_points, points and their exact pixels."""
    rng = np.random.default_rng(seed)
    in_camera = CAMERA.unproject(rng.uniform((0, 0), (319, 239), (count, 2)), rng.uniform(1.5, 6.0, count))
    T = SE3.exp(np.concatenate([rng.uniform(-2, 2, 3), rng.uniform(-1.5, 1.5, 3)]))
    return T, T.inverse() @ in_camera, CAMERA.project(in_camera)


def errors(found: SE3, truth: SE3) -> tuple[float, float]:
    """Distance of the camera's positions, and angle in degrees."""
    difference = found @ truth.inverse()
    distance = np.linalg.norm(found.inverse().translation - truth.inverse().translation)
    return float(distance), float(np.rad2deg(np.linalg.norm(difference.log()[3:])))


@pytest.mark.parametrize("seed", range(5))
def test_exact_matches_give_the_exact_pose(seed):
    T, points, pixels = scene(seed)
    found = solve_pnp(points, pixels, CAMERA.K)
    distance, angle = errors(found.T_cam_points, T)
    assert distance < 1e-3 and angle < 0.01
    assert found.inliers.shape == (120,) and found.inliers.all()


@pytest.mark.parametrize("seed", range(5))
def test_two_fifths_of_the_matches_may_be_wrong(seed):
    T, points, pixels = scene(seed)
    rng = np.random.default_rng(seed + 100)
    noisy = pixels + rng.normal(0, 0.5, pixels.shape)
    wrong = rng.permutation(120) < 48
    noisy[wrong] = rng.uniform((0, 0), (319, 239), (48, 2))
    found = solve_pnp(points, noisy, CAMERA.K)
    distance, angle = errors(found.T_cam_points, T)
    assert distance < 0.05 and angle < 1.0
    near = np.linalg.norm(noisy - pixels, axis=1) < 10.0
    assert found.inliers[~wrong].mean() > 0.9 and not found.inliers[wrong & ~near].any()


def test_the_inliers_are_those_within_the_threshold():
    _, points, pixels = scene(7)
    pixels[:10] += (0.0, 6.0)
    assert not solve_pnp(points, pixels, CAMERA.K, threshold_px=3.0).inliers[:10].any()
    assert solve_pnp(points, pixels, CAMERA.K, threshold_px=12.0).inliers.all()


def test_float32_arrays_are_as_good():
    T, points, pixels = scene(8)
    found = solve_pnp(points.astype(np.float32), pixels.astype(np.float32), CAMERA.K)
    assert max(errors(found.T_cam_points, T)) < 0.01


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_points_give_no_pose(count):
    _, points, pixels = scene(0, 20)
    assert solve_pnp(points[:count], pixels[:count], CAMERA.K) is None


def test_random_matches_give_no_pose_that_many_support():
    rng = np.random.default_rng(3)
    points, pixels = rng.uniform((-2, -2, 2), (2, 2, 6), (100, 3)), rng.uniform((0, 0), (319, 239), (100, 2))
    found = solve_pnp(points, pixels, CAMERA.K)
    assert found is None or found.inliers.sum() < 15


def test_the_same_matches_give_the_same_pose_again():
    _, points, pixels = scene(9)
    pixels += np.random.default_rng(0).normal(0, 1.0, pixels.shape)
    first, second = (solve_pnp(points, pixels, CAMERA.K) for _ in range(2))
    np.testing.assert_array_equal(first.T_cam_points.as_matrix(), second.T_cam_points.as_matrix())
