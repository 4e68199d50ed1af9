# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.undistortion import Undistorter

K = np.array([[400.0, 0.0, 322.0], [0.0, 410.0, 236.5], [0.0, 0.0, 1.0]])
LENSES = {
    "plumb_bob": [-0.28, 0.09, 1e-3, -5e-4, -0.01],
    "rational_polynomial": [0.5, 0.1, 1e-3, -1e-3, 0.01, 0.8, 0.2, 0.02],
    "equidistant": [-0.03, 0.01, -0.005, 0.001],
}
distorted_cameras = pytest.mark.parametrize("camera", [Camera(640, 480, K, *lens) for lens in LENSES.items()], ids=list(LENSES))


def opencv_projection(camera: Camera, points: np.ndarray) -> np.ndarray:
    project = cv2.fisheye.projectPoints if camera.distortion_model == "equidistant" else cv2.projectPoints
    return project(points[:, None], np.zeros(3), np.zeros(3), camera.K, camera.distortion)[0][:, 0]


def seen_points(count: int = 500) -> np.ndarray:
    """(count, 3) points in front of the camera, on pixels all over a 640 x 480 image."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform((0.0, 0.0), (639.0, 479.0), (count, 2))
    return Camera(640, 480, K).unproject(pixels, rng.uniform(0.3, 20.0, count))


def draw_dots(size: tuple[int, int], centres: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    x, y = np.moveaxis(pixel_grid(*size), -1, 0)
    image = np.zeros(size[::-1])
    for cx, cy in centres:
        image += 250.0 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2.0 * sigma**2))
    return image.round().clip(0, 255).astype(np.uint8)


def dot_centre(image: np.ndarray, near: np.ndarray, radius: int = 9) -> np.ndarray:
    x0, y0 = near.round().astype(int) - radius
    patch = image[y0 : y0 + 2 * radius + 1, x0 : x0 + 2 * radius + 1].astype(float)
    grid = pixel_grid(2 * radius + 1, 2 * radius + 1) + np.array([x0, y0])
    return (patch[..., None] * grid).sum(axis=(0, 1)) / patch.sum()


@distorted_cameras
def test_projection_agrees_with_opencv(camera):
    points = seen_points()
    np.testing.assert_allclose(camera.project(points), opencv_projection(camera, points), atol=1e-8)


@distorted_cameras
def test_points_return_from_their_pixels(camera):
    points = seen_points()
    np.testing.assert_allclose(camera.unproject(camera.project(points), points[:, 2]), points, rtol=1e-9, atol=1e-9)


@distorted_cameras
def test_pixels_return_from_their_points(camera):
    pixels = pixel_grid(640, 480)[::7, ::7]
    np.testing.assert_allclose(camera.project(camera.unproject(pixels, 3.0)), pixels, atol=1e-8)


@distorted_cameras
def test_a_distorted_grid_is_rectified(camera):
    undistorter = Undistorter(camera)
    grid = pixel_grid(8, 6).reshape(-1, 2) * 80.0 + (40.0, 38.0)
    seen_at = opencv_projection(camera, undistorter.camera.unproject(grid))
    assert np.abs(seen_at - grid).max() > 10.0
    image = draw_dots((640, 480), seen_at)
    rectified = undistorter.rectify(image)
    assert rectified.shape == image.shape
    np.testing.assert_allclose([dot_centre(rectified, dot) for dot in grid], grid, atol=0.1)


@distorted_cameras
def test_rectified_images_belong_to_the_ideal_camera(camera):
    ideal = Undistorter(camera).camera
    assert camera.has_distortion
    assert not ideal.has_distortion
    assert (ideal.width, ideal.height, ideal.K.tolist()) == (camera.width, camera.height, camera.K.tolist())


def test_an_ideal_image_is_left_alone():
    camera = Camera(64, 48, np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]]), "rational_polynomial", np.zeros(8))
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    assert Undistorter(camera).rectify(image) is image


def test_a_fisheye_without_coefficients_still_bends():
    camera = Camera(640, 480, K, "equidistant", np.zeros(4))
    pixel = camera.project(np.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(pixel, (322.0 + 400.0 * np.pi / 4.0, 236.5))


def test_the_world_is_not_shown_twice_where_a_calibration_folds_over():
    camera = Camera(640, 480, np.array([[220.0, 0, 319.5], [0, 220.0, 239.5], [0, 0, 1]]), "plumb_bob", [-0.3, 0, 0, 0])
    fold = np.sqrt(1.0 / 0.9)
    radii = np.array([0.0, 0.5 * fold, 0.99 * fold, 1.02 * fold, 2.0 * fold])
    pixels = camera.project(np.stack([radii, np.zeros(5), np.ones(5)], axis=-1))
    assert np.isfinite(pixels[:3]).all()
    assert (np.diff(pixels[:3, 0]) > 0.0).all()
    assert np.isnan(pixels[3:]).all()
    rectified = Undistorter(camera).rectify(np.full((480, 640), 255, dtype=np.uint8))
    assert rectified[240, 320] == 255
    assert rectified[0, 0] == 0
    assert np.isnan(camera.unproject(np.array([639.0, 479.0]))).any()


def test_points_behind_the_camera_have_no_pixel():
    pixels = Camera(640, 480, K).project(np.array([[0.1, 0.2, -1.0], [0.0, 0.0, 0.0], [0.1, 0.2, 1.0], [np.nan, 0.0, 1.0]]))
    np.testing.assert_array_equal(np.isfinite(pixels).all(axis=1), [False, False, True, False])


def test_skew_survives_the_round_trip():
    skewed = K + np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    camera, points = Camera(640, 480, skewed), seen_points()
    np.testing.assert_allclose(
        camera.project(points)[:, 0] - Camera(640, 480, K).project(points)[:, 0], 3 * points[:, 1] / points[:, 2]
    )
    np.testing.assert_allclose(camera.unproject(camera.project(points), points[:, 2]), points, atol=1e-9)


@pytest.mark.parametrize("size", [(320, 240), (160, 240), (640, 120)])
def test_scaling_follows_what_a_resize_does_to_pixels(size):
    camera = Camera(640, 480, K, "plumb_bob", LENSES["plumb_bob"])
    old_pixels = cv2.resize(pixel_grid(640, 480), size, interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(camera.scaled(*size).unproject(pixel_grid(*size)), camera.unproject(old_pixels), atol=1e-9)


@settings(max_examples=50)
@given(st.integers(1, 4000), st.integers(1, 3000))
def test_scaling_there_and_back_is_the_same_camera(width, height):
    camera = Camera(640, 480, K)
    np.testing.assert_allclose(camera.scaled(width, height).scaled(640, 480).K, K, atol=1e-9)


def test_cropping_shifts_pixels():
    camera, points = Camera(640, 480, K, "equidistant", LENSES["equidistant"]), seen_points()
    cropped = camera.cropped(100, 30, 200, 150)
    assert (cropped.width, cropped.height) == (200, 150)
    np.testing.assert_allclose(cropped.project(points), camera.project(points) - (100, 30), atol=1e-9)


@pytest.mark.parametrize("crop", [(-1, 0, 10, 10), (0, 0, 641, 10), (600, 0, 41, 10), (0, 0, 0, 10)])
def test_impossible_crops_are_refused(crop):
    with pytest.raises(CalibrationError):
        Camera(640, 480, K).cropped(*crop)


@pytest.mark.parametrize("fov", [20.0, 60.0, 120.0])
def test_a_field_of_view_spans_the_image(fov):
    camera = Camera.from_fov(640, 480, fov)
    left, right = camera.unproject(np.array([[-0.5, 239.5], [639.5, 239.5]]))
    angle = np.degrees(np.arccos(left @ right / np.linalg.norm(left) / np.linalg.norm(right)))
    assert angle == pytest.approx(fov)
    with pytest.raises(CalibrationError, match="between 0 and 180"):
        Camera.from_fov(640, 480, 10.0 * fov)


def test_equal_numbers_make_equal_cameras():
    camera = Camera(640, 480, K, "plumb_bob", LENSES["plumb_bob"])
    again = Camera(640, 480, K.tolist(), "plumb_bob", np.array(LENSES["plumb_bob"]))
    assert camera == again
    assert hash(camera) == hash(again)
    assert camera not in (camera.without_distortion(), camera.scaled(641, 480), "camera")


def test_a_camera_cannot_be_changed():
    camera = Camera(640, 480, K)
    with pytest.raises(ValueError, match="read-only"):
        camera.K[0, 0] = 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 0}, "width is 0"),
        ({"height": -480}, "height is -480"),
        ({"width": 640.0}, "whole number"),
        ({"height": True}, "whole number"),
        ({"K": K.ravel()}, r"shape \(9,\)"),
        ({"K": np.eye(4)}, r"shape \(4, 4\)"),
        ({"K": [[400.0, 0.0], [0.0]]}, "not a number"),
        ({"K": np.full((3, 3), "x")}, "not a number"),
        ({"K": np.where(K == 400.0, np.nan, K)}, "not finite"),
        ({"K": np.where(K == 410.0, np.inf, K)}, "not finite"),
        ({"K": np.zeros((3, 3))}, "calibrated"),
        ({"K": np.where(K == 410.0, -410.0, K)}, "fy = -410"),
        ({"K": K.T}, "last row"),
        ({"distortion_model": "fish"}, "known ones are plumb_bob"),
        ({"distortion_model": None}, "known ones are plumb_bob"),
        ({"distortion": [0.1, 0.2, 0.3]}, "plumb_bob takes 0 or 4 or 5"),
        ({"distortion": np.zeros((1, 5))}, "plumb_bob takes"),
        ({"distortion": [0.1, 0.2, np.nan, 0.0]}, "not finite"),
        ({"distortion_model": "equidistant", "distortion": np.zeros(5)}, "equidistant takes 4"),
        ({"distortion_model": "equidistant", "distortion": []}, "equidistant takes 4"),
        ({"distortion_model": "rational_polynomial", "distortion": np.zeros(5)}, "rational_polynomial takes"),
    ],
)
def test_impossible_calibrations_are_refused_in_a_sentence(change, words):
    good = {"width": 640, "height": 480, "K": K, "distortion_model": "plumb_bob", "distortion": np.zeros(5)}
    Camera(**good)
    with pytest.raises(CalibrationError, match=words) as caught:
        Camera(**good | change)
    assert str(caught.value).endswith((".", "?"))


def test_a_calibration_for_another_image_size_is_refused():
    undistorter = Undistorter(Camera(640, 480, K, "plumb_bob", LENSES["plumb_bob"]))
    with pytest.raises(CalibrationError, match="320 x 240 pixels, but its calibration is for 640 x 480"):
        undistorter.rectify(np.zeros((240, 320, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("row", "column", "value"), [(0, 0, 1e18), (1, 1, 1e300), (0, 0, 1e-3), (0, 2, -1e9), (1, 2, 1e300), (0, 1, 1e12)]
)
def test_an_impossible_camera_matrix_is_refused(row, column, value):
    K = np.array([[300.0, 0.0, 159.5], [0.0, 300.0, 119.5], [0.0, 0.0, 1.0]])
    K[row, column] = value
    with pytest.raises(CalibrationError, match="impossible for 320 x 240"):
        Camera(320, 240, K)


@pytest.mark.parametrize("units", [np.diag([1 / 320, 1 / 240, 1.0]), np.diag([0.003, 0.003, 1.0])], ids=["sizes", "millimetres"])
def test_a_camera_matrix_in_other_units_than_pixels_is_refused(units):
    with pytest.raises(CalibrationError, match="must be in pixels"):
        Camera(320, 240, units @ Camera.from_fov(320, 240, 60.0).K)


def test_impossible_distortion_is_refused():
    with pytest.raises(CalibrationError, match="no lens"):
        Camera(320, 240, Camera.from_fov(320, 240, 60.0).K, "plumb_bob", np.array([0.0, 1e18, 0.0, 0.0]))
