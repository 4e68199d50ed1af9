# SPDX-License-Identifier: Apache-2.0
"""Transforms and cameras against reference numbers in float32."""

from pathlib import Path

import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "geometry.npz")
CAMERA = Camera(512, 384, GOLDEN["K"])


def transforms() -> SE3:
    return SE3.from_matrix(GOLDEN["P"].astype(np.float64))


def assert_close(found: np.ndarray, golden: str) -> None:
    np.testing.assert_allclose(found, GOLDEN[golden], rtol=1e-5, atol=1e-5)


def test_a_batch_of_transforms_moves_points_of_any_shape():
    T = transforms()
    assert_close(T.inverse().as_matrix(), "inv_P")
    assert_close(T @ GOLDEN["pts"].astype(np.float64), "geotrf_P_batch_bhw3")
    assert_close(T @ GOLDEN["pts"].reshape(2, 20, 3).astype(np.float64), "geotrf_P_batch_bn3")
    assert_close(T[0] @ GOLDEN["pts"][0].astype(np.float64), "geotrf_P0_pts0")
    assert_close(SE3(T.rotation, np.zeros((2, 3))) @ GOLDEN["pts"].astype(np.float64), "geotrf_R_batch")


def test_points_in_front_of_a_camera_are_projected():
    points = GOLDEN["pts"][0]
    in_front = points[..., 2] > 0.0
    pixels = CAMERA.project(points)
    np.testing.assert_allclose(pixels[in_front], GOLDEN["geotrf_K_norm1_ncol2"][in_front], rtol=1e-5)
    assert in_front.any() and np.isnan(pixels[~in_front]).all()

    moved = transforms()[0] @ GOLDEN["reproj2d_pts"].astype(np.float64)
    in_front = moved[:, 2] > 0.0
    limited = np.clip(CAMERA.project(moved)[in_front], -1000.0, 2000.0)  # as the reference limits its pixels
    np.testing.assert_allclose(limited, GOLDEN["reproj2d_out"][in_front], rtol=1e-5)
    assert (np.abs(limited - 500.0) < 1500.0).all(axis=1).any()


def test_pixels_are_lifted_to_rays_and_points():
    assert_close(CAMERA.unproject(GOLDEN["pts2"]), "geotrf_invK_2d_ncol3")
    assert_close(CAMERA.unproject(GOLDEN["proj3d_uv"], GOLDEN["proj3d_z"]), "proj3d_out")
    np.testing.assert_array_equal(pixel_grid(5, 3), GOLDEN["xy_grid_5x3"])
