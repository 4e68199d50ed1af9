# SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.projection import as_tensors, left_jacobian, pixel_index, project, rays, sample

CAMERA = Camera(320, 240, np.array([[300.0, 0.0, 155.0], [0.0, 280.0, 130.0], [0.0, 0.0, 1.0]]))
K = torch.tensor(CAMERA.K)
POINTS = torch.from_numpy(np.random.default_rng(0).uniform((-1, -1, 1), (1, 1, 5), (20, 3)))


def test_projection_is_the_cameras_and_rays_undo_it():
    pixels, _ = project(POINTS, K)
    np.testing.assert_allclose(pixels, CAMERA.project(POINTS.numpy()))
    np.testing.assert_allclose(rays(pixels, CAMERA.K), POINTS / POINTS[:, 2:])


def test_the_derivative_of_the_projection():
    _, J = project(POINTS, K)
    for axis, e in enumerate(1e-6 * torch.eye(3, dtype=torch.float64)):
        numeric = (project(POINTS + e, K)[0] - project(POINTS - e, K)[0]) / 2e-6
        np.testing.assert_allclose(J[:, :, axis], numeric, rtol=1e-6, atol=1e-5)


def test_one_camera_per_point_is_possible():
    several = torch.stack([K, 2 * K]).repeat(10, 1, 1)
    pixels, J = project(POINTS, several)
    np.testing.assert_allclose(pixels[1::2], 2 * project(POINTS, K)[0][1::2])
    np.testing.assert_allclose(J[::2], project(POINTS, K)[1][::2])


def test_the_left_jacobian_is_the_derivative_of_the_exponential():
    J, points = left_jacobian(POINTS).numpy(), POINTS.numpy()
    for axis, e in enumerate(1e-6 * np.eye(7)):
        numeric = (Sim3.exp(e) @ points - Sim3.exp(-e) @ points) / 2e-6
        np.testing.assert_allclose(J[:, :, axis], numeric, atol=1e-7)


def test_transforms_act_the_same_as_tensors():
    T = Sim3.exp(np.array([0.3, 0.1, -0.2, 0.2, 0.1, 0.4, 0.3]))
    sR, t = as_tensors(T, POINTS)
    np.testing.assert_allclose(POINTS @ sR.T + t, T @ POINTS.numpy())


def test_sampling_takes_the_nearest_pixel_inside_the_image():
    values = torch.arange(12.0).view(3, 4)
    pixels = torch.tensor([[0.0, 0.0], [1.4, 0.6], [3.0, 2.0], [-2.0, 9.0], [7.0, -1.0]])
    assert sample(values, pixels).tolist() == [0.0, 5.0, 11.0, 8.0, 3.0]
    column, row = pixel_index(pixels, 4, 3)
    assert column.tolist() == [0, 1, 3, 0, 3] and row.tolist() == [0, 1, 2, 2, 0]
