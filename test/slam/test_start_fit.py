# SPDX-License-Identifier: Apache-2.0
"""The geometry of a start from several views, on points made up around a room."""

import numpy as np
import pytest
import torch

from st3r_ros.geometry import so3
from st3r_ros.geometry.pixels import project
from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.tracking.start_fit import SURE_INFORMATION, StartFit, StartView, fit_start
from st3r_ros.types import Matches

K = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
TO_THE_SIDE = np.array([0.3, 0.02, 0.05, 0.02, -0.03, 0.01])


def points(count: int, seed: int, depth: tuple[float, float] = (2.0, 8.0)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform((5, 5), (315, 235), (count, 2))
    return np.concatenate([(pixels - K[:2, 2]) / 300.0, np.ones((count, 1))], axis=1) * rng.uniform(*depth, (count, 1))


def views(
    X: np.ndarray, motion: np.ndarray, count: int, noise_px: float = 0.4, wrong: int = 0
) -> tuple[list[StartView], list[SE3]]:
    """On the way along a motion, T_first_view; of the last view the first `wrong` matches are anywhere."""
    rng, found, poses = np.random.default_rng(1), [], []
    first = torch.from_numpy(project(X, K)).float()
    for n in range(1, count + 1):
        T = SE3.exp(motion * n / count)
        seen = project(T.inverse().act(X), K) + rng.normal(0, noise_px, (len(X), 2))
        if n == count and wrong:
            seen[:wrong] += rng.uniform(30, 60, (wrong, 2))
        found.append(StartView(Matches(torch.from_numpy(seen).float(), first), K))
        poses.append(T)
    return found, poses


def relief_error(fit: StartFit, X: np.ndarray) -> np.ndarray:
    """Of the sure log-depths, less their mean."""
    sure = (fit.information > SURE_INFORMATION).numpy()
    error = np.log(fit.depth.numpy()[sure] / X[sure, 2])
    return error - error.mean()


@pytest.mark.parametrize("count", [1, 3, 5])
def test_views_to_the_side_give_pose_and_depths(count):
    X = points(300, seed=0)
    seen, poses = views(X, TO_THE_SIDE, count, wrong=20)
    best = fit_start(K, seen, 15)[0]
    assert best.sure > 150 and 0.9 <= best.share < 1.0
    assert so3.degrees(best.T_first_view.rotation.T @ poses[-1].rotation) < 0.4
    direction, true = (T.translation / np.linalg.norm(T.translation) for T in (best.T_first_view, poses[-1]))
    assert np.degrees(np.arccos(direction @ true)) < 4.0
    error = relief_error(best, X)
    assert np.sqrt(np.mean(error**2)) < 0.1


def test_what_is_said_of_the_depths_is_true():
    """Their errors are about as large as their standard deviations; most of it is common to all, by the error of the pose."""
    squares = []
    for seed in range(8):
        X = points(200, seed)
        best = fit_start(K, views(X, TO_THE_SIDE * 0.5, 3, noise_px=0.6)[0], 15)[0]
        known = (best.information > 4.0).numpy()
        error = np.log(best.depth.numpy()[known] / X[known, 2])
        squares.append(np.mean((error - error.mean()) ** 2 * best.information.numpy()[known]))
    assert 0.2 < np.mean(squares) < 3.0


@pytest.mark.parametrize("motion", [np.array([0, 0, 0, 0.02, 0.1, 0.0]), np.zeros(6)])
def test_turning_or_standing_determines_no_depth(motion):
    fits = fit_start(K, views(points(300, seed=3), motion, 4)[0], 15)
    assert not fits or fits[0].sure < 30


def test_no_geometry_is_no_start():
    rng = np.random.default_rng(0)
    pixels = [torch.from_numpy(rng.uniform(0, 240, (100, 2))).float() for _ in range(2)]
    assert all(fit.sure < 30 or fit.share < 0.5 for fit in fit_start(K, [StartView(Matches(*pixels), K)], 15))
    assert fit_start(K, [StartView(Matches(pixels[0][:3], pixels[1][:3]), K)], 15) == []
