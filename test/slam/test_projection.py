# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.projection import as_tensors, directions, observations_at, pixel_index, points_at, rays, sample
from st3r_ros.solver.residuals import PixelObservations, RayObservations
from st3r_ros.types import Keyframe

CAMERA = Camera(64, 48, np.array([[60.0, 0.0, 31.0], [0.0, 56.0, 26.0], [0.0, 0.0, 1.0]]))
PIXELS = torch.from_numpy(np.random.default_rng(0).uniform((0, 0), (63, 47), (50, 2)).astype(np.float32))
GRID = np.stack(np.meshgrid(np.arange(64.0), np.arange(48.0)), axis=-1)


def keyframe(calibrated: bool, dtype: torch.dtype = torch.float32) -> Keyframe:
    """A slanted wall; where it is confident counts up."""
    X = torch.from_numpy(CAMERA.unproject(GRID, 2.0 + 0.01 * GRID[..., 0])).to(dtype)
    conf = torch.arange(48 * 64).view(48, 64).to(dtype)
    K = np.array(CAMERA.K) if calibrated else np.diag([100.0, 100.0, 1.0])  # assumed ones are not used for directions
    image = np.zeros((48, 64, 3), np.uint8)
    return Keyframe(0, 0, 0, Sim3.identity(), X, conf, image, K, K_known=calibrated, calibrated=calibrated)


def test_rays_go_through_their_pixels():
    np.testing.assert_allclose(CAMERA.project(5.0 * rays(PIXELS, CAMERA.K).numpy()), PIXELS, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("calibrated", [True, False])
def test_points_lie_on_the_rays_of_their_pixels_at_the_depth_next_to_them(calibrated, dtype):
    frame = keyframe(calibrated, dtype)
    found = points_at(frame, PIXELS)
    assert found.points.dtype == found.conf.dtype == torch.float64
    digits = 0.02 if dtype is torch.float32 else 0.15
    np.testing.assert_allclose(CAMERA.project(found.points.numpy()), PIXELS, atol=digits)
    nearest = sample(frame.X, PIXELS).double()
    expected = nearest[:, 2] if calibrated else nearest.norm(dim=1)
    np.testing.assert_allclose(found.points[:, 2] if calibrated else found.points.norm(dim=1), expected, rtol=1e-3)
    np.testing.assert_array_equal(found.conf, sample(frame.conf, PIXELS).double())


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_keyframe_sees_its_own_points_where_they_are(calibrated):
    frame = keyframe(calibrated)
    seen = observations_at(frame, PIXELS)
    assert isinstance(seen, PixelObservations if calibrated else RayObservations)
    assert float(seen.residuals(points_at(frame, PIXELS).points).distance.max()) < 1e-6


def test_directions_are_bilinear_and_of_unit_length():
    X = keyframe(False).X
    found = directions(X, PIXELS)
    np.testing.assert_allclose(found.norm(dim=1), 1.0)
    truth = rays(PIXELS, CAMERA.K)
    assert float((found - truth / truth.norm(dim=1, keepdim=True)).norm(dim=1).max()) < 1e-4


def test_directions_do_not_depend_on_the_depth_and_leave_pixels_without_a_point_out():
    X = keyframe(False).X
    rough = X * torch.from_numpy(np.random.default_rng(1).uniform(0.5, 2.0, (48, 64, 1))).float()
    np.testing.assert_allclose(directions(rough, PIXELS), directions(X, PIXELS), atol=1e-6)
    X[10, 20], X[10, 21], X[30, 40] = 0.0, torch.nan, torch.inf
    near = directions(X, torch.tensor([[20.4, 10.6], [39.8, 30.0], [20.5, 10.0]]))
    expected = directions(keyframe(False).X, torch.tensor([[20.4, 11.0], [39.0, 30.0]]))
    np.testing.assert_allclose(near[:2], expected, atol=1e-6)
    assert near[2].tolist() == [0.0, 0.0, 0.0]


def test_directions_at_and_beyond_the_border_are_those_of_the_border():
    X = keyframe(False).X
    found = directions(X, torch.tensor([[63.0, 47.0], [70.0, 50.0], [-3.0, 20.0]]))
    expected = X[[47, 47, 20], [63, 63, 0]].double()
    np.testing.assert_allclose(found, expected / expected.norm(dim=1, keepdim=True), atol=1e-6)


def test_transforms_act_the_same_as_tensors():
    T = Sim3.exp(np.array([0.3, 0.1, -0.2, 0.2, 0.1, 0.4, 0.3]))
    points = torch.from_numpy(np.random.default_rng(0).uniform((-1, -1, 1), (1, 1, 5), (20, 3)))
    sR, t = as_tensors(T, points)
    np.testing.assert_allclose(points @ sR.T + t, T @ points.numpy())


def test_sampling_takes_the_nearest_pixel_inside_the_image():
    values = torch.arange(12.0).view(3, 4)
    pixels = torch.tensor([[0.0, 0.0], [1.4, 0.6], [3.0, 2.0], [-2.0, 9.0], [7.0, -1.0]])
    assert sample(values, pixels).tolist() == [0.0, 5.0, 11.0, 8.0, 3.0]
    column, row = pixel_index(pixels, 4, 3)
    assert column.tolist() == [0, 1, 3, 0, 3] and row.tolist() == [0, 1, 2, 2, 0]
