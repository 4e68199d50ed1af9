# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import numpy as np
import pytest
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.solver import residuals
from st3r_ros.solver.residuals import Observations, PixelObservations, RayObservations, linear_rows

CAMERA = Camera(320, 240, np.array([[300.0, 0.0, 155.0], [0.0, 280.0, 130.0], [0.0, 0.0, 1.0]]))
SEEDS = range(4)
KINDS = ["one K", "many K", "rays", "rays of many cameras"]


def points(seed: int, count: int = 40) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform((-2, -2, 1), (2, 2, 6), (count, 3)))


def seen(kind: str, seed: int, count: int = 40) -> Observations:
    rng = np.random.default_rng(100 + seed)
    pixels = rng.uniform((0, 0), (319, 239), (count, 2))
    K = torch.tensor(CAMERA.K)
    if kind == "one K":
        return PixelObservations(torch.from_numpy(pixels), K)
    if kind == "many K":
        factors = torch.from_numpy(rng.uniform(0.5, 2, (count, 1, 1)))
        return PixelObservations(torch.from_numpy(pixels), K * factors)
    rays = CAMERA.unproject(pixels)
    rays = torch.from_numpy(rays / np.linalg.norm(rays, axis=1, keepdims=True))
    return RayObservations(rays, 290.0 if kind == "rays" else torch.from_numpy(rng.uniform(200, 400, count)))


def numeric(function: Callable[[float], torch.Tensor], step: float = 1e-5) -> np.ndarray:
    """Derivative at 0 by differences of the fourth order."""
    near, far = (function(s) - function(-s) for s in (step, 2 * step))
    return ((8 * near - far) / (12 * step)).numpy()


def assert_derivative(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_by_the_point(kind, seed):
    X, there = points(seed), seen(kind, seed)
    found = there.residuals(X)
    assert found.J.shape == (*found.values.shape, 3)
    for axis, e in enumerate(torch.eye(3, dtype=torch.float64)):
        assert_derivative(found.J[..., axis], numeric(lambda s, e=e: there.residuals(X + s * e).values))
        assert_derivative(there.log_depth(X).J[:, axis], numeric(lambda s, e=e: there.log_depth(X + s * e).values))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_by_pose_and_log_depth_and_the_residual_itself(kind, seed):
    there, X = seen(kind, seed), points(seed)
    T = Sim3.exp(np.array([0.3, -0.1, 0.4, 0.1, -0.2, 0.15, 0.2]))

    def all_rows(T: Sim3, delta: float) -> torch.Tensor:
        Y = torch.from_numpy(T @ (X.numpy() * np.exp(delta)))
        return torch.cat([there.residuals(Y).values, there.log_depth(Y).values[:, None]], dim=1)

    Y = torch.from_numpy(T @ X.numpy())
    at = there.residuals(Y).with_row(there.log_depth(Y))
    rows = linear_rows(at, Y, Y - torch.from_numpy(np.array(T.translation)))
    assert rows.shape == (9, at.values.shape[1], 40)
    for axis, e in enumerate(np.eye(7)):
        assert_derivative(rows[axis].T, numeric(lambda s, e=e: all_rows(Sim3.exp(s * e) @ T, 0.0)))
    assert_derivative(rows[7].T, numeric(lambda s: all_rows(T, s)))
    np.testing.assert_allclose(rows[8].T, all_rows(T, 0.0))


def test_pixel_residuals_are_those_of_the_camera():
    X = points(0)
    pixels = torch.from_numpy(CAMERA.project(X.numpy()) - (3.0, -4.0))
    found = PixelObservations(pixels, torch.tensor(CAMERA.K)).residuals(X)
    np.testing.assert_allclose(found.values, np.tile((3.0, -4.0), (40, 1)))
    np.testing.assert_allclose(found.distance, 5.0)
    np.testing.assert_allclose(PixelObservations(pixels, torch.tensor(CAMERA.K)).normalized(), CAMERA.unproject(pixels)[:, :2])


def test_ray_residuals_are_in_pixels():
    """Near the middle of the image a ray that is off counts as many pixels as the pixel would."""
    pixels = np.random.default_rng(0).uniform((135, 110), (175, 150), (40, 2))
    square = Camera(320, 240, np.array([[300.0, 0.0, 155.0], [0.0, 300.0, 130.0], [0.0, 0.0, 1.0]]))
    rays = square.unproject(pixels)
    seen = RayObservations(torch.from_numpy(rays / np.linalg.norm(rays, axis=1, keepdims=True)), 300.0)
    off = seen.residuals(torch.from_numpy(4.0 * square.unproject(pixels + np.array((2.0, 1.0)))))
    np.testing.assert_allclose(off.distance, np.hypot(2, 1), rtol=0.02)
    assert seen.residuals(torch.from_numpy(2.0 * rays)).distance.max() < 1e-9
    np.testing.assert_allclose(seen.normalized(), rays[:, :2])


@pytest.mark.parametrize("kind", KINDS)
def test_depth_is_z_with_intrinsics_and_distance_without(kind):
    X = points(1)
    expected = X[:, 2] if "K" in kind else X.norm(dim=1)
    np.testing.assert_allclose(seen(kind, 0).log_depth(X).values.exp(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_behind_the_camera_is_not_visible_and_stays_finite(kind):
    X = torch.cat([points(2)[:38], torch.tensor([[0.1, 0.2, -3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)])
    there = seen(kind, 2)
    if isinstance(there, RayObservations):
        there.rays[10] = 0.0
    found = there.residuals(X)
    assert not found.visible[38:].any() and bool(found.visible[:10].all())
    assert bool(found.visible[10]) is not isinstance(there, RayObservations)
    assert bool(torch.isfinite(found.values).all()) and bool(torch.isfinite(found.J).all())
    assert bool(torch.isfinite(there.log_depth(X).values).all())


@pytest.mark.parametrize("kind", KINDS)
def test_some_of_the_observations(kind):
    X, there, index = points(3), seen(kind, 3), torch.tensor([3, 1, 30])
    np.testing.assert_allclose(there[index].residuals(X[index]).values, there.residuals(X).values[index], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_leading_dimensions(kind):
    X, there = points(4), seen(kind, 4)
    if isinstance(there, PixelObservations):
        folded = PixelObservations(there.pixels.view(5, 8, 2), there.K if there.K.ndim == 2 else there.K.view(5, 8, 3, 3))
    else:
        factor = there.pixels_per_radian
        folded = RayObservations(there.rays.view(5, 8, 3), factor if isinstance(factor, float) else factor.view(5, 8))
    flat, deep = there.residuals(X), folded.residuals(X.view(5, 8, 3))
    np.testing.assert_allclose(deep.values.reshape(40, -1), flat.values)
    rows = linear_rows(deep, X.view(5, 8, 3), X.view(5, 8, 3))
    np.testing.assert_allclose(rows.flatten(2), linear_rows(flat, X, X))


@pytest.mark.parametrize("kernel", [residuals.huber, residuals.geman_mcclure])
def test_robust_weights_are_the_slope_of_the_costs(kernel):
    off = torch.linspace(0.01, 20, 200, dtype=torch.float64)
    slope = numeric(lambda s: kernel(off + s).cost, 1e-4)
    np.testing.assert_allclose(kernel(off).weight * off, slope, rtol=1e-3, atol=1e-6)
    assert bool((kernel(off).weight <= 1.0).all()) and float(kernel(off).weight[0]) == pytest.approx(1.0, abs=1e-4)
