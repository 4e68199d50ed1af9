# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from st3r_ros.geometry.camera import Camera
from st3r_ros.slam.tracking.camera_watch import CameraWatch


def camera(focal: float = 250.0, cx: float = 159.5, D: tuple[float, ...] = ()) -> Camera:
    return Camera(320, 240, np.array([[focal, 0, cx], [0, focal, 119.5], [0, 0, 1]]), "plumb_bob", np.array(D))


def told(*cameras: Camera | None) -> list[str]:
    watch = CameraWatch()
    return [watch.look(each) for each in cameras]


def test_the_same_calibration_and_autofocus_say_nothing():
    assert told(None, camera(), camera(), None, camera(253.0), camera(249.0, 161.0)) == [""] * 6


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (camera(375.0), "its focal length is 375 px instead of 250"),
        (camera(cx=190.0), r"its principal point is (190, 120) instead of (160, 120)"),
        (camera(D=(-0.2, 0.05, 0.0, 0.0)), "its distortion is another one"),
    ],
)
def test_another_calibration_is_told_once(other, words):
    assert told(camera(), other, other, other) == ["", f"The calibration has changed: {words}", "", ""]


def test_a_zoom_is_told_at_every_few_per_cent_of_the_way():
    said = told(*(camera(250.0 * 1.005**k) for k in range(21)))
    assert 3 <= sum(bool(s) for s in said) <= 5 and not any("back and forth" in s for s in said)


def test_two_that_alternate_are_told_once():
    watch = CameraWatch()
    said = [watch.look(camera(each)) for each in (250.0, 375.0) * 5]
    assert [bool(s) for s in said] == [False, True, True] + [False] * 7
    assert "goes back and forth" in said[2] and watch.alternates
