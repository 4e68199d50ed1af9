# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from st3r_ros.geometry import pixels as at
from st3r_ros.geometry.camera import Camera

PLAIN = np.array([[300.0, 0.0, 155.0], [0.0, 280.0, 130.0], [0.0, 0.0, 1.0]])
SKEWED = PLAIN + np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
KINDS = pytest.mark.parametrize("K", [PLAIN, SKEWED], ids=["plain", "skewed"])
RNG = np.random.default_rng(0)
PIXELS = RNG.uniform((0, 0), (319, 239), (40, 2))
POINTS = RNG.uniform((-1, -1, 2), (1, 1, 6), (40, 3))


@KINDS
def test_rays_and_pixels_are_those_of_the_camera_matrix(K):
    homogeneous = POINTS @ K.T
    np.testing.assert_allclose(at.project(POINTS, K), homogeneous[:, :2] / homogeneous[:, 2:], rtol=1e-12)
    np.testing.assert_allclose(at.to_pixels(POINTS[:, :2], K), (POINTS[:, :2] @ K[:2, :2].T) + K[:2, 2], rtol=1e-12)
    rays = at.rays(PIXELS, K)
    np.testing.assert_allclose(rays @ K.T, np.column_stack([PIXELS, np.ones(40)]), rtol=1e-12)
    np.testing.assert_array_equal(at.normalized(PIXELS, K), rays[:, :2])
    np.testing.assert_allclose(np.column_stack([PIXELS, np.ones(40)]) @ at.ray_matrix(K).T, rays, atol=1e-12)


@KINDS
def test_projection_undoes_rays(K):
    np.testing.assert_allclose(at.project(3.0 * at.rays(PIXELS, K), K), PIXELS, atol=1e-10)
    np.testing.assert_allclose(at.rays(at.project(POINTS, K), K), POINTS / POINTS[:, 2:], atol=1e-12)


@KINDS
def test_tensors_give_the_values_of_arrays(K):
    pixels, points = torch.from_numpy(PIXELS), torch.from_numpy(POINTS)
    for matrix in (K, torch.from_numpy(K), torch.from_numpy(K).expand(40, 3, 3)):
        np.testing.assert_array_equal(at.rays(pixels, matrix), at.rays(PIXELS, K))
        np.testing.assert_array_equal(at.normalized(pixels, matrix), at.normalized(PIXELS, K))
        np.testing.assert_array_equal(at.project(points, matrix), at.project(POINTS, K))


def test_each_point_may_have_its_own_camera():
    K = np.stack([at.scaled_focal(SKEWED, factor) for factor in np.linspace(0.5, 2.0, 40)])
    expected = [at.project(point, one) for point, one in zip(POINTS, K, strict=True)]
    np.testing.assert_array_equal(at.project(POINTS, K), expected)
    np.testing.assert_allclose(at.rays(at.project(POINTS, K), K), POINTS / POINTS[:, 2:], atol=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize("shape", [(2,), (0, 2), (3, 4, 2)])
def test_values_are_float64_of_the_same_kind_and_shape(kind, shape):
    pixels = kind(np.ones(shape, np.float32))
    for found, last in ((at.rays(pixels, PLAIN), 3), (at.normalized(pixels, PLAIN), 2), (at.to_pixels(pixels, PLAIN), 2)):
        assert type(found) is type(pixels)
        assert tuple(found.shape) == (*shape[:-1], last)
        assert str(found.dtype).endswith("float64")


@KINDS
def test_the_derivative_is_that_of_the_projection(K):
    step = 1e-6
    numeric = [(at.project(POINTS + step * d, K) - at.project(POINTS - step * d, K)) / (2 * step) for d in np.eye(3)]
    np.testing.assert_allclose(at.projection_derivative(POINTS, K), np.stack(numeric, axis=-1), atol=1e-6)


def test_a_longer_focal_length_magnifies_about_the_principal_point():
    scaled = at.scaled_focal(SKEWED, 1.5)
    offset = at.project(POINTS, SKEWED) - SKEWED[:2, 2]
    np.testing.assert_allclose(at.project(POINTS, scaled) - SKEWED[:2, 2], 1.5 * offset, rtol=1e-9)


def test_pixels_per_radian_is_the_scale_at_the_principal_point():
    square = Camera(320, 240, np.array([[300.0, 0.0, 155.0], [0.0, 300.0, 130.0], [0.0, 0.0, 1.0]]))
    seen = square.project(np.array([[0.0, 0.0, 1.0], [np.tan(1e-3), 0.0, 1.0]]))
    assert at.pixels_per_radian(square.K) == pytest.approx((seen[1, 0] - seen[0, 0]) / 1e-3, rel=1e-5)


@KINDS
def test_axes_of_a_grid_are_its_normalized_pixels(K):
    grid = at.pixel_grid(16, 12)
    assert grid.shape == (12, 16, 2)
    assert grid[3, 5].tolist() == [5.0, 3.0]
    x, y = at.grid_axes(K, 16, 12)
    np.testing.assert_allclose(np.stack(np.broadcast_arrays(x, y), axis=-1), at.normalized(grid, K), atol=1e-14)
    x, y = at.grid_axes(K, 16, 4, first_row=8)
    np.testing.assert_allclose(np.stack(np.broadcast_arrays(x, y), axis=-1), at.normalized(grid[8:], K), atol=1e-14)
