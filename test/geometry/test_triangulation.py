# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transform_strategies import properties

from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.triangulation import triangulate

seeds = st.integers(0, 2**31)


def scene(seed: int) -> tuple[SE3, np.ndarray, np.ndarray]:
    """A random relative pose T_0_1 with a baseline, and points seen by both cameras, in their coordinates."""
    rng = np.random.default_rng(seed)
    X1 = rng.uniform((-1, -1, 2), (1, 1, 6), (50, 3))
    T_0_1 = SE3.exp(np.concatenate([rng.uniform(0.2, 0.8, 3) * rng.choice([-1, 1], 3), rng.uniform(-0.2, 0.2, 3)]))
    return T_0_1, T_0_1 @ X1, X1


@properties
@given(seeds)
def test_exact_rays_give_the_exact_depths(seed):
    T_0_1, X0, X1 = scene(seed)
    found = triangulate(X0 / X0[:, 2:], X1 / X1[:, 2:], T_0_1)
    np.testing.assert_allclose(found.depth0, X0[:, 2], rtol=1e-6)
    np.testing.assert_allclose(found.depth1, X1[:, 2], rtol=1e-6)


@properties
@given(seeds, st.floats(0.01, 100.0))
def test_depths_scale_with_the_baseline_and_parallax_does_not(seed, scale):
    T_0_1, X0, X1 = scene(seed)
    rays0, rays1 = X0 / X0[:, 2:], X1 / X1[:, 2:]
    found = triangulate(rays0, rays1, T_0_1)
    larger = triangulate(rays0, rays1, SE3(T_0_1.rotation, scale * T_0_1.translation))
    np.testing.assert_allclose(larger.depth0, scale * found.depth0, rtol=1e-6)
    np.testing.assert_allclose(larger.parallax, found.parallax)


@properties
@given(seeds)
def test_parallax_is_the_angle_between_the_rays(seed):
    T_0_1, X0, _ = scene(seed)
    X1 = T_0_1.inverse() @ X0
    to_camera0, to_camera1 = -X0, T_0_1.translation - X0
    cosine = (to_camera0 * to_camera1).sum(1) / np.linalg.norm(to_camera0, axis=1) / np.linalg.norm(to_camera1, axis=1)
    found = triangulate(X0 / X0[:, 2:], X1 / X1[:, 2:], T_0_1)
    np.testing.assert_allclose(np.cos(found.parallax), cosine, atol=1e-9)


@properties
@given(seeds)
def test_the_depths_bring_the_rays_closest_to_each_other(seed):
    T_0_1, X0, X1 = scene(seed)
    rng = np.random.default_rng(seed)
    rays0 = X0 / X0[:, 2:] + rng.normal(0, 0.01, X0.shape) * (1, 1, 0)
    rays1 = X1 / X1[:, 2:] + rng.normal(0, 0.01, X1.shape) * (1, 1, 0)
    found = triangulate(rays0, rays1, T_0_1)

    def gap(depth0: np.ndarray, depth1: np.ndarray) -> np.ndarray:
        return np.linalg.norm(depth0[:, None] * rays0 - T_0_1 @ (depth1[:, None] * rays1), axis=1)

    least = gap(found.depth0, found.depth1)
    for change0, change1 in rng.normal(0, 0.05, (8, 2)):
        assert (gap(found.depth0 + change0, found.depth1 + change1) >= least - 1e-9).all()


def test_what_a_rotation_alone_shows_has_no_parallax_and_finite_depths():
    rays1 = np.random.default_rng(0).uniform((-0.5, -0.4, 1), (0.5, 0.4, 1), (50, 3))
    turned = SE3.exp(np.array([0, 0, 0, 0.05, -0.1, 0.02])).rotation
    rays0 = rays1 @ turned.T
    found = triangulate(rays0 / rays0[:, 2:], rays1, SE3(turned, np.array([1.0, 0, 0])))
    assert np.rad2deg(found.parallax).max() < 1e-3
    assert np.isfinite(found.depth0).all() and np.isfinite(found.depth1).all()


def test_a_point_behind_the_cameras_has_a_negative_depth():
    point, T_0_1 = np.array([[0.3, 0.1, -4.0]]), SE3(np.eye(3), np.array([0.5, 0.0, 0.0]))
    seen = T_0_1.inverse() @ point
    found = triangulate(point / point[:, 2:], seen / seen[:, 2:], T_0_1)
    assert found.depth0 == pytest.approx(-4.0) and found.depth1 == pytest.approx(-4.0)
