# SPDX-License-Identifier: Apache-2.0
"""The focal length from two views: as accurate as it says, and not known where two views do not tell it."""

import math

import numpy as np
import pytest

from st3r_ros.geometry import so3
from st3r_ros.geometry.epipolar import sampson, sampson_derivatives, skew
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.two_view_focal import FocalFit, fit_focal

FOCAL, NOISE = 400.0, 0.4
T_0_1 = SE3.exp(np.array([0.9, 0.1, 0.3, 0.05, -0.15, 0.1]))
T_0_1 = SE3(T_0_1.rotation, T_0_1.translation / np.linalg.norm(T_0_1.translation))


def rays(seed: int, wrong: tuple[float, float], *, centre_px: float = 0.0, T: SE3 = T_0_1) -> tuple[np.ndarray, np.ndarray]:
    """Rays of 150 points in both cameras by focal lengths that are wrong by these factors. centre_px: error of the centre."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2.0, -1.5, 3.0], [2.0, 1.5, 7.0], (150, 3))
    shift = rng.normal(0.0, centre_px, 2)
    seen = []
    for X, factor in zip((points, T.inverse().act(points)), wrong, strict=True):
        pixels = FOCAL * X[:, :2] / X[:, 2:] + rng.normal(0.0, NOISE, (150, 2)) + shift
        seen.append(np.concatenate([pixels / (FOCAL * factor), np.ones((150, 1))], axis=1))
    return seen[0], seen[1]


def error(fit: FocalFit) -> np.ndarray:
    """Of direction and rotation, as the covariance has it."""
    return np.concatenate([fit.T_0_1.translation - T_0_1.translation, so3.log(fit.T_0_1.rotation @ T_0_1.rotation.T)])


@pytest.mark.parametrize("wrong", [(0.7, 0.7), (1.3, 1.3), (1.0, 0.75)])
def test_a_wrong_focal_length_is_found_with_its_error(wrong):
    deviations, free = [], (wrong[0] != 1.0, True)
    for seed in range(12):
        fit = fit_focal(T_0_1, *rays(seed, wrong), 1.0 / FOCAL, free)
        deviations.append(math.log(fit.factor * wrong[1]) / fit.log_sigma)
        assert fit.log_sigma < 0.06
    assert 0.3 < np.sqrt(np.mean(np.square(deviations))) < 2.0


def test_the_covariance_has_the_errors_of_an_assumed_camera():
    inside = []
    for seed in range(20):
        fit = fit_focal(T_0_1, *rays(seed, (0.85, 0.85), centre_px=5.0), 1.0 / FOCAL, centre_sigma=5.0 / FOCAL)
        blocks = ((slice(3), 3.0), (slice(3, 6), 3.0))
        inside += [np.linalg.norm(error(fit)[b]) < n * math.sqrt(np.linalg.eigvalsh(fit.covariance[b, b])[-1]) for b, n in blocks]
    assert np.mean(inside) > 0.9


def test_parallel_axes_do_not_tell_the_focal_length():
    parallel = SE3(np.eye(3), T_0_1.translation)
    turned, straight = (fit_focal(T, *rays(1, (1.0, 1.0), T=T), 1.0 / FOCAL) for T in (T_0_1, parallel))
    assert turned.log_sigma < 0.05 and straight.log_sigma > 0.2


def test_a_pose_far_from_the_truth_is_no_obstacle():
    rays0, rays1 = rays(3, (0.75, 0.75))
    sideways = SE3(T_0_1.rotation, np.array([0.0, 1.0, 0.0]))
    fit = fit_focal(sideways, rays0, rays1, 1.0 / FOCAL)
    assert fit.factor == pytest.approx(1 / 0.75, rel=0.1) and fit.T_0_1.translation @ T_0_1.translation > 0.98


def test_derivatives_are_those_of_the_distance():
    rng = np.random.default_rng(5)
    rays0, rays1 = rays(5, (1.0, 1.0))
    E, forms, step = skew(T_0_1.translation) @ T_0_1.rotation, rng.normal(size=(3, 3, 3)), 1e-6
    J = sampson_derivatives(sampson(E, rays0, rays1), forms, rays0, rays1)
    for column, form in zip(J.T, forms, strict=True):
        ahead, behind = (sampson(E + sign * step * form, rays0, rays1).distance for sign in (1, -1))
        np.testing.assert_allclose(column, (ahead - behind) / (2 * step), atol=1e-5)
