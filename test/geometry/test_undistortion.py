# SPDX-License-Identifier: Apache-2.0
"""Large images, whose pixel maps are interpolated; small ones are in test_camera.py."""

import tracemalloc

import numpy as np
import pytest

from st3r_ros.geometry import undistortion
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.undistortion import MAX_NODES, Undistorter

WIDTH, HEIGHT = 2 * MAX_NODES + 77, 1501
K = np.array([[1100.0, 3.0, 1050.0], [0.0, 1120.0, 740.0], [0.0, 0.0, 1.0]])
LENSES = {
    "plumb_bob": [-0.28, 0.09, 1e-3, -5e-4, -0.01],
    "rational_polynomial": [0.5, 0.1, 1e-3, -1e-3, 0.01, 0.8, 0.2, 0.02],
    "equidistant": [-0.03, 0.01, -0.005, 0.001],
}


@pytest.mark.parametrize("camera", [Camera(WIDTH, HEIGHT, K, *lens) for lens in LENSES.items()], ids=list(LENSES))
def test_a_large_image_is_undistorted_at_every_pixel(camera):
    positions = pixel_grid(WIDTH, HEIGHT).astype(np.float32)
    undistorter = Undistorter(camera)
    seen_at = undistorter.rectify(positions)[::5, ::7]
    expected = camera.project(undistorter.camera.unproject(positions[::5, ::7]))
    inside = ((expected >= 1.0) & (expected < (WIDTH - 2, HEIGHT - 2))).all(axis=-1)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(seen_at[inside], expected[inside], atol=0.03)


def test_a_large_image_is_black_where_its_calibration_folds_over():
    camera = Camera(2600, 1500, np.array([[1200.0, 0, 1299.5], [0, 1200.0, 749.5], [0, 0, 1]]), "plumb_bob", [-0.3, 0, 0, 0])
    rectified = Undistorter(camera).rectify(np.full((1500, 2600), 255, dtype=np.uint8))
    radius = np.hypot(*np.moveaxis(pixel_grid(2600, 1500) - (1299.5, 749.5), -1, 0)) / 1200.0
    fold = np.sqrt(1.0 / 0.9)
    assert (rectified[radius < fold - 0.002] == 255).all()
    assert (rectified[radius > fold + 0.002] == 0).all()


def test_the_maps_of_a_large_image_take_little_memory():
    tracemalloc.start()
    Undistorter(
        Camera(3000, 2000, np.array([[2500.0, 0, 1499.5], [0, 2500.0, 999.5], [0, 0, 1]]), "plumb_bob", [-0.3, 0.1, 0, 0])
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / (WIDTH * HEIGHT) < 50  # bytes per pixel; 6 are kept


def test_maps_that_are_not_kept_are_the_same(monkeypatch):
    camera = Camera(WIDTH, HEIGHT, K, "equidistant", LENSES["equidistant"])
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    kept = Undistorter(camera).rectify(image)
    monkeypatch.setattr(undistortion, "MAX_KEPT", 1000)
    np.testing.assert_array_equal(Undistorter(camera).rectify(image), kept)


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (HEIGHT, WIDTH, 3)])
def test_shape_and_type_stay(shape):
    undistorter = Undistorter(Camera(WIDTH, HEIGHT, K, "plumb_bob", LENSES["plumb_bob"]))
    image = np.full(shape, 7, np.uint16)
    rectified = undistorter.rectify(image)
    assert (rectified.shape, rectified.dtype) == (image.shape, image.dtype)
    assert (rectified[200:-200, 200:-200] == 7).all()
    assert (undistorter.rectify(image[:, ::-1], nearest=True)[200:-200, 200:-200] == 7).all()
