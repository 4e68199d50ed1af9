# SPDX-License-Identifier: Apache-2.0
"""Calibrations as ROS writes them: yaml (camera_calibration, camera_info_manager), CameraInfo text, cameracalibrator's ost.txt.

RTAB-Map writes the same keys, and so do OpenCV's samples, with %YAML:1.0 at the top.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.lens_names import EQUIDISTANT, FISHEYE_FLAGS, PLUMB_BOB, RATIONAL, kind_of_lens
from st3r_ros.io.atomic import write_file
from st3r_ros.io.calibration import fields
from st3r_ros.io.calibration.calibration import Calibration
from st3r_ros.io.calibration.camera_info import calibration_from_info
from st3r_ros.io.calibration.fields import Content

LENS_KEYS = ("distortion_model", "camera_model", "model_type", "lens_model", "projection_model")
_OTHER_LENS_KEYS = ("distortion_type", "camera_type", "lens_type", "projection_type", "cam_model", "model", "lens", "type")
"""Counted where none of the others is there and their value names a lens: they may speak of anything."""
_MATRIX = ("camera_matrix", "Camera_Matrix", "cameraMatrix", "CameraMatrix", "K", "M", "intrinsic_matrix", "mtx")
_COEFFICIENTS = (
    "distortion_coefficients",
    "Distortion_Coefficients",
    "distCoeffs",
    "dist_coeffs",
    "dist_coeff",
    "distortion_coeffs",
    "D",
    "dist",
)
_SIZES = (("image_width", "image_height"), ("image_Width", "image_Height"), ("width", "height"), ("w", "h"))


def is_ros_yaml(content: Content) -> bool:
    """Whether the keys are those of a camera matrix with distortion, as ROS and OpenCV write them."""
    return fields.first_key(content, *_MATRIX) is not None


def calibration_from_yaml(content: Content, source: str) -> Calibration:
    """The calibration of such a file.

    Raises:
        CalibrationError: a key is missing or wrong.
    """
    width, height = next((pair for pair in _SIZES if fields.first_key(content, *pair)), _SIZES[0])
    matrix = fields.first_key(content, *_MATRIX) or _MATRIX[0]
    size = _size(content, width, height)
    K = fields.calibrated(_in_pixels(fields.numbers(content, matrix, 9).reshape(3, 3), matrix))
    names = lens_names(content)
    coefficients = fields.first_key(content, *_COEFFICIENTS)
    undistorted = coefficients is None and (not names or set(names.values()) & {"none", "pinhole", "perspective"})
    P = fields.numbers(content, "projection_matrix", 12).reshape(3, 4)[:, :3] if content.get("projection_matrix") else None
    return Calibration(
        source,
        K=K,
        size=size,
        lens_names=names,
        coefficients=np.zeros(0) if undistorted else fields.numbers(content, coefficients or _COEFFICIENTS[0], finite=False),
        P=None if P is None else fields.calibrated(P),
        note=f"{source} gives no distortion: none is assumed." if undistorted and not names else "",
    )


def stereo_cameras(content: Content) -> dict[str, Content]:
    """The cameras of OpenCV's stereo samples, whose keys end with their number; none where it is no such file."""
    pairs = (("M", "D"), ("K", "D"), ("cameraMatrix", "distCoeffs"), ("camera_matrix_", "distortion_coefficients_"))
    return {
        number: {"camera_matrix": content[f"{matrix}{number}"], "distortion_coefficients": content.get(f"{distortion}{number}")}
        for matrix, distortion in pairs
        for number in ("1", "2")
        if isinstance(content.get(f"{matrix}{number}"), Mapping)
    }


def lens_names(content: Content) -> dict[str, str]:
    """What names the lens, by key."""
    names = {key: str(content[key]) for key in LENS_KEYS if content.get(key) is not None}
    if not names:
        others = {key: str(content[key]) for key in _OTHER_LENS_KEYS if content.get(key) is not None}
        names = {key: name for key, name in others.items() if kind_of_lens(name) in (PLUMB_BOB, RATIONAL, EQUIDISTANT)}
    return {**names, **{key: str(content[key]).lower() for key in FISHEYE_FLAGS if fields.is_set(content.get(key))}}


def names_for_blocks(content: Content) -> dict[str, Any]:
    """What is said of the lens above the blocks of single cameras, and counts for each of them."""
    return {key: content[key] for key in ("distortion_model", *FISHEYE_FLAGS) if content.get(key) is not None}


def is_camera_info(content: Content) -> bool:
    """Whether the keys are the fields of a CameraInfo, of ROS 2 or ROS 1."""
    return {"k", "d", "p"} <= set(content) or {"K", "D", "P", "header"} <= set(content)


def calibration_from_text(content: Content, source: str) -> Calibration:
    """The calibration of a CameraInfo written as text, such as by `ros2 topic echo`.

    Raises:
        CalibrationError: a field is missing or wrong.
    """
    lower = {str(key).lower(): value for key, value in content.items()}
    size = fields.image_size(lower, "width", "height") or (0, 0)
    roi = lower["roi"] if isinstance(lower.get("roi"), Mapping) else {}
    region = {key: int(fields.number(roi.get(key) or 0, key)) for key in ("x_offset", "y_offset", "width", "height")}
    info = SimpleNamespace(
        width=size[0],
        height=size[1],
        k=fields.numbers(lower, "k", 9),
        d=fields.numbers(lower, "d", finite=False) if lower.get("d") else np.zeros(0),
        p=fields.numbers(lower, "p", 12),
        distortion_model=lower.get("distortion_model") or "",
        roi=SimpleNamespace(**region),
        **{key: int(fields.number(lower.get(key) or 0, key)) for key in ("binning_x", "binning_y")},
    )
    return calibration_from_info(info, source)


def calibration_from_ost(text: str, source: str) -> Calibration:
    """The calibration of cameracalibrator's ost.txt, which is made of headings with numbers below them.

    Raises:
        CalibrationError: a heading is missing or its numbers are wrong.
    """
    content: dict[str, Any] = {}
    heading = ""
    for line in text.splitlines():
        stripped = line.strip()
        if re.fullmatch(r"[a-z ]+", stripped):
            heading = stripped
            content[heading] = []
        elif heading and stripped and stripped[0] not in "#[":
            content[heading] += stripped.split()
    sides = [content.get(name, [None])[:1] for name in ("width", "height")]
    renamed = {
        "image_width": int(fields.number(sides[0][0] if sides[0] else None, "width")),
        "image_height": int(fields.number(sides[1][0] if sides[1] else None, "height")),
        "camera_matrix": content.get("camera matrix"),
        "distortion_coefficients": content.get("distortion"),
        "projection_matrix": content.get("projection"),
    }
    return calibration_from_yaml(renamed, source)


def write_camera(path: Path | str, camera: Camera, name: str = "camera") -> None:
    """Write a ROS calibration yaml that `read_camera` and ROS read; numbers keep all their digits.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": name,
        "camera_matrix": _matrix(camera.K),
        "distortion_model": camera.distortion_model,
        "distortion_coefficients": _matrix(np.atleast_2d(camera.distortion)),
        "rectification_matrix": _matrix(np.eye(3)),
        "projection_matrix": _matrix(np.hstack([camera.K, np.zeros((3, 1))])),
    }
    write_file(path, yaml.safe_dump(content, sort_keys=False, default_flow_style=None).encode())


def _size(content: Content, width: str, height: str) -> tuple[int, int] | None:
    sizes = content.get("image_size") or content.get("img_size") or content.get("resolution")
    if content.get(width) is None and content.get(height) is None and isinstance(sizes, list) and len(sizes) == 2:
        return fields.image_size({"width": sizes[0], "height": sizes[1]}, "width", "height")
    return fields.image_size(content, width, height)


def _in_pixels(K: np.ndarray, key: str) -> np.ndarray:
    if K[2, 0] != 0.0 and K[0, 2] == 0.0:
        raise CalibrationError(f"{key} is transposed: its principal point is in the last row; write it row by row.")
    return K


def _matrix(values: np.ndarray) -> dict[str, Any]:
    return {"rows": values.shape[0], "cols": values.shape[1], "data": [float(value) for value in values.reshape(-1)]}
