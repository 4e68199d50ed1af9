# SPDX-License-Identifier: Apache-2.0
"""One camera in the files that people have."""

import json

import cv2
import numpy as np
import pytest

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import read_calibration, read_camera

SIZE = (640, 480)
FX, FY, CX, CY = 525.0, 520.0, 319.5, 239.5
K = np.array([[FX, 0.0, CX], [0.0, FY, CY], [0.0, 0.0, 1.0]])
FLAT = [float(value) for value in K.reshape(-1)]
D = [0.1, -0.2, 0.001, -0.002]
LENS = Camera(*SIZE, K, "plumb_bob", np.array(D))
IDEAL = LENS.without_distortion()
FISHEYE = Camera(*SIZE, K, "equidistant", np.array(D))

SIZES = "image_width: 640\nimage_height: 480\n"
MATRICES = f"camera_matrix:\n  rows: 3\n  cols: 3\n  data: {FLAT}\ndistortion_coefficients:\n  rows: 1\n  cols: 4\n  data: {D}\n"
OPENCV = MATRICES.replace("matrix:", "matrix: !!opencv-matrix").replace("coefficients:", "coefficients: !!opencv-matrix")
LIST = "".join(f"- {value}\n" for value in FLAT)
INFO = (
    "header:\n  stamp:\n    sec: 17\n    nanosec: 0\n  frame_id: camera\nheight: 480\nwidth: 640\ndistortion_model: plumb_bob\n"
    f"d: {D}\nk:\n{LIST}r: {np.eye(3).reshape(-1).tolist()}\np: {[0.0] * 12}\nbinning_x: 0\nbinning_y: 0\n"
    "roi:\n  x_offset: 0\n  y_offset: 0\n  height: 0\n  width: 0\n  do_rectify: false\n---\n"
)
NO_INFO = INFO.replace(LIST, "- 0.0\n" * 9)
KALIBR = (
    "  camera_model: pinhole\n  distortion_model: radtan\n"
    f"  distortion_coeffs: {D}\n  intrinsics: [{FX}, {FY}, {CX}, {CY}]\n  resolution: [640, 480]\n"
)
EUROC = KALIBR.replace("  ", "").replace("radtan", "radial-tangential").replace("coeffs", "coefficients")
ORB = (
    f"%YAML:1.0\n\n# settings\nCamera.fx: {FX}\nCamera.fy: {FY}\nCamera.cx: {CX}\nCamera.cy: {CY}\nCamera.width: 640\n"
    f"Camera.height: 480\nCamera.k1: {D[0]}\nCamera.k2: {D[1]}\nCamera.p1: {D[2]}\nCamera.p2: {D[3]}\n"
)
VINS = (
    f"%YAML:1.0\n---\nmodel_type: PINHOLE\ncamera_name: camera\n{SIZES}distortion_parameters:\n   k1: {D[0]}\n   k2: {D[1]}\n"
    f"   p1: {D[2]}\n   p2: {D[3]}\nprojection_parameters:\n   fx: {FX}\n   fy: {FY}\n   cx: {CX}\n   cy: {CY}\n"
)
OST = (
    "# oST version 5.0 parameters\n\n[image]\n\nwidth\n640\n\nheight\n480\n\n[narrow_stereo]\n\ncamera matrix\n"
    f"{FX} 0 {CX}\n0 {FY} {CY}\n0 0 1\n\ndistortion\n{D[0]} {D[1]} {D[2]} {D[3]}\n\nrectification\n1 0 0\n0 1 0\n0 0 1\n\n"
    f"projection\n{FX} 0 {CX} 0\n0 {FY} {CY} 0\n0 0 1 0\n"
)
NERF = {
    "fl_x": FX,
    "fl_y": FY,
    "cx": CX + 0.5,
    "cy": CY + 0.5,
    "w": 640,
    "h": 480,
    **dict(zip(("k1", "k2", "p1", "p2"), D, strict=True)),
}

FILES = {
    "ros.yaml": (SIZES + "distortion_model: plumb_bob\n" + MATRICES, LENS),
    "ros_fisheye.yaml": (SIZES + "camera_model: fisheye\n" + MATRICES, FISHEYE),
    "nested_rows.yaml": (SIZES + f"camera_matrix: {K.tolist()}\ndistortion_model: radtan\ndistortion_coefficients: {D}\n", LENS),
    "no_commas.yaml": (SIZES + "distortion_model: plumb_bob\n" + MATRICES.replace(str(D), "[0.1 -0.2 0.001 -0.002]"), LENS),
    "text.yaml": (SIZES.replace("640", "'640'") + "distortion_model: plumb_bob\n" + MATRICES.replace("0.001", "1e-3"), LENS),
    "echo.yaml": (INFO, LENS),
    "echo_several.yaml": (NO_INFO + INFO + INFO.replace("525.0", "999.0"), LENS),
    "echo_lost.yaml": ("A message was lost!!!\n\ttotal count change:1\n\ttotal count: 1---\n" + INFO, LENS),
    "rostopic_echo.yaml": (
        INFO.replace("\nd:", "\nD:").replace("\nk:", "\nK:").replace("\nr:", "\nR:").replace("\np:", "\nP:"),
        LENS,
    ),
    "with_rules.yaml": (
        SIZES
        + MATRICES.replace("distortion_c", "# ---- distortion ----\ndistortion_c")
        + "distortion_model: plumb_bob\n# ----\n",
        LENS,
    ),
    "opencv.yaml": (f"%YAML:1.0\n---\n{SIZES}{OPENCV}distortion_model: plumb_bob\n", LENS),
    "opencv_fisheye.yml": (f"%YAML:1.0\n---\nfisheye_model: 1\n{SIZES}{OPENCV}", FISHEYE),
    "rtabmap.yaml": (f'%YAML:1.0\n---\ncamera_name: "0001"\n{SIZES}{MATRICES}distortion_model: plumb_bob\n', LENS),
    "orbslam2.yaml": (ORB, LENS),
    "orbslam3.yaml": (
        ORB.replace("Camera.f", "Camera1.f")
        .replace("Camera.c", "Camera1.c")
        .replace("Camera.k", "Camera1.k")
        .replace("Camera.p", "Camera1.p")
        + 'Camera.type: "PinHole"\n',
        LENS,
    ),
    "orbslam3_fisheye.yaml": (ORB.replace(".p1", ".k3").replace(".p2", ".k4") + 'Camera.type: "KannalaBrandt8"\n', FISHEYE),
    "kalibr.yaml": ("cam0:\n" + KALIBR, LENS),
    "kalibr_fisheye.yaml": ("cam0:\n" + KALIBR.replace("radtan", "equidistant"), FISHEYE),
    "sensor.yaml": ("sensor_type: camera\n" + EUROC, LENS),
    "vins.yaml": (VINS, LENS),
    "mast3r_slam.yaml": (f"width: 640\nheight: 480\ncalibration: [{FX}, {FY}, {CX}, {CY}, {', '.join(map(str, D))}]\n", LENS),
    "ost.txt": (OST, LENS),
    "cameras.txt": (f"# Camera list\n1 OPENCV 640 480 {FX} {FY} {CX + 0.5} {CY + 0.5} {' '.join(map(str, D))}\n", LENS),
    "pinhole_cameras.txt": (f"1 PINHOLE 640 480 {FX} {FY} {CX + 0.5} {CY + 0.5}\n", IDEAL),
    "transforms.json": (json.dumps({**NERF, "camera_model": "OPENCV", "frames": []}), LENS),
    "open3d.json": (json.dumps({"width": 640, "height": 480, "intrinsic_matrix": K.T.reshape(-1).tolist()}), IDEAL),
    "oak.json": (
        json.dumps(
            {
                "cameraData": [
                    [
                        0,
                        {
                            "intrinsicMatrix": K.tolist(),
                            "distortionCoeff": [*D, *[0.0] * 10],
                            "width": 640,
                            "height": 480,
                            "cameraType": 0,
                        },
                    ]
                ]
            }
        ),
        LENS,
    ),
}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def same_lens(camera, expected):
    """Equal but for zeros at the end of the coefficients, and plumb_bob as rational_polynomial."""
    assert (camera.width, camera.height) == (expected.width, expected.height)
    np.testing.assert_allclose(camera.K, expected.K, atol=1e-9)
    assert (camera.distortion_model == "equidistant") == (expected.distortion_model == "equidistant")
    longest = max(len(camera.distortion), len(expected.distortion))
    first, second = (np.pad(each.distortion, (0, longest - len(each.distortion))) for each in (camera, expected))
    np.testing.assert_allclose(first, second, atol=1e-12)


@pytest.mark.parametrize("name", FILES)
def test_the_format_is_recognized(tmp_path, name):
    content, expected = FILES[name]
    calibration = read_calibration(write(tmp_path, name, content))
    assert calibration.note == ""
    same_lens(calibration.camera(), expected)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path, encoding, line_end):
    text = (SIZES + "distortion_model: plumb_bob\n" + MATRICES).replace("\n", line_end)
    assert read_camera(write(tmp_path, "camera.yaml", text.encode(encoding))) == LENS


def test_opencv_writes_xml_too(tmp_path):
    path = tmp_path / "camera.xml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for key, value in (
        ("image_width", 640),
        ("image_height", 480),
        ("camera_matrix", K),
        ("distortion_coefficients", np.array([D])),
    ):
        storage.write(key, value)
    storage.release()
    calibration = read_calibration(path)
    same_lens(calibration.camera(), LENS)
    assert "interpreted as plumb_bob" in calibration.lens.note


KITTI = f"P0: {FX} 0 {CX} 0 0 {FY} {CY} 0 0 0 1 0\nP1: {FX + 1} 0 {CX} -9 0 {FY} {CY} 0 0 0 1 0\nTr: 0 0 0\n"
RAW_KITTI = (
    f"calib_time: 09-Jan-2012\nS_00: 700 500\nK_00: {FX + 1} 0 {CX} 0 {FY} {CY} 0 0 1\nD_00: {' '.join(map(str, D))} 0\n"
    f"S_rect_00: 640 480\nP_rect_00: {FX} 0 {CX} 0 0 {FY} {CY} 0 0 0 1 0\n"
)


def test_kitti_tells_no_size_in_one_file_and_two_in_the_other(tmp_path):
    odometry, raw = write(tmp_path, "calib.txt", KITTI), write(tmp_path, "calib_cam_to_cam.txt", RAW_KITTI)
    same_lens(read_camera(odometry, SIZE), IDEAL)
    assert read_camera(odometry, SIZE, "image_1").K[0, 0] == FX + 1
    assert "has 2 cameras" in read_calibration(odometry).note
    with pytest.raises(CalibrationError, match="does not give the size"):
        read_camera(odometry)
    with pytest.raises(CalibrationError, match="not in the centre"):
        read_camera(odometry, (320, 240))
    same_lens(read_camera(raw, SIZE), IDEAL)
    camera = read_camera(raw, (700, 500))
    assert camera.K[0, 0] == FX + 1 and camera.has_distortion


def test_a_file_of_several_cameras_says_which_is_taken(tmp_path):
    path = write(tmp_path, "camchain.yaml", f"cam0:\n{KALIBR}cam1:\n{KALIBR.replace('525.0', '400.0')}")
    first = read_calibration(path)
    assert first.camera() == LENS and "cam0 is used (?cam=cam1" in first.note
    for other in (f"{path}?cam=cam1", f"{path}?cam=1"):
        assert read_camera(other).K[0, 0] == 400.0
    with pytest.raises(CalibrationError, match="no camera 'cam2'; there is cam0, cam1"):
        read_camera(f"{path}?cam=cam2")
    with pytest.raises(CalibrationError, match="it takes cam=NAME"):
        read_camera(f"{path}?colour=red")


def test_a_person_says_whether_the_images_are_rectified(tmp_path):
    projection = f"projection_matrix: {{data: [400, 0, {CX}, 0, 0, 400, {CY}, 0, 0, 0, 1, 0]}}\n"
    content = SIZES + "distortion_model: plumb_bob\n" + MATRICES + projection
    path = write(tmp_path, "camera.yaml", content)
    assert read_camera(path) == LENS
    rectified = read_camera(f"{path}?rectified=yes")
    assert rectified.K[0, 0] == 400.0 and not rectified.has_distortion


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tabs.yaml", "camera_matrix:\n\trows: 3\n", "line 2 has a tab"),
        ("decimal.yaml", SIZES + "camera_matrix: {data: [525,0, 0,0, 319,5, 0,0, 520,0, 239,5, 0,0, 0,0, 1,0]}", "with a comma"),
        ("decimal_orb.yaml", ORB.replace("525.0", "525,0"), "decimal point"),
        ("lengths.yaml", SIZES + MATRICES.replace("cols: 4", "cols: 5"), "has 4 values; it must have 5"),
        ("other.yaml", "robot: x\nwheels: 4\n", "unknown format with the keys robot, wheels"),
        (
            "omni.yaml",
            "cam0:\n" + KALIBR.replace("pinhole", "omni").replace("[525.0", "[1.2, 525.0"),
            "camera_model: omni",
        ),
        ("mei.yaml", VINS.replace("PINHOLE", "MEI").replace("projection_parameters", "mirror_parameters"), "model_type: MEI"),
        ("fov.txt", "1 FOV 640 480 500 500 320 240 0.9\n", "'model: FOV' is a lens that is not supported"),
        ("agisoft.xml", "<?xml version='1.0'?><calibration><f>1</f></calibration>", "XML, but not written by OpenCV"),
        ("camera.npz", b"PK\x03\x04\0\0", "binary file"),
        ("each.json", json.dumps({"frames": [{"fl_x": 1.0}]}), "its own fl_x"),
        ("echo.yaml", NO_INFO, "focal lengths are zero"),
        ("half.yaml", "image_width: 640\n" + MATRICES, "the key image_height is missing"),
    ],
)
def test_others_are_refused_in_a_sentence(tmp_path, name, content, reason):
    with pytest.raises(CalibrationError, match=reason) as caught:
        read_camera(write(tmp_path, name, content))
    assert name in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("k4", [0.0, 0.002])
def test_a_term_of_the_lens_that_is_not_supported_is_never_left_out(tmp_path, k4):
    file = tmp_path / "transforms.json"
    content = {"w": 640, "h": 480, "fl_x": 500.0, "fl_y": 500.0, "cx": 320.0, "cy": 240.0, "k1": 0.1, "k4": k4, "frames": []}
    file.write_text(json.dumps(content))
    if k4:
        with pytest.raises(CalibrationError, match=r"k4 is 0\.002"):
            read_camera(file)
    else:
        np.testing.assert_allclose(read_camera(file).distortion, [0.1, 0, 0, 0, 0])
