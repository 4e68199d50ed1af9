# SPDX-License-Identifier: Apache-2.0
"""Calibrations in JSON: nerfstudio's transforms.json, Open3D's intrinsics, Basalt, the calibration of OAK cameras."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.lens_names import EQUIDISTANT, NONE, RATIONAL, kind_of_lens
from st3r_ros.io.calibration import fields
from st3r_ros.io.calibration.calibration import Calibration
from st3r_ros.io.calibration.fields import Content

_PIXEL_CENTRE = 0.5
_OAK_LENSES = {"0": RATIONAL, "perspective": RATIONAL, "1": EQUIDISTANT, "fisheye": EQUIDISTANT}


def is_nerfstudio(content: Content) -> bool:
    """Whether the keys are those of transforms.json (nerfstudio, instant-ngp, NeRF)."""
    return "frames" in content or "fl_x" in content


def calibration_from_nerfstudio(content: Content, source: str) -> Calibration:
    """The calibration of such a file.

    Raises:
        CalibrationError: its images have calibrations of their own, or a key is missing or wrong.
    """
    size = fields.image_size(content, "w", "h")
    flag = fields.is_set(content.get("is_fisheye"))
    model = str(content.get("camera_model") or ("fisheye" if flag else "OPENCV"))
    fisheye = flag or kind_of_lens(model) == EQUIDISTANT
    fx, fy = _focal_lengths(content, None if size is None else size[0])
    centre = {key: side / 2 for key, side in zip(("cx", "cy"), size, strict=True)} if size else {}
    cx, cy = (fields.number(fields.required({**centre, **content}, key), key) - _PIXEL_CENTRE for key in ("cx", "cy"))
    order = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3")
    if not fisheye and fields.number(content.get("k4", 0.0), "k4") != 0.0:
        raise CalibrationError(f"k4 is {content['k4']}, a term of r^8 that is not supported; calibrate with k1, k2, p1, p2, k3.")
    return Calibration(
        source,
        K=fields.matrix_from(fx, fy, cx, cy),
        size=size,
        lens_names={"camera_model": model, **({"is_fisheye": "true"} if flag else {})},
        coefficients=np.array([fields.number(content.get(key, 0.0), key) for key in order]),
    )


def _focal_lengths(content: Content, width: int | None) -> tuple[float, float]:
    if fields.first_key(content, "fl_x") is not None:
        fx = fields.number(content["fl_x"], "fl_x")
        return fx, fields.number(content.get("fl_y") or fx, "fl_y")
    if content.get("camera_angle_x") is not None and width is not None:
        focal = 0.5 * width / math.tan(0.5 * fields.number(content["camera_angle_x"], "camera_angle_x"))
        return focal, focal
    frames = content.get("frames")
    if isinstance(frames, list) and any(isinstance(frame, Mapping) and "fl_x" in frame for frame in frames):
        raise CalibrationError("each image has its own fl_x; one for all is needed.")
    raise CalibrationError("the key fl_x is missing (or camera_angle_x with w and h).")


def calibration_from_open3d(content: Content, source: str) -> Calibration:
    """The calibration of Open3D's PinholeCameraIntrinsic, whose matrix is written column by column.

    Raises:
        CalibrationError: a key is missing or wrong.
    """
    size = fields.image_size(content, "width", "height")
    K = fields.numbers(content, "intrinsic_matrix", 9).reshape(3, 3)
    return Calibration(source, K=K if K[2, 0] == 0.0 else K.T, size=size, lens_names={"intrinsic_matrix": "none"})


def oak_cameras(content: Content) -> dict[str, Content]:
    """The cameras of an OAK's calibration, by their socket; none where it is no such file."""
    cameras = content.get("cameraData")
    if not isinstance(cameras, list):
        return {}
    pairs: list[Any] = [pair for pair in cameras if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], Mapping)]
    return {str(socket): camera for socket, camera in pairs if camera.get("intrinsicMatrix")}


def calibration_from_oak(content: Content, source: str) -> Calibration:
    """The calibration of one such camera.

    Raises:
        CalibrationError: a key is missing or wrong, or the lens is not supported.
    """
    kind = str(content.get("cameraType", "0"))
    return Calibration(
        source,
        K=fields.numbers(content, "intrinsicMatrix", 9).reshape(3, 3),
        size=fields.image_size(content, "width", "height"),
        lens_names={"cameraType": _OAK_LENSES.get(kind.lower(), kind)},
        coefficients=fields.numbers(content, "distortionCoeff", finite=False) if content.get("distortionCoeff") else np.zeros(0),
    )


# Basalt's camera type -> lens, its coefficients.
_BASALT = {
    "pinhole": (NONE, ()),
    "kb4": (EQUIDISTANT, ("k1", "k2", "k3", "k4")),
    "pinhole-radtan8": (RATIONAL, ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
}


def basalt_cameras(content: Content) -> dict[str, Content]:
    """The cameras of Basalt's calibration, as cam0, cam1, ..., each with its `resolution`; none where it is no such file."""
    inside = content.get("value0", content)
    cameras = inside.get("intrinsics") if isinstance(inside, Mapping) else None
    if not isinstance(cameras, list) or not all(isinstance(camera, Mapping) and "camera_type" in camera for camera in cameras):
        return {}
    sizes = inside.get("resolution") or []
    return {f"cam{i}": {**camera, "resolution": sizes[i] if i < len(sizes) else None} for i, camera in enumerate(cameras)}


def calibration_from_basalt(camera: Content, source: str) -> Calibration:
    """The calibration of one such camera.

    Raises:
        CalibrationError: a key is missing or wrong, or the lens is not supported.
    """
    kind = str(camera["camera_type"])
    lens, names = _BASALT.get(kind, (kind, ()))
    numbers = camera.get("intrinsics")
    known = numbers if isinstance(numbers, Mapping) else {}
    focal = (fields.number(fields.required(known, name), name) for name in ("fx", "fy", "cx", "cy"))
    width, height = fields.numbers(camera, "resolution", 2) if camera.get("resolution") else (0, 0)
    return Calibration(
        source,
        K=fields.matrix_from(*focal),
        size=fields.image_size({"width": width, "height": height}, "width", "height"),
        lens_names={"camera_type": lens},
        coefficients=np.array([fields.number(fields.required(known, name), name) for name in names]),
    )
