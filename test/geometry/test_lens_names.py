# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry import distortion
from st3r_ros.geometry.lens_names import find_lens, kind_of_lens

TILTED = [0.1, -0.05, 0.001, -0.002, 0.01, 0.02, 0.01, 0.005, 0.001, 0.0, -0.001, 0.0, 0.03, -0.02]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("plumb_bob", "Plumb Bob", "radtan", "radial-tangential", "OPENCV", "brown_conrady"), "plumb_bob"),
        (("rational", "rational_polynomial", "FULL_OPENCV"), "rational_polynomial"),
        (
            ("equidistant", "fisheye", "equi", "KANNALA_BRANDT", "kannala_brandt4", "KannalaBrandt8", "OPENCV_FISHEYE"),
            "equidistant",
        ),
        (("pinhole", "PINHOLE", "perspective", "Pinhole "), "pinhole"),
        (("none", "None", "no distortion", "rectified"), "none"),
        (("magic", "", "omni"), None),
    ],
)
def test_every_name_of_a_lens_is_known(names, kind):
    assert {kind_of_lens(name) for name in names} == {kind}


@pytest.mark.parametrize(
    ("names", "given", "model", "used"),
    [
        ({"distortion_model": "equidistant"}, [0.1, 0.2, 0.0, 0.0, 0.0], "equidistant", [0.1, 0.2, 0.0, 0.0]),  # T265
        ({"camera_model": "fisheye"}, [0.1, 0.2, 0.3, 0.4], "equidistant", [0.1, 0.2, 0.3, 0.4]),
        ({"camera_model": "pinhole", "distortion_model": "equidistant"}, [0.1, 0, 0, 0], "equidistant", [0.1, 0, 0, 0]),
        ({"distortion_model": "fisheye"}, [0.1, 0.2, 0.0, 0.0, 0.3, 0.4], "equidistant", [0.1, 0.2, 0.3, 0.4]),  # RTAB-Map
        ({"distortion_model": "plumb_bob"}, [0.0] * 8, "plumb_bob", [0.0] * 5),
        ({"distortion_model": "plumb_bob"}, [0.1, 0, 0, 0, 0.2, 0, 0, 0], "plumb_bob", [0.1, 0, 0, 0, 0.2]),
        ({"distortion_model": "plumb_bob"}, [], "plumb_bob", []),
        ({"distortion_model": "rational_polynomial"}, [*TILTED[:8], *[0.0] * 6], "rational_polynomial", TILTED[:8]),  # OAK
        ({"distortion_model": "rational_polynomial"}, TILTED, "rational_polynomial", TILTED),
        ({"distortion_model": "rational_polynomial"}, TILTED[:5], "rational_polynomial", [*TILTED[:5], 0, 0, 0]),
        ({"distortion_model": "none"}, [0.0] * 5, "plumb_bob", []),
        ({"distortion_model": "plumb_bob", "camera_model": "acA1300-60gc"}, [0.1, 0, 0, 0], "plumb_bob", [0.1, 0, 0, 0]),
        ({"distortion_model": "plumb_bob", "camera_model": "OmniVision OV5647"}, [0.1, 0, 0, 0], "plumb_bob", [0.1, 0, 0, 0]),
        ({"distortion_model": "plumb_bob", "camera_model": "DS-2CD2143G0"}, [0.1, 0, 0, 0], "plumb_bob", [0.1, 0, 0, 0]),
    ],
)
def test_coefficients_have_the_lengths_that_drivers_send(names, given, model, used):
    lens = find_lens(names, np.array(given, dtype=float))
    assert (lens.model, lens.note) == (model, "")
    np.testing.assert_array_equal(lens.distortion, used)


@pytest.mark.parametrize(
    ("names", "given", "reason"),
    [
        (
            {"distortion_model": "plumb_bob", "camera_model": "fisheye"},
            [0.1] * 4,
            "plumb_bob' and 'camera_model: fisheye' contradict",
        ),
        (
            {"camera_model": "omni", "distortion_model": "radtan"},
            [0.1] * 4,
            "'camera_model: omni' is a lens that is not supported",
        ),
        ({"distortion_model": "fov"}, [0.9], "'distortion_model: fov' is a lens that is not supported"),
        ({"distortion_model": "double_sphere"}, [], "not supported"),
        ({"distortion_model": "magic"}, [0.0] * 5, "'distortion_model: magic' is not a known"),
        ({"camera_model": "magic"}, [0.0] * 5, "'camera_model: magic' is not a known"),
        ({"distortion_model": "none"}, [0.1, 0.0, 0.0, 0.0], "means no distortion, but"),
        ({"distortion_model": "plumb_bob"}, [0.1] * 8, "is it rational_polynomial?"),
        ({"distortion_model": "plumb_bob"}, [0.1] * 3, "3 distortion coefficients"),
        ({"distortion_model": "plumb_bob"}, [0, 1, 0, 5, 0, 0, 0, 0, 0, 0], "10 distortion coefficients"),  # decimal commas
        ({"distortion_model": "equidistant"}, [], "takes 4"),
        ({"distortion_model": "equidistant"}, [0.1, 0.1, 0.1, 0.1, 0.1], "takes 4"),
        ({"distortion_model": "plumb_bob"}, [np.nan] * 5, "not finite"),
    ],
)
def test_another_lens_is_never_assumed(names, given, reason):
    with pytest.raises(CalibrationError, match=reason.replace("?", r"\?")):
        find_lens(names, np.array(given, dtype=float))


@pytest.mark.parametrize("names", [{}, {"camera_model": "pinhole"}])
def test_what_is_assumed_without_a_name_is_said(names):
    assert "interpreted as plumb_bob" in find_lens(names, np.array([0.1, 0.0, 0.0, 0.0])).note
    assert "interpreted as rational_polynomial" in find_lens(names, np.full(8, 0.1)).note
    assert find_lens(names, np.zeros(5)).note == ""


def test_a_tilted_sensor_is_that_of_opencv():
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (40, 2))
    there = cv2.projectPoints(np.c_[points, np.ones(40)], np.zeros(3), np.zeros(3), np.eye(3), np.array(TILTED))[0][:, 0]
    ours = distortion.distort("rational_polynomial", np.array(TILTED), points)
    np.testing.assert_allclose(ours, there, atol=1e-9)
    np.testing.assert_allclose(distortion.undistort("rational_polynomial", np.array(TILTED), ours), points, atol=1e-9)
