# SPDX-License-Identifier: Apache-2.0
"""Calibrations that are not read, recognized so that they can be called by their name.

Some have a camera matrix beside the parameters of another projection. Without these parameters such a camera is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.lens_names import KNOWN, check_supported
from st3r_ros.io.calibration import fields
from st3r_ros.io.calibration.fields import Content

_NAMING = re.compile(r"(^|_)(model|type|projection|lens)$")
_OF_THE_SENSOR = re.compile(r"sensor|imu|target|name")
_POLYNOMIAL = (
    "poly",
    "inv_poly",
    "poly_parameters",
    "inv_poly_parameters",
    "ocam_model",
    "ocam",
    "invpol",
    "mapping_coefficients",
)
_OMNI = "an omnidirectional camera (Mei's unified model, OpenCV's omnidir)"
# Parameter, another one that must be there (alpha alone may be anything), the camera that they are of.
_PARAMETERS: tuple[tuple[str, set[str], str], ...] = (
    ("alpha", {"xi"}, "a double sphere camera"),
    ("alpha", {"beta"}, "a camera of the extended unified model (EUCM)"),
    *(
        (name, set(), _OMNI)
        for name in ("xi", "ksi", "mirror_parameter", "mirror_parameters", "omni_parameter", "omni_parameters")
    ),
)
_CALIBRATE = f"calibrate as one of {KNOWN}"

_TEXTS = (
    (r"coefficients for the DIRECT mapping|ocam_model", f"is an OCam's (Scaramuzza), which is not supported; {_CALIBRATE}"),
    (r"^\[(LEFT|RIGHT)_CAM_\w+\]", "is the factory calibration of a ZED; use the camera_info of its driver"),
    (r"<calibration>(?s:.)*<projection>", "is Agisoft's; save it in OpenCV's format (Tools > Camera Calibration > Save)"),
)
_KEYS = (
    ("accelerometer_noise_density", "is that of an IMU; give that of the camera"),
    ("gyroscope_noise_density", "is that of an IMU; give that of the camera"),
    ("cam0_calib", "is the configuration of VINS; give the file that it names in cam0_calib"),
    ("target_type", "describes a calibration target; give the result of the calibration (camchain.yaml)"),
)


def refuse_text(text: str, source: str) -> None:
    """Refuses the text of a calibration file of a known kind that is not read.

    Raises:
        CalibrationError: it is one; the message names it.
    """
    for pattern, what in _TEXTS:
        if re.search(pattern, text, re.MULTILINE):
            raise CalibrationError(f"{source} {what}.")


def refuse_content(content: Content, source: str) -> None:
    """Refuses the keys of a calibration file of a known kind that is not read.

    Raises:
        CalibrationError: it is one; the message names it.
    """
    refuse_projection(content)
    for key, what in _KEYS:
        if key in content:
            raise CalibrationError(f"{source} {what}.")
    if any(isinstance(value, Mapping) and "projection_type" in value for value in content.values()):
        raise CalibrationError(f"{source} is OpenSfM's; write it as a ROS yaml, or export the reconstruction to COLMAP.")
    if isinstance(content.get("cameras"), list):
        raise CalibrationError(f"{source} is that of OKVIS or SVO; write K and the distortion as a ROS yaml.")


def refuse_projection(content: Content, *, with_blocks: bool = False) -> None:
    """Refuses a camera whose keys tell of another projection than a pinhole's or a fisheye's, whatever else they are.

    with_blocks: the blocks of the content tell of the same camera.

    Raises:
        CalibrationError: one does; the message names the key.
    """
    entries = [(_plain(str(key)), str(key), value) for key, value in content.items() if value is not None]
    for name, key, value in entries:
        if isinstance(value, str) and _NAMING.search(name) and not _OF_THE_SENSOR.search(name):
            check_supported(key, value)
        if name in _POLYNOMIAL:
            raise CalibrationError(f"'{key}' is of an OCam (Scaramuzza), which is not supported; {_CALIBRATE}.")
    names = {name for name, _, _ in entries}
    for parameter, beside, kind in _PARAMETERS:
        given = [(key, value) for name, key, value in entries if name == parameter and names >= beside]
        for inner, number in (found for key, value in given for found in _not_zero(key, value)):
            raise CalibrationError(f"'{inner}: {number:g}' is of {kind}, which is not supported; {_CALIBRATE}.")
    blocks = [value for _, _, value in entries if isinstance(value, Mapping) and "data" not in value] if with_blocks else []
    for block in blocks:
        refuse_projection(block, with_blocks=True)


def _not_zero(key: str, value: Any) -> list[tuple[str, float]]:
    """The parameters under a key that are not 0, which would be a pinhole."""
    if isinstance(value, Mapping) and "data" not in value:
        return [found for inner, given in value.items() for found in _not_zero(f"{key}: {inner}", given)]
    items = fields.flat(value.get("data") if isinstance(value, Mapping) else value if isinstance(value, list | str) else [value])
    numbers = [fields.number(item, key) for item in items or []]
    return [(key, number) for number in numbers if number != 0.0]


def _plain(key: str) -> str:
    """`Camera1.cameraModel` as `camera_model`, `xi_1` and `xi1` as `xi`."""
    return re.sub(r"_?\d+$", "", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.rpartition(".")[2]).lower())
