# SPDX-License-Identifier: Apache-2.0
import numpy as np

from st3r_ros.geometry import so3
from st3r_ros.geometry.covariance import moved_covariance


def test_it_is_the_covariance_of_samples_that_move_rigidly() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)) * 1e-3
    lever, R_a_b = rng.normal(size=3), so3.exp(rng.normal(size=3))
    samples = rng.normal(size=(200_000, 6)) @ root.T
    moved = samples[:, :3] + (so3.exp(samples[:, 3:]) - np.eye(3)) @ lever
    expected = np.cov(np.hstack([moved @ R_a_b.T, samples[:, 3:] @ R_a_b.T]).T)
    covariance = moved_covariance(root @ root.T, R_a_b, lever)
    np.testing.assert_allclose(covariance, expected, atol=0.02 * np.abs(expected).max())


def test_there_and_back_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    lever, R_a_b = rng.normal(size=3), so3.exp(rng.normal(size=3))
    moved = moved_covariance(root @ root.T, R_a_b, lever)
    np.testing.assert_allclose(moved_covariance(moved, R_a_b.T, -R_a_b @ lever), root @ root.T, atol=1e-12)
