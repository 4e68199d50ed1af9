# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sample_images import properties

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import camera_from_info, find_camera, read_camera, write_camera

K = [525.0, 0.0, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0]
GOOD = {
    "image_width": 640,
    "image_height": 480,
    "camera_name": "test",
    "camera_matrix": {"rows": 3, "cols": 3, "data": K},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.1, -0.2, 0.001, 0, 0]},
}
COUNTS = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}


def info(**changes):
    """The fields of a CameraInfo."""
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    fields = {
        "width": 640,
        "height": 480,
        "k": K,
        "d": [0.1, -0.2, 0.0, 0.0, 0.0],
        "distortion_model": "plumb_bob",
        "roi": roi,
        "p": [0.0] * 12,
    }
    return SimpleNamespace(**{**fields, "roi": roi, "p": [0.0] * 12, "binning_x": 0, "binning_y": 0, **changes})


@properties
@given(model=st.sampled_from(sorted(COUNTS)), seed=st.integers(0, 1000))
def test_what_is_written_is_read_back_exactly(tmp_path_factory, model, seed):
    rng = np.random.default_rng(seed)
    matrix = np.array([[rng.uniform(400, 700), 0, 320.123456789], [0, 512.1, 239.5000001], [0, 0, 1]])
    camera = Camera(640, 480, matrix, model, rng.normal(0, 1e-5, COUNTS[model]))
    path = tmp_path_factory.mktemp("calibration") / "camera.yaml"
    write_camera(path, camera, name="front")
    assert read_camera(path) == camera == find_camera(path.parent)
    assert yaml.safe_load(path.read_text())["camera_name"] == "front"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_width": None}, "the key image_width is missing"),
        ({"camera_matrix": None}, "the key camera_matrix is missing"),
        ({"distortion_coefficients": None}, "the key distortion_coefficients is missing"),
        ({"image_height": "tall"}, "image_height is 'tall'"),
        ({"image_height": -480}, "image_height is -480"),
        ({"camera_matrix": {"rows": 3, "cols": 3, "data": K[:8]}}, "camera_matrix has 8 values; it must have 9"),
        ({"camera_matrix": {"rows": 3, "cols": 3}}, "camera_matrix has no list 'data'"),
        ({"camera_matrix": {"data": ["f", *K[1:]]}}, "camera_matrix contains something that is not a number"),
        ({"camera_matrix": {"data": [float("nan"), *K[1:]]}}, "camera_matrix contains a value that is not finite"),
        ({"camera_matrix": {"data": [0.0] * 9}}, "focal lengths"),
        ({"distortion_model": "magic"}, "magic"),
        ({"distortion_coefficients": {"data": [0.1] * 3}}, "distortion coefficients"),
    ],
)
def test_reasons_name_the_file_and_the_key(tmp_path, change, reason):
    path = tmp_path / "camera.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**GOOD, **change}.items() if value is not None}))
    with pytest.raises(CalibrationError, match=rf"camera\.yaml' is wrong: .*{reason}"):
        read_camera(path)


@pytest.mark.parametrize(
    "content", [b"", b"[1, 2]", b"just text", b"a: [1, 2", b"%YAML:1.0\n---\nK: !!opencv-matrix\n  rows: 3\n", b"\xff\xfe\x00"]
)
def test_files_that_are_no_calibration_say_so(tmp_path, content):
    (tmp_path / "camera.yaml").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"camera\.yaml'"):
        read_camera(tmp_path / "camera.yaml")


def test_an_absent_file_is_an_error_only_when_asked_for(tmp_path):
    assert find_camera(tmp_path) is None
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_camera(tmp_path / "camera.yaml")


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    text = yaml.safe_dump(GOOD).replace("- 0.001", "- 1e-3")
    (tmp_path / "camera.yaml").write_text(text)
    assert "1e-3" in text and read_camera(tmp_path / "camera.yaml").distortion[2] == 0.001


def test_camera_info_is_the_camera_of_its_images():
    camera = camera_from_info(info())
    assert camera == Camera(640, 480, np.array(K).reshape(3, 3), "plumb_bob", np.array([0.1, -0.2, 0, 0, 0]))
    assert camera_from_info(info(k=[0.0] * 9)) is None
    assert camera_from_info(info(distortion_model="", d=[])) == camera.without_distortion()


def test_region_of_interest_and_binning_apply_to_k():
    region = SimpleNamespace(x_offset=100, y_offset=50, width=400, height=300)
    camera = camera_from_info(info(roi=region, binning_x=2, binning_y=2))
    full = camera_from_info(info())
    assert (camera.width, camera.height) == (200, 150)
    point = np.array([0.3, -0.2, 2.0])
    np.testing.assert_allclose((full.project(point) - (100, 50) + 0.5) / 2 - 0.5, camera.project(point), atol=1e-9)


def test_the_principal_point_is_judged_in_the_whole_image_of_the_sensor():
    corner = SimpleNamespace(x_offset=0, y_offset=0, width=330, height=250)
    whole = SimpleNamespace(x_offset=0, y_offset=0, width=640, height=480)
    assert camera_from_info(info(roi=corner)).K[0, 2] == 319.5
    twice = [2 * value for value in K[:8]] + [1.0]
    with pytest.raises(CalibrationError, match="so K is of images of about 1279x959 pixels"):
        camera_from_info(info(k=twice, roi=whole))


@pytest.mark.parametrize(
    "changes",
    [
        {"roi": SimpleNamespace(x_offset=300, y_offset=0, width=400, height=300)},
        {"binning_x": 641},
        {"width": 0},
        {"d": [0.1]},
        {"k": [-1.0, *K[1:]]},
    ],
)
def test_a_camera_info_that_contradicts_itself_is_refused(changes):
    with pytest.raises(CalibrationError):
        camera_from_info(info(**changes))
