# SPDX-License-Identifier: Apache-2.0
"""Which camera images have after what calibrations say, one after the other: for bags and nodes alike."""

import dataclasses

import numpy as np
import pytest

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import Calibration, CameraChoice, is_named_rectified

SIZE = (640, 480)
K = np.array([[525.0, 0.0, 319.5], [0.0, 525.0, 239.5], [0.0, 0.0, 1.0]])
P = K * [[0.8], [0.8], [1.0]] + [[0, 0, 64.0], [0, 0, 48.0], [0, 0, 0]]
D = np.array([-0.3, 0.1, 0.0, 0.0, 0.0])
DRIVER = Calibration("/cam/camera_info", K, SIZE, {"distortion_model": "plumb_bob"}, D, P)
RAW, RECTIFIED = Camera(*SIZE, K, "plumb_bob", D), Camera(*SIZE, P)


def chosen(name, *calibrations, rectified="auto", size=SIZE):
    choice = CameraChoice(name, rectified)
    for calibration in calibrations:
        choice.add(calibration)
    return choice.camera(*size), choice.notes


@pytest.mark.parametrize(
    ("name", "rectified"),
    [
        ("/cam/image_rect", True),
        ("/cam/image_rect_color/compressed", True),
        ("/camera/infra1/image_rect_raw", True),
        ("/left/rectified/image", True),
        ("/left/imageRect", True),
        ("/cam/image_undistorted", True),
        ("/cam/image_raw", False),
        ("/rect/image_raw", False),
        ("/cam/image_raw/compressed", False),
        ("/camera_direct/image", None),
        ("/corrected/image", None),
        ("/rectangle/image", None),
        ("image", None),
    ],
)
def test_names_tell_whether_images_are_rectified(name, rectified):
    assert is_named_rectified(name) is rectified


@pytest.mark.parametrize(
    ("name", "rectified", "camera", "words"),
    [
        ("/cam/image_rect", "auto", RECTIFIED, "is treated as rectified, by its name: P of /cam/camera_info"),
        ("/cam/image_rect", "no", RAW, "is treated as not rectified, as configured: K and D"),
        ("/cam/image_raw", "auto", RAW, "is treated as not rectified, by its name: K and D"),
        ("/cam/image", "auto", RAW, "is treated as not rectified: K and D"),
        ("/cam/image", "yes", RECTIFIED, "is treated as rectified, as configured: P"),
    ],
)
def test_images_are_never_undistorted_twice_and_what_is_taken_is_said_once(name, rectified, camera, words):
    taken, notes = chosen(name, DRIVER, dataclasses.replace(DRIVER, K=K), rectified=rectified)
    assert taken == camera
    assert len(notes) == 1 and words in notes[0]


def test_nothing_is_said_where_nothing_could_be_otherwise():
    plain = dataclasses.replace(DRIVER, coefficients=np.zeros(5), P=K)
    for name in ("/cam/image_rect", "/cam/image_raw"):
        assert chosen(name, plain) == (Camera(*SIZE, K, "plumb_bob", np.zeros(0 if "rect" in name else 5)), [])


def test_rectified_images_do_not_need_a_lens_that_is_supported():
    fov = dataclasses.replace(DRIVER, lens_names={"distortion_model": "fov"}, coefficients=np.array([0.9, np.nan]))
    assert chosen("/cam/image_rect", fov)[0] == RECTIFIED
    with pytest.raises(CalibrationError, match="'distortion_model: fov' is a lens that is not supported"):
        chosen("/cam/image_raw", fov)


def test_without_p_the_k_of_rectified_images_is_taken_and_said():
    camera, notes = chosen("/cam/image_rect", dataclasses.replace(DRIVER, P=None))
    assert camera == RAW.without_distortion() and "has no P" in notes[0]


def test_without_k_the_p_is_taken_and_said():
    camera, notes = chosen("/cam/image_raw", dataclasses.replace(DRIVER, K=None))
    assert camera == RECTIFIED and "has P but no K" in notes[0]


@pytest.mark.parametrize(
    "wrong",
    [
        dataclasses.replace(DRIVER, K=None, P=None),
        dataclasses.replace(DRIVER, K=K * np.nan),
        dataclasses.replace(DRIVER, lens_names={"distortion_model": "magic"}),
        dataclasses.replace(DRIVER, size=(1280, 720)),
    ],
)
def test_what_fits_the_image_is_used_whatever_came_before_or_after(wrong):
    assert chosen("/cam/image_raw", wrong, DRIVER)[0] == RAW
    assert chosen("/cam/image_raw", DRIVER, wrong)[0] == RAW


HALF = dataclasses.replace(DRIVER, K=K * [[0.5], [0.5], [1.0]])
SIDE_BY_SIDE = dataclasses.replace(DRIVER, K=K - [[0, 0, 160.0], [0, 0, 0], [0, 0, 0]], P=None)


def test_what_cannot_be_right_is_not_used_and_said_with_its_number():
    assert chosen("/cam/image_raw", HALF, DRIVER)[0] == chosen("/cam/image_raw", DRIVER, HALF)[0] == RAW
    assert chosen("/cam/image_rect", HALF)[0] == RECTIFIED
    with pytest.raises(CalibrationError, match=r"^/cam/camera_info is wrong: The principal point .* is at 25% of the width"):
        chosen("/cam/image_raw", HALF)
    with pytest.raises(CalibrationError, match="for images of 640x480 pixels, but these have 320x240"):
        chosen("/cam/image_raw", HALF, size=(320, 240))


def test_a_doubt_is_said_once_whatever_an_autofocus_does():
    choice = CameraChoice("/cam/image_raw")
    for focus in (1.0, 1.01, 1.02):
        choice.add(dataclasses.replace(SIDE_BY_SIDE, K=SIDE_BY_SIDE.K * [[focus], [1.0], [1.0]]))
        assert choice.camera(*SIZE) is not None
    (doubt,) = choice.doubts
    assert choice.notes == [doubt] and doubt.startswith(
        "/cam/camera_info is doubtful, but used: The principal point (159.5, 239.5)"
    )


def test_the_newest_is_used():
    closer = dataclasses.replace(DRIVER, K=K * [[1.01], [1.01], [1.0]])
    assert chosen("/cam/image_raw", DRIVER, closer)[0].K[0, 0] == 1.01 * 525.0


def test_a_calibration_without_a_size_is_for_images_around_its_centre():
    sizeless = dataclasses.replace(DRIVER, size=None)
    camera, notes = chosen("/cam/image_raw", sizeless)
    assert camera == RAW and "gives no image size: that of the images is used, 640x480" in notes[0]
    with pytest.raises(CalibrationError, match="not in the centre of images of 1280x960"):
        chosen("/cam/image_raw", sizeless, size=(1280, 960))


def test_a_calibration_of_turned_images_is_refused_by_name():
    with pytest.raises(CalibrationError, match="640x480 pixels, but these have 480x640; width and height are swapped"):
        chosen("/cam/image_raw", DRIVER, size=(480, 640))


def test_an_uncalibrated_camera_is_none():
    assert chosen("/cam/image_raw") == (None, [])
    assert chosen("/cam/image_raw", dataclasses.replace(DRIVER, K=None, P=None)) == (None, [])
