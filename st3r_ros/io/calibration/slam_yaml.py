# SPDX-License-Identifier: Apache-2.0
"""Calibrations in the yaml of Kalibr, EuRoC, ORB-SLAM, stella_vslam, VINS (camodocal) and MASt3R-SLAM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.lens_names import EQUIDISTANT, FISHEYE_FLAGS, PINHOLE, PLUMB_BOB, kind_of_lens
from st3r_ros.io.calibration import fields
from st3r_ros.io.calibration.calibration import Calibration, Size
from st3r_ros.io.calibration.fields import Content
from st3r_ros.io.calibration.ros_yaml import lens_names

_CAMODOCAL = {"pinhole": ("k1", "k2", "p1", "p2"), "pinhole_full": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")}


def kalibr_cameras(content: Content) -> dict[str, Content]:
    """The cameras of Kalibr's camchain, by name; none where it is no such file."""
    return {str(name): value for name, value in content.items() if isinstance(value, Mapping) and is_kalibr(value)}


def is_kalibr(content: Content) -> bool:
    """Whether the keys are those of one camera of Kalibr, or of EuRoC's sensor.yaml."""
    return (
        isinstance(content.get("intrinsics"), list) and fields.first_key(content, "camera_model", "distortion_model") is not None
    )


def calibration_from_kalibr(content: Content, source: str) -> Calibration:
    """The calibration of one such camera.

    Raises:
        CalibrationError: a key is missing or wrong, or the projection is not a pinhole's.
    """
    names = lens_names(content)
    intrinsics = fields.numbers(content, "intrinsics")
    if len(intrinsics) != 4:
        projection = names.get("camera_model", "unnamed")
        raise CalibrationError(
            f"intrinsics has {len(intrinsics)} values, those of the camera_model '{projection}'; calibrate as pinhole (4 values)."
        )
    coefficients = fields.first_key(content, "distortion_coeffs", "distortion_coefficients")
    return Calibration(
        source,
        K=fields.matrix_from(*intrinsics),
        size=_pair(content, "resolution"),
        lens_names=names,
        coefficients=fields.numbers(content, coefficients, finite=False) if coefficients else np.zeros(0),
    )


def is_mast3r_slam(content: Content) -> bool:
    """Whether the keys are width, height and a list calibration: fx, fy, cx, cy, then the distortion in OpenCV's order."""
    return isinstance(content.get("calibration"), list | str)


def calibration_from_mast3r_slam(content: Content, source: str) -> Calibration:
    """The calibration of such a file.

    Raises:
        CalibrationError: a key is missing or wrong.
    """
    values = fields.numbers(content, "calibration")
    if len(values) < 4:
        raise CalibrationError(f"calibration has {len(values)} values; it must begin with fx, fy, cx, cy.")
    size = fields.image_size(content, "width", "height")
    return Calibration(
        source,
        K=fields.matrix_from(*values[:4]),
        size=size,
        lens_names=lens_names(content) or {"calibration": "radtan"},
        coefficients=values[4:],
    )


def orb_slam_settings(content: Content) -> Content:
    """The settings of ORB-SLAM or stella_vslam, whose newer ones have the keys `Camera.x` below `Camera`."""
    camera = content.get("Camera")
    if not isinstance(camera, Mapping) or "setup" not in camera:
        return content
    return {**content, **{f"Camera.{key}": value for key, value in camera.items()}}


def orb_slam_cameras(content: Content) -> dict[str, str]:
    """The prefixes of the cameras of such settings, by name; none where it is no such file."""
    found = [match[1] for key in content if (match := re.fullmatch(r"(Camera\d*)\.(?:fx|setup)", str(key)))]
    return {name.lower(): name for name in sorted(set(found))}


def calibration_from_orb_slam(content: Content, prefix: str, source: str) -> Calibration:
    """The calibration of one camera of such settings.

    Raises:
        CalibrationError: a key is missing or wrong.
    """
    key, kind = _orb_slam_lens(content)
    fisheye = kind == EQUIDISTANT
    order = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    stated = {name: content.get(f"{prefix}.{name}") for name in ("fx", "fy", "cx", "cy", *order)}
    coefficients = _values(stated, order)
    if fisheye and _values({name: content.get(f"{prefix}.{name}") for name in ("p1", "p2")}, ("p1", "p2")).any():
        raise CalibrationError(
            f"{key} is a fisheye's, which has k1, k2, k3 and k4, but p1 and p2 are given; rename or remove them."
        )
    width, height = ("Camera.cols", "Camera.rows") if "Camera.cols" in content else ("Camera.width", "Camera.height")
    return Calibration(
        source,
        K=fields.matrix_from(*_values(stated, ("fx", "fy", "cx", "cy"), required=True)),
        size=fields.image_size(content, width, height),
        lens_names={key: kind},
        coefficients=coefficients if fisheye or coefficients[5:].any() else coefficients[:5],
    )


def _orb_slam_lens(content: Content) -> tuple[str, str]:
    """The key and the name of the lens; a pinhole's distortion is OpenCV's standard one."""
    flag = next((f"Camera.{flag}" for flag in FISHEYE_FLAGS if fields.is_set(content.get(f"Camera.{flag}"))), "")
    if flag:
        return flag, EQUIDISTANT
    key = fields.first_key(content, "Camera.type", "Camera.model") or "Camera.type"
    name = str(content.get(key, "PinHole"))
    kind = kind_of_lens(name)
    return key, {PINHOLE: PLUMB_BOB, None: name}.get(kind, kind or name)


def is_camodocal(content: Content) -> bool:
    """Whether the keys are those of camodocal, which VINS uses."""
    return "model_type" in content and ("projection_parameters" in content or "mirror_parameters" in content)


def calibration_from_camodocal(content: Content, source: str) -> Calibration:
    """The calibration of such a file.

    Raises:
        CalibrationError: a key is missing or wrong, or the lens is not supported.
    """
    kind = str(content["model_type"]).lower()
    projection = content.get("projection_parameters")
    if kind.startswith("kannala"):
        focal, coefficients = ("mu", "mv", "u0", "v0"), _values(projection, ("k2", "k3", "k4", "k5"))
    elif kind in _CAMODOCAL:
        focal, coefficients = ("fx", "fy", "cx", "cy"), _values(content.get("distortion_parameters"), _CAMODOCAL[kind])
    else:
        raise CalibrationError(f"the lens 'model_type: {content['model_type']}' is not supported; calibrate as PINHOLE.")
    return Calibration(
        source,
        K=fields.matrix_from(*_values(projection, focal, required=True)),
        size=fields.image_size(content),
        lens_names={"model_type": {"pinhole": "radtan", "pinhole_full": "rational"}.get(kind, kind)},
        coefficients=coefficients,
    )


def _values(content: Any, names: tuple[str, ...], *, required: bool = False) -> np.ndarray:
    """The numbers of these keys; 0 for one that is missing, unless it is required."""
    known = content if isinstance(content, Mapping) else {}
    values = (fields.required(known, name) if required else known.get(name) or 0.0 for name in names)
    return np.array([fields.number(value, name) for value, name in zip(values, names, strict=True)])


def _pair(content: Content, key: str) -> Size | None:
    if content.get(key) is None:
        return None
    width, height = fields.numbers(content, key, 2)
    return fields.image_size({"width": width, "height": height}, "width", "height")
