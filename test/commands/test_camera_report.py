# SPDX-License-Identifier: Apache-2.0
"""`st3r doctor --camera FILE`: what it says and what it returns."""

import json

import numpy as np
import pytest

from st3r_ros.cli import main
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import write_camera

K = np.array([[525.0, 0.0, 319.5], [0.0, 525.0, 239.5], [0.0, 0.0, 1.0]])


@pytest.fixture
def doctor(capfd, tmp_path):
    """Runs `st3r doctor --camera` on a file with a camera or a text; returns its code and what it printed."""

    def run(content, *arguments):
        path = tmp_path / "camera.yaml"
        if isinstance(content, Camera):
            write_camera(path, content)
        else:
            path.write_text(content)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--camera", str(path), *arguments])
        return int(ended.value.code or 0), capfd.readouterr().out

    return run


def test_a_good_calibration_is_described(doctor):
    code, text = doctor(Camera(640, 480, K, "plumb_bob", [-0.3, 0.1, 0.0, 0.0]))
    assert code == 0 and text.endswith("usable\n") and "DOUBT" not in text
    for expected in ("640x480 pixels", "fx = 525, fy = 525", "62.7 x 49.1 degrees", "at 50% of the width", "100% of the image"):
        assert expected in text


def test_a_doubt_is_told_and_a_fault_ends_with_code_1(doctor):
    code, text = doctor(Camera(640, 480, K, "plumb_bob", [0.5, 0.2, 0.0, 0.0]))
    assert code == 0 and "DOUBT" in text and "of the undistorted image and the rest is black" in text
    code, text = doctor(Camera(640, 480, K * [[2.0], [2.0], [1.0]]))
    assert code == 1 and "NOT USABLE: " in text and "so K is of images of about 1279x959 pixels" in text
    code, text = doctor("robot: x\n", "--json")
    report = json.loads(text)
    assert code == 1 and not report["usable"] and "unknown format with the keys robot" in report["problem"]


def test_the_measures_are_in_the_json(doctor):
    code, text = doctor(Camera(640, 480, K, "plumb_bob", [-0.3, 0.0, 0.02, 0.0]), "--json")
    report = json.loads(text, parse_constant=pytest.fail)
    images = report["images"][0]
    assert code == 0 and report["usable"] and images["principal_point"] == [0.5, 0.5]
    assert images["undistorted_share"] == 1.0 and images["fold_px"] is None
    assert images["tangential_share"] == pytest.approx(0.0147, abs=0.0005)  # (r^2 + 2 y^2) p1 and 2 x y p1 at a corner


def test_a_file_without_a_size_is_judged_around_its_principal_point(doctor):
    code, text = doctor("525 0 319.5\n0 525 239.5\n0 0 1\n")
    assert code == 0 and "judged for 640x480 pixels" in text
