# SPDX-License-Identifier: Apache-2.0
"""Poses from points whose depths are off: found, and as uncertain as they claim to be."""

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from st3r_ros.geometry import so3
from st3r_ros.geometry.pnp_refinement import FIELD_NODES, UncertainPoints, linearize, refine_pnp
from st3r_ros.geometry.transforms import SE3

K = np.array([[400.0, 0, 255.5], [0, 400.0, 191.5], [0, 0, 1]])
SIZE = np.array([512, 384])


class Scene:
    """A reference that sees n points, and a query that sees the same ones from elsewhere."""

    def __init__(self, seed: int, n: int = 400, depth_sigma: float = 0.03, pixel_sigma: float = 0.7, outliers: float = 0.0):
        rng = np.random.default_rng(seed)
        at = rng.uniform(0, 1, (n, 2))
        rays = np.concatenate([(at * (SIZE - 1) - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((n, 1))], axis=1)
        true = rays * rng.uniform(2.0, 5.0, (n, 1))
        nodes = rng.normal(0.0, depth_sigma, (FIELD_NODES, FIELD_NODES))
        grid = np.linspace(0, 1, FIELD_NODES)
        error = RegularGridInterpolator((grid, grid), nodes)(at[:, ::-1]) + rng.normal(0, 0.3 * depth_sigma, n)
        points = true * np.exp(error)[:, None]
        self.T = SE3.exp(rng.normal(0, 1, 6) * [0.4, 0.4, 0.3, 0.1, 0.1, 0.1])
        seen = self.T.act(true)
        self.pixels = seen[:, :2] / seen[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2] + rng.normal(0, pixel_sigma, (n, 2))
        wrong = rng.random(n) < outliers
        self.pixels[wrong] = rng.uniform(0, SIZE, (int(wrong.sum()), 2))
        self.wrong = wrong
        sigma = np.full(n, max(depth_sigma, 1e-6))
        self.matched = UncertainPoints(points, points, sigma, at, np.zeros(n, np.int64))
        self.near = SE3.exp(rng.normal(0, 0.02, 6)) @ self.T

    def error(self, T_cam_points: SE3) -> np.ndarray:
        """(6,) tangent left of the pose found that leads to the true one."""
        return (self.T @ T_cam_points.inverse()).log()


@pytest.mark.parametrize("seed", range(5))
def test_exact_matches_give_the_exact_pose(seed):
    scene = Scene(seed, depth_sigma=0.0, pixel_sigma=0.0)
    found = refine_pnp(scene.matched, scene.pixels, K, scene.near)
    np.testing.assert_allclose(found.T_cam_points.as_matrix(), scene.T.as_matrix(), atol=1e-6)
    assert found.inliers.all() and found.rmse_px < 1e-3


def test_errors_are_as_large_as_the_covariance_says():
    nees = []
    for seed in range(150):
        scene = Scene(seed)
        found = refine_pnp(scene.matched, scene.pixels, K, scene.near)
        error = scene.error(found.T_cam_points)
        nees.append(error @ np.linalg.solve(found.covariance, error))
    assert 3.0 < np.mean(nees) < 12.0  # 6 degrees of freedom


def test_a_field_of_depth_errors_is_not_averaged_out_by_many_matches():
    few, many = (refine_pnp(s.matched, s.pixels, K, s.near) for s in (Scene(1, n=300), Scene(1, n=3000)))
    ratio = np.sqrt(np.diag(many.covariance) / np.diag(few.covariance))
    assert (ratio > 0.5).all()


def test_outliers_are_told_from_the_rest():
    scene = Scene(3, n=600, outliers=0.3)
    found = refine_pnp(scene.matched, scene.pixels, K, scene.near)
    assert np.linalg.norm(scene.error(found.T_cam_points)[3:]) < np.radians(0.5)
    assert found.inliers[scene.wrong].mean() < 0.1 and found.inliers[~scene.wrong].mean() > 0.9


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_focal_length_that_was_guessed_is_found(factor):
    scene = Scene(4, n=800, depth_sigma=0.005)
    guessed = K * np.array([[factor, 1, 1], [1, factor, 1], [1, 1, 1]])
    found = refine_pnp(scene.matched, scene.pixels, guessed, scene.near, free_focal=True, threshold_px=30.0)
    assert found.focal * factor == pytest.approx(1.0, abs=0.02)


def test_an_uncertain_centre_is_an_uncertain_rotation():
    inside = []
    for seed in range(20):
        scene = Scene(seed, depth_sigma=0.005)
        shifted = scene.pixels + np.random.default_rng(seed).normal(0.0, 6.0, 2)
        found = refine_pnp(scene.matched, shifted, K, scene.near, centre_sigma_px=6.0)
        error = scene.error(found.T_cam_points)
        inside.append(error @ np.linalg.solve(found.covariance, error))
    assert 2.0 < np.median(inside) < 12.0


@pytest.mark.parametrize("seed", range(5))
def test_a_refinement_never_raises_the_robust_cost(seed):
    scene, rng = Scene(seed, depth_sigma=0.0, outliers=0.5), np.random.default_rng(seed)
    start = SE3.exp(rng.normal(0, 0.15, 6)) @ scene.T

    def cost(residual_px: np.ndarray) -> float:
        square = (residual_px / 4.0) ** 2
        return float((1.0 - 1.0 / (1.0 + square)).sum())

    before = linearize(scene.matched, scene.pixels, K, start, 1.0, 1.0, 4.0)
    assert cost(refine_pnp(scene.matched, scene.pixels, K, start).residual_px) < cost(before.residual_px)


def test_points_behind_the_camera_do_not_count():
    scene = Scene(5)
    turned = SE3(so3.exp(np.array([0.0, np.pi, 0.0])), np.zeros(3)) @ scene.T
    assert not refine_pnp(scene.matched, scene.pixels, K, turned).inliers.any()


def test_the_gradient_is_that_of_the_residuals():
    scene, step = Scene(6, n=20), 1e-6
    # Where depths count for nothing, the residuals are plain reprojection errors, which are differentiable.
    exact = UncertainPoints(scene.matched.points, scene.matched.along, np.full(20, 1e-9), scene.matched.cell, scene.matched.owner)
    at = linearize(exact, scene.pixels, K, scene.near, 1.1, 1.0, 4.0)
    for axis in range(7):
        xi = np.eye(7)[axis] * step
        moved = linearize(exact, scene.pixels, K, SE3.exp(xi[:6]) @ scene.near, 1.1 * np.exp(xi[6]), 1.0, 4.0)
        np.testing.assert_allclose((moved.residual - at.residual) / step, at.J[:, :, axis], atol=0.02, rtol=1e-4)
