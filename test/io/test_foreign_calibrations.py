# SPDX-License-Identifier: Apache-2.0
"""Calibrations of other projections are named, however they are written; those of SLAM programs that fit are read."""

import json

import numpy as np
import pytest

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import read_calibration

SIZE = (640, 480)
K = np.array([[525.0, 0.0, 319.5], [0.0, 520.0, 239.5], [0.0, 0.0, 1.0]])
D = [0.1, -0.2, 0.001, -0.002]
KB = [0.01, -0.002, 0.001, -0.0002]
IDEAL = Camera(*SIZE, K)
LENS, FISHEYE = Camera(*SIZE, K, "plumb_bob", np.array(D)), Camera(*SIZE, K, "equidistant", np.array(KB))
RATIONAL = Camera(*SIZE, K, "rational_polynomial", np.array([*D, 0.01, 0.02, 0.003, 0.0004]))

ROS = (
    "image_width: 640\nimage_height: 480\ndistortion_model: plumb_bob\n"
    f"camera_matrix: {{rows: 3, cols: 3, data: {K.reshape(-1).tolist()}}}\n"
    f"distortion_coefficients: {{rows: 1, cols: 4, data: {D}}}\n"
)
NAMELESS = ROS.replace("distortion_model: plumb_bob\n", "")
XML = (
    '<?xml version="1.0"?>\n<opencv_storage>\n<camera_matrix type_id="opencv-matrix"><rows>3</rows><cols>3</cols><dt>d</dt>'
    "<data>525. 0. 319.5 0. 520. 239.5 0. 0. 1.</data></camera_matrix>\n<xi>1.3</xi>\n</opencv_storage>\n"
)
KB_NAMELESS = NAMELESS.replace(str(D), str(KB))
FISHEYE_XML = (
    '<?xml version="1.0"?>\n<opencv_storage>\n<fisheye_model>1</fisheye_model>\n'
    '<camera_matrix type_id="opencv-matrix"><rows>3</rows><cols>3</cols><dt>d</dt>'
    "<data>525. 0. 319.5 0. 520. 239.5 0. 0. 1.</data></camera_matrix>\n"
    '<distortion_coefficients type_id="opencv-matrix"><rows>4</rows><cols>1</cols><dt>d</dt>'
    f"<data>{' '.join(map(str, KB))}</data></distortion_coefficients>\n</opencv_storage>\n"
)
KALIBR = (
    "cam0:\n  camera_model: {}\n  distortion_model: {}\n  distortion_coeffs: {}\n  intrinsics: {}\n  resolution: [640, 480]\n"
)
EUROC = "sensor_type: camera\nresolution: [640, 480]\ncamera_model: {}\nintrinsics: [525, 520, 319.5, 239.5]\n"
CAMODOCAL = (
    "%YAML:1.0\n---\nmodel_type: {}\nimage_width: 640\nimage_height: 480\ndistortion_parameters:\n   k1: 0.1\n   k2: -0.2\n"
    "   p1: 0.001\n   p2: -0.002\n{}projection_parameters:\n   fx: 525\n   fy: 520\n   cx: 319.5\n   cy: 239.5\n"
)
OCAM = (
    "#polynomial coefficients for the DIRECT mapping function (ocam_model.ss in MATLAB). These are used by cam2world\n\n"
    "5 -223.6 0.0 0.00127 -1.4e-06 5.6e-09\n\n#center\n\n239.5 319.5\n"
)


def settings(prefix, kind, numbers, names, size=("width", "height")):
    """Those of ORB-SLAM and its relatives."""
    lines = dict(zip(("fx", "fy", "cx", "cy", *names), (525.0, 520.0, 319.5, 239.5, *numbers), strict=True))
    text = "".join(f"{prefix}.{name}: {value}\n" for name, value in lines.items())
    return f"%YAML:1.0\n\n{kind}{text}Camera.{size[0]}: 640\nCamera.{size[1]}: 480\n"


def nested(text):
    """With the keys `Camera.x` below `Camera`, as newer ones have them."""
    return "Camera:\n  setup: monocular\n" + text.replace("%YAML:1.0\n\n", "").replace("Camera.", "  ")


def basalt(kind, names=(), numbers=()):
    numbers = dict(zip(("fx", "fy", "cx", "cy", *names), (525.0, 520.0, 319.5, 239.5, *numbers), strict=True))
    camera = {"camera_type": kind, "intrinsics": numbers}
    return json.dumps({"value0": {"T_imu_cam": [], "intrinsics": [camera], "resolution": [[640, 480]]}})


K1_TO_K4, OPENCV = ("k1", "k2", "k3", "k4"), ("k1", "k2", "p1", "p2")
FOREIGN = {
    "xi.yaml": (ROS + "xi: 1.2\n", "'xi: 1.2' is of an omnidirectional camera"),
    "xi_matrix.yaml": (ROS + "xi: !!opencv-matrix {rows: 1, cols: 1, dt: d, data: [1.2]}\n", "'xi: 1.2' is of an omni"),
    "omnidir.xml": (XML, "'xi: 1.3' is of an omnidirectional camera"),
    "mirror.yaml": (ROS + "mirror_parameters:\n  xi: 1.9\n", "'mirror_parameters: xi: 1.9' is of an omnidirectional"),
    "ksi.yaml": (ROS + "ksi: 1.2\n", "'ksi: 1.2' is of an omnidirectional camera"),
    "one_mirror.yaml": (ROS + "mirror_parameter: 1.2\n", "'mirror_parameter: 1.2' is of an omnidirectional camera"),
    "omni_list.yaml": (ROS + "omni_parameters: [0, 1.2]\n", "'omni_parameters: 1.2' is of an omnidirectional camera"),
    "omni_block.yaml": (ROS + "omni_parameters: {xi: 1.2}\n", "'omni_parameters: xi: 1.2' is of an omnidirectional camera"),
    "block.yaml": (ROS + "lens: {mirror: {xi: 1.2}}\n", "'xi: 1.2' is of an omnidirectional camera"),
    "model_block.yaml": (ROS + "lens: {model: mei}\n", "'model: mei' is a lens that is not supported"),
    "below.yaml": ("left:\n  " + ROS.replace("\n", "\n  ") + "xi: 1.2\n", "'xi: 1.2' is of an omnidirectional camera"),
    "stereo.yaml": ("".join(f"M{i}: {{rows: 3, cols: 3, data: {K.reshape(-1).tolist()}}}\nxi{i}: 1.2\n" for i in (1, 2)), "'xi"),
    "ds.yaml": (ROS + "xi: -0.2\nalpha: 0.6\n", "'alpha: 0.6' is of a double sphere camera"),
    "ds_ideal.yaml": (ROS + "xi: 0.0\nalpha: 0.6\n", "'alpha: 0.6' is of a double sphere camera"),
    "eucm.yaml": (ROS + "alpha: 0.6\nbeta: 1.1\n", "'alpha: 0.6' is of a camera of the extended unified model .EUCM"),
    "eucm_orb.yaml": (settings("Camera", "Camera.alpha: 0.6\nCamera.beta: 1.1\n", D, OPENCV), "'Camera.alpha: 0.6' is of a"),
    "eucm.json": (json.dumps({"fl_x": 525, "w": 640, "h": 480, "alpha": 0.6, "beta": 1.1}), "'alpha: 0.6' is of a camera of"),
    "kalibr_xi.yaml": (KALIBR.format("pinhole", "radtan", D, [525, 520, 319.5, 239.5]) + "  xi: 1.2\n", "'xi: 1.2' is of a"),
    "poly.yaml": (ROS + "poly: [-223.6, 0.0, 0.00127]\n", "'poly' is of an OCam"),
    "inv_poly.yaml": ("%YAML:1.0\n---\n" + ROS + "inv_poly: [300.0, 150.0]\n", "'inv_poly' is of an OCam"),
    "named.yaml": (ROS + "fisheye: true\n", "'distortion_model: plumb_bob' and 'fisheye: true' contradict each other"),
    "named.json": (json.dumps({"fl_x": 525, "w": 640, "h": 480, "camera_model": "OPENCV", "is_fisheye": True}), "and 'is_f"),
    "five.yaml": (NAMELESS.replace("cols: 4", "cols: 5").replace("-0.002]", "-0.002, 0.1]") + "fisheye: 1\n", "takes 4"),
    "omni.yaml": (ROS + "camera_model: omni\n", "'camera_model: omni' is a lens that is not supported .omnidirectional"),
    "type.yaml": (NAMELESS + "camera_type: omnidirectional\n", "'camera_type: omnidirectional' is a lens"),
    "camel.yaml": (ROS + "cameraModel: mei\n", "'cameraModel: mei' is a lens"),
    "projection.yaml": (ROS + "projection: equirectangular\n", "not supported .a panorama"),
    "above.yaml": ("model: omni\ncamera:\n  " + ROS.replace("\n", "\n  "), "'model: omni' is a lens"),
    "kalibr_omni.yaml": (KALIBR.format("omni", "radtan", D, [1.2, 525, 520, 319.5, 239.5]), "'camera_model: omni' is"),
    "kalibr_ds.yaml": (KALIBR.format("ds", "none", [], [-0.2, 0.6, 525, 520, 319.5, 239.5]), "not supported .double sphere"),
    "kalibr_eucm.yaml": (KALIBR.format("eucm", "none", [], [0.6, 1.1, 525, 520, 319.5, 239.5]), "'camera_model: eucm' is"),
    "kalibr_fov.yaml": (KALIBR.format("pinhole", "fov", [0.9], [525, 520, 319.5, 239.5]), "'distortion_model: fov' is"),
    "euroc_omni.yaml": (EUROC.format("omni") + f"distortion_coefficients: {D}\n", "'camera_model: omni' is a lens"),
    "euroc_imu.yaml": ("sensor_type: imu\nrate_hz: 200\ngyroscope_noise_density: 1.7e-4\n", "is that of an IMU"),
    "target.yaml": ("target_type: 'aprilgrid'\ntagCols: 6\n", "describes a calibration target"),
    "mei.yaml": (CAMODOCAL.format("MEI", "mirror_parameters:\n   xi: 1.9\n"), "'model_type: MEI' is a lens"),
    "scaramuzza.yaml": (CAMODOCAL.format("scaramuzza", "poly_parameters:\n   p0: -200\n"), "'model_type: scaramuzza' is"),
    "ocam.txt": (OCAM, "OCam's .Scaramuzza., which is not supported"),
    "orb.yaml": (settings("Camera", 'Camera.type: "MEI"\nCamera.xi: 1.2\n', D, OPENCV), "'Camera.type: MEI' is a lens"),
    "division.yaml": (nested(settings("Camera", "Camera.model: radial_division\n", [], ())), "Camera.model: radial_division' is"),
    "panorama.yaml": ("Camera:\n  setup: monocular\n  model: equirectangular\n  cols: 1920\n  rows: 960\n", "a panorama"),
    "basalt.json": (basalt("ds", ("xi", "alpha"), (-0.2, 0.6)), "'camera_type: ds' is a lens that is not supported .double"),
    "dso.txt": ("0.35 0.44 0.49 0.50 0.93\n640 480\ncrop\n640 480\n", "described by its field of view"),
    "svo.yaml": ("cam_model: ATAN\ncam_width: 640\ncam_fx: 0.5\n", "'cam_model: ATAN' is a lens"),
    "vins.yaml": ("%YAML:1.0\nimage_width: 640\nimage_height: 480\ncam0_calib: cam0.yaml\n", "names in cam0_calib"),
    "okvis.yaml": ("cameras:\n- {image_dimension: [640, 480]}\n", "OKVIS or SVO"),
    "opensfm.json": (json.dumps({"v2": {"projection_type": "brown", "focal_x": 0.8}}), "OpenSfM"),
    "agisoft.xml": ("<?xml version='1.0'?>\n<calibration>\n<projection>frame</projection></calibration>", "Agisoft's; save"),
    "zed.conf": ("[LEFT_CAM_HD]\nfx=700.8\ncx=652.5\n", "factory calibration of a ZED"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_refused_by_its_name(tmp_path, name):
    content, reason = FOREIGN[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(CalibrationError, match=reason) as caught:
        read_calibration(tmp_path / name).camera(SIZE)
    assert name in str(caught.value) and str(caught.value).endswith(".")


READ = {
    "xi_zero.yaml": (ROS + "xi: 0.0\n", LENS),
    "free_scaling.yaml": (ROS + "alpha: 1.0\n", LENS),
    "pinhole_eucm.yaml": (ROS + "alpha: 0.0\nbeta: 1.0\n", LENS),
    "no_mirror.yaml": (ROS + "xi:\nmirror_parameters: {xi: 0.0}\n", LENS),
    "no_fisheye.yaml": (ROS + "fisheye: false\nis_fisheye: 0\n", LENS),
    "fisheye.yaml": (KB_NAMELESS + "fisheye: true\n", FISHEYE),
    "is_fisheye.yaml": ("%YAML:1.0\n---\n" + KB_NAMELESS + "is_fisheye: 1\n", FISHEYE),
    "fisheye_pinhole.yaml": (KB_NAMELESS + "camera_model: pinhole\nfisheye: yes\n", FISHEYE),
    "fisheye_named.yaml": (KB_NAMELESS + "camera_model: equidistant\nfisheye: 1\n", FISHEYE),
    "fisheye_block.yaml": ("left:\n  " + KB_NAMELESS.replace("\n", "\n  ") + "fisheye: 1\n", FISHEYE),
    "fisheye_above.yaml": ("fisheye: true\nleft:\n  " + KB_NAMELESS.replace("\n", "\n  ") + "\n", FISHEYE),
    "named_above.yaml": ("distortion_model: equidistant\nleft:\n  " + KB_NAMELESS.replace("\n", "\n  ") + "\n", FISHEYE),
    "fisheye.xml": (FISHEYE_XML, FISHEYE),
    "is_fisheye.json": (json.dumps(dict(zip(("fl_x", "fl_y", "cx", "cy", "w", "h", "is_fisheye", *K1_TO_K4),
        (525, 520, 320, 240, 640, 480, True, *KB), strict=True))), FISHEYE),
    "sensor.yaml": (ROS + "sensor_model: OmniVision OV9281\ncamera_name: omni_left\n", LENS),
    "product.yaml": (ROS + "model: DS-2CD2143G0\n", LENS),
    "type.yaml": (NAMELESS.replace(str(D), str(KB)) + "camera_type: fisheye\n", FISHEYE),
    "kimera.yaml": (f"%YAML:1.0\n{EUROC.format('pinhole')}distortion_model: radtan\ndistortion_coefficients: {D}\n", LENS),
    "full.yaml": (CAMODOCAL.format("PINHOLE_FULL", "   k3: 0.01\n   k4: 0.02\n   k5: 0.003\n   k6: 0.0004\n"), RATIONAL),
    "stereo.yml": ("%YAML:1.0\n---\n" + "".join(
        f"M{i}: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n   data: {K.reshape(-1).tolist()}\n"
        f"D{i}: !!opencv-matrix\n   rows: 1\n   cols: 4\n   dt: d\n   data: {D}\n" for i in (1, 2)), LENS),
    "flag.yaml": (settings("Camera", "Camera.bFishEye: 1\n", KB, K1_TO_K4), FISHEYE),
    "other_flag.yaml": (settings("Camera", "Camera.fisheye: 1.0\n", KB, K1_TO_K4), FISHEYE),
    "mask.yaml": (CAMODOCAL.format("PINHOLE", "fisheye: 1\n"), LENS),  # VINS: its images have a mask
    "stella.yaml": (settings("Camera", "Camera.model: fisheye\n", KB, K1_TO_K4, ("cols", "rows")), FISHEYE),
    "stella_nested.yaml": (nested(settings("Camera", "Camera.model: fisheye\n", KB, K1_TO_K4, ("cols", "rows"))), FISHEYE),
    "stella_pinhole.yaml": (nested(settings("Camera", "Camera.model: perspective\n", D, OPENCV, ("cols", "rows"))), LENS),
    "kb4.json": (basalt("kb4", K1_TO_K4, KB), FISHEYE),
    "radtan8.json": (basalt("pinhole-radtan8", (*OPENCV, "k3", "k4", "k5", "k6"), (*D, 0.01, 0.02, 0.003, 0.0004)), RATIONAL),
    "pinhole.json": (basalt("pinhole"), IDEAL),
    "droid_4.txt": ("525 520 319.5 239.5\n", IDEAL),
    "droid_8.txt": (f"# calib\n525 520 319.5 239.5 {' '.join(map(str, D))}\n", LENS),
    "droid_9.txt": (f"525 520 319.5 239.5 {' '.join(map(str, D))} 0\n", LENS),
    "matrix_line.txt": ("525 0 319.5 0 520 239.5 0 0 1\n", IDEAL),
    "projection_line.txt": ("525 0 319.5 0 0 520 239.5 0 0 0 1 0\n", IDEAL),
    "dso.txt": ("Pinhole 525 520 319.5 239.5 0\n640 480\ncrop\n640 480\n", IDEAL),
    "dso_relative.txt": (f"{525 / 640} {520 / 480} 0.5 0.5 0\n640 480\nnone\n", IDEAL),
    "dso_radtan.txt": (f"RadTan 525 520 319.5 239.5 {' '.join(map(str, D))}\n640 480\ncrop\n640 480\n", LENS),
    "dso_fisheye.txt": (f"EquiDistant 525 520 319.5 239.5 {' '.join(map(str, KB))}\n640 480\ncrop\n640 480\n", FISHEYE),
    "colmap.txt": ("1 FISHEYE 640 480 525 520 320 240\n", Camera(*SIZE, K, "equidistant", np.zeros(4))),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_it_is_read(tmp_path, name):
    content, expected = READ[name]
    (tmp_path / name).write_text(content)
    camera = read_calibration(tmp_path / name).camera(SIZE)
    np.testing.assert_allclose(camera.K, expected.K)
    assert camera.distortion_model == expected.distortion_model
    given, true = (np.pad(one.distortion, (0, 14 - len(one.distortion))) for one in (camera, expected))
    np.testing.assert_array_equal(given, true)


def test_a_fisheye_whose_coefficients_are_named_otherwise_is_refused(tmp_path):
    (tmp_path / "orb.yaml").write_text(settings("Camera", "Camera.bFishEye: 1\n", D, OPENCV))
    with pytest.raises(CalibrationError, match="is a fisheye's, which has k1, k2, k3 and k4, but p1 and p2"):
        read_calibration(tmp_path / "orb.yaml")


def test_a_fisheye_that_only_a_flag_tells_is_said(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(KB_NAMELESS + "is_fisheye: true\n")
    note = read_calibration(path).lens.note
    assert note == "'is_fisheye: true' names no distortion model; the coefficients are interpreted as equidistant."
    path.write_text(KB_NAMELESS + "is_fisheye: true\ndistortion_model: equidistant\n")
    assert read_calibration(path).lens.note == ""


def test_the_pinhole_beside_an_omnidirectional_camera_is_read(tmp_path):
    path = tmp_path / "camchain.yaml"
    second = KALIBR.format("omni", "radtan", D, [1.2, 525, 520, 319.5, 239.5]).replace("cam0", "cam1")
    path.write_text(KALIBR.format("pinhole", "radtan", D, [525, 520, 319.5, 239.5]) + second)
    assert read_calibration(path).camera() == LENS
    with pytest.raises(CalibrationError, match="'camera_model: omni' is a lens"):
        read_calibration(f"{path}?cam=cam1")
