# SPDX-License-Identifier: Apache-2.0
"""What cannot be a camera, and that no real one is doubted: the numbers are those of published calibrations."""

import numpy as np
import pytest

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.plausibility import examine

EQUIDISTANT, RATIONAL = "equidistant", "rational_polynomial"
OAK = [-3.475167, -38.573475, 0.000343096, -9.377e-05, 286.440094, -3.640805, -36.68898, 279.052368]
WIDE = [0.93, 0.1659, -2.4e-5, -1.4e-5, 0.002886, 1.33146, 0.4358, 0.0276]
REAL = {
    "EuRoC": (752, 480, 458.654, 457.296, 367.215, 248.375, [-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05]),
    "TUM RGB-D fr1": (640, 480, 517.3, 516.5, 318.6, 255.3, [0.2624, -0.9531, -0.0054, 0.0026, 1.1633]),
    "TUM-VI": (512, 512, 190.978, 190.973, 254.932, 256.897, [0.00348, 0.000715, -0.00205, 0.000203], EQUIDISTANT),
    "KITTI raw": (1392, 512, 984.24, 980.81, 690.0, 233.2, [-0.37288, 0.20373, 0.002219, 0.0013837, -0.072337]),
    "KITTI-360": (1408, 376, 552.55, 552.55, 682.05, 238.77, []),
    "T265": (848, 800, 286.18, 286.23, 417.5, 395.7, [-0.0035, 0.0416, -0.0395, 0.0077], EQUIDISTANT),
    "D455": (848, 480, 426.675, 426.104, 425.34, 247.517, [-0.0553553, 0.0643961, -0.00104975, 0.000458077]),
    "OAK-D": (1280, 720, 1037.0, 1037.0, 636.0, 367.0, OAK, RATIONAL),
    "ZED": (1280, 720, 699.3, 699.3, 652.6, 358.1, [-0.1731, 0.0269, 0.0, 0.0, 0.0]),
    "Kinect v2": (1920, 1080, 1059.95, 1053.93, 954.88, 523.74, [0.0565, -0.0726, 0.0001, -0.0012, 0.0189]),
    "GoPro": (1920, 1080, 857.5, 857.6, 968.1, 556.3, [-0.2619, 0.0924, -0.0001, 0.0003, -0.0155]),
    "Raspberry Pi wide": (640, 480, 205.0, 205.0, 322.0, 240.0, [-0.32, 0.11, 0.0005, -0.0004, -0.017]),
    "IMX219-160": (1280, 720, 636.4, 636.2, 623.9, 367.5, [-0.3245, 0.1265, 0.0008, -0.0012, -0.0231]),
    "fisheye of 220 degrees": (1280, 960, 260.0, 260.0, 640.0, 480.0, [0.02, -0.01, 0.003, -0.001], EQUIDISTANT),
    "120 degrees": (2880, 1860, 1495.3, 1494.8, 1424.5, 943.5, WIDE, RATIONAL),
    "a webcam": (640, 480, 472.07, 469.5, 325.8, 231.6, [0.09889, -0.19307, -0.011889, 0.003196, -0.066268]),
    "the camera of MiRo": (320, 240, 228.7, 229.1, 152.2, 99.8, [-0.320943, 0.078716, 0.018855, 0.004194, 0.0]),
    "a machine vision lens": (1440, 1080, 2665.0, 2673.4, 696.8, 500.5, [-0.3036, 4.16325, -0.00843, -0.00383]),
    "an F37": (1920, 1080, 1726.6, 1737.36, 904.98, 529.12, [0.169978, -0.697303, -0.002944, -0.004961, 0.0]),
    "Raspberry Pi v2": (410, 308, 322.07, 320.867, 199.268, 155.253, [0.163996, -0.27184, 0.001056, -0.001666, 0.0]),
    "a fisheye of 1280x720": (1280, 720, 322.54, 321.5, 641.87, 326.49, [0.057458, 0.038535, -0.025005, 0.004014], EQUIDISTANT),
    "a camera with its centre at 41 %": (640, 480, 885.15, 884.02, 263.15, 271.93, [0.178795, -0.5381, 0.00186, -0.012486, 0.0]),
    "squeezed from 16:9": (640, 480, 460.0, 613.0, 321.0, 243.0, []),
}


def camera_of(width, height, fx, fy, cx, cy, D=(), model="plumb_bob"):
    return Camera(width, height, np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), model, np.array(D))


@pytest.mark.parametrize("numbers", REAL.values(), ids=list(REAL))
def test_a_real_camera_is_not_doubted(numbers):
    verdict = examine(camera_of(*numbers))
    assert (verdict.fault, verdict.doubts) == ("", ())


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((640, 480, 1050.0, 1050.0, 639.0, 479.0), "at 100% of the width and 100% of the height of 640x480 pixels, so K"),
        ((640, 480, 262.0, 262.0, 159.5, 119.5), "so K is of images of about 320x240 pixels"),
        ((640, 480, 1050.0, 1050.0, 959.5, 539.5), "so K is of images of about 1920x1080 pixels"),
        ((640, 480, 525.0, 525.0, 0.0, 0.0), "in its corner; set cx and cy"),
        ((640, 480, 525.0, 525.0, 319.5, 2000.0), "far outside of the image"),
        ((640, 480, 5250.0, 525.0, 319.5, 239.5), "differ by a factor of 10.0"),
        ((640, 480, 525.0, 525.0, 319.5, 239.5, [1e3] * 5), "leaves 0% of the undistorted image"),
        ((640, 480, 525.0, 525.0, 319.5, 239.5, [-1e3, 0.0, 0.0, 0.0]), "it folds over 1"),
        ((640, 480, 525.0, 525.0, 319.5, 239.5, [5.0, 0.0, 0.0, 0.0]), "its edges come from outside of the image"),
        ((640, 480, 300.0, 300.0, 319.5, 239.5, [-1.0, 0.0, 0.0, 0.0], EQUIDISTANT), "has in the order k1, k2, k3, k4"),
        ((640, 480, 517.3, 516.5, 318.6, 255.3, [0.2624, -0.9531, 1.1633, -0.0054, 0.0026]), "in the order k1, k2, p1, p2, k3"),
        ((752, 480, 458.7, 457.3, 367.2, 248.4, [0.0002, 2e-05, -0.2834, 0.07396]), "The tangential terms p1 = -0.2834"),
    ],
)  # fmt: skip
def test_what_no_camera_has_is_a_fault_with_its_number(numbers, words):
    fault = examine(camera_of(*numbers)).fault
    assert words in fault and fault.endswith(".")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1280, 480, 525.0, 525.0, 319.5, 239.5), "25% of the width and 50% of the height of 1280x480 pixels: right if"),
        ((1280, 960, 525.0, 525.0, 511.5, 383.5), "wrong if K is of images of about 1024x768 pixels"),
        ((320, 240, 251.0, 251.0, 119.5, 159.5), "wrong if cx and cy are swapped or K is of 240x320 pixels"),
        ((480, 640, 525.0, 525.0, 322.0, 235.0), "wrong if cx and cy are swapped or K is of 640x480 pixels"),
        ((640, 360, 525.0, 525.0, 319.5, 240.0), "50% of the width and 67% of the height of 640x360 pixels: right if"),
        ((640, 360, 525.0, 525.0, 319.5, 239.5), "wrong if K is of images of about 640x480 pixels"),
        ((640, 480, 525.0, 525.0, 319.5, 179.5), "wrong if K is of images of about 640x360 pixels"),
        ((640, 480, 525.0, 525.0, -160.0, 239.5), "The principal point (-160, 239.5) is at -25% of the width"),
        ((640, 480, 525.0, 525.0, 319.5, -300.0), "The principal point (319.5, -300) is at 50% of the width and -62%"),
        ((320, 240, 31.0, 31.0, 159.5, 119.5), "fx = 31 for a width of 320 pixels is that of a pinhole with a field"),
        ((320, 240, 31.0, 31.0, 159.5, 119.5), "a pinhole with a field of view of 158 degrees: right if the images were"),
        ((240, 320, 31.0, 31.0, 119.5, 159.5), "fy = 31 for a height of 320 pixels is that of a pinhole with a field"),
        ((320, 240, 31.0, 31.0, 159.5, 119.5, [0.0] * 4, EQUIDISTANT), "a fisheye with a field of view of 444 degrees"),
        ((320, 240, 9600.0, 9600.0, 159.5, 119.5), "a pinhole with a field of view of 1.91 degrees: right with a telescope"),
        ((640, 480, 500.0, 500.0, 319.5, 239.5, [-0.9, 0.0, 0.0, 0.0], EQUIDISTANT), "folds over 35 degrees from the optical"),
        ((640, 480, 600.0, 600.0, 319.5, 239.5, [-0.9, 0.0, 0.0, 0.0], EQUIDISTANT), "so 40% of the image is beyond what it"),
        ((640, 480, 500.0, 500.0, 319.5, 239.5, [-0.9, 0.0, 0.0, 0.0]), "folds over 31 degrees from the optical axis, so 58%"),
        ((640, 480, 525.0, 1000.0, 319.5, 239.5), "differ by a factor of 1.9"),
        ((752, 480, 458.654, 457.296, 367.215, 248.375, [0.28341, 0.07396, 0.0, 0.0]), "leaves 76% of the undistorted image"),
        ((640, 480, 220.0, 220.0, 319.5, 239.5, [-0.3, 0.0, 0.0, 0.0]), "it folds over 2"),
        ((640, 480, 525.0, 525.0, 319.5, 239.5, [-0.28, 0.09, -0.02, 0.0005, -0.0003]), "k3, p1, p2? It must be k1, k2, p1, p2"),
        ((640, 480, 525.0, 525.0, 319.5, 239.5, [-0.28, 0.09, 0.06, 0.05]), "the order must be k1, k2, p1, p2"),
    ],
)  # fmt: skip
def test_what_is_rarely_right_is_doubted_with_its_number(numbers, words):
    verdict = examine(camera_of(*numbers))
    (doubt,) = verdict.doubts
    assert verdict.fault == "" and words in doubt and doubt.endswith(".")


@pytest.mark.parametrize(("skew", "is_fault"), [(0.0, False), (1.5, False), (40.0, True)])
def test_a_skew_is_told(skew, is_fault):
    K = np.array([[525.0, skew, 319.5], [0.0, 525.0, 239.5], [0.0, 0.0, 1.0]])
    fault = examine(Camera(640, 480, K)).fault
    assert fault.startswith(f"K has the skew {skew:g}") if is_fault else fault == ""


def test_a_part_of_an_image_may_have_its_principal_point_anywhere():
    corner = camera_of(320, 240, 525.0, 525.0, 319.5, 239.5)
    assert examine(corner).fault
    assert (examine(corner, cropped=True).fault, examine(corner, cropped=True).doubts) == ("", ())


def test_the_measures_are_those_of_the_undistorted_image():
    camera = camera_of(640, 480, 220.0, 220.0, 319.5, 239.5, [-0.3, 0.0, 0.0, 0.0])
    fold = 220.0 * np.sqrt(1.0 / 0.9)  # where r - 0.3 r^3 has its maximum
    y, x = np.mgrid[:480, :640]
    measures = examine(camera).measures
    assert measures.fold_px == pytest.approx(fold, abs=10.0)
    assert measures.left == pytest.approx((np.hypot(x - 319.5, y - 239.5) < fold).mean(), abs=0.02)


@pytest.mark.parametrize(("model", "fold"), [("plumb_bob", np.sqrt(1.0 / 2.7)), (EQUIDISTANT, np.tan(np.sqrt(1.0 / 2.7)))])
def test_what_lies_beyond_the_fold_is_measured_in_the_image_that_the_sensor_takes(model, fold):
    reach = 500.0 * np.sqrt(1.0 / 2.7) * 2.0 / 3.0  # the maximum of x - 0.9 x^3, in pixels
    y, x = np.mgrid[:480, :640]
    measures = examine(camera_of(640, 480, 500.0, 500.0, 319.5, 239.5, [-0.9, 0.0, 0.0, 0.0], model)).measures
    assert measures.fold_deg == pytest.approx(np.degrees(np.arctan(fold)), abs=0.1)
    assert measures.beyond == pytest.approx((np.hypot(x - 319.5, y - 239.5) > reach).mean(), abs=0.02)


def test_a_fold_outside_of_the_image_is_not_doubted():
    """The same polynomial behind a longer lens, whose corners are before the fold."""
    verdict = examine(camera_of(640, 480, 1000.0, 1000.0, 319.5, 239.5, [-0.9, 0.0, 0.0, 0.0], EQUIDISTANT))
    assert (verdict.measures.beyond, verdict.doubts) == (0.0, ())
