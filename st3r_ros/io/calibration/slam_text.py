# SPDX-License-Identifier: Apache-2.0
"""Calibrations in plain text that visual SLAM programs read: DROID-SLAM's line of numbers and DSO's camera.txt."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.lens_names import EQUIDISTANT, NONE, PLUMB_BOB, check_supported
from st3r_ros.io.calibration import fields
from st3r_ros.io.calibration.calibration import Calibration, Size

_DROID = (4, 8, 9, 12)
"""fx, fy, cx, cy and as many coefficients of OpenCV's model as are given."""
# DSO's model -> lens; the file names none where it describes the lens by its field of view.
_DSO = {"pinhole": NONE, "radtan": PLUMB_BOB, "equidistant": EQUIDISTANT, "kannalabrandt": EQUIDISTANT}
_PIXEL_CENTRE = 0.5


def droid_numbers(text: str) -> np.ndarray | None:
    """The numbers of a file of one line: fx fy cx cy, then the distortion; None for other files."""
    lines = _lines(text)
    numbers = _numbers(lines[0]) if len(lines) == 1 else None
    return None if numbers is None or len(numbers) not in _DROID else numbers


def calibration_from_droid(numbers: np.ndarray, source: str) -> Calibration:
    """The calibration of such a file, whose distortion has OpenCV's order."""
    return Calibration(
        source,
        K=fields.matrix_from(*numbers[:4]),
        lens_names={"numbers": NONE} if len(numbers) == 4 else {"numbers": "opencv" if len(numbers) < 12 else "full_opencv"},
        coefficients=numbers[4:],
        note=f"{source} is read as fx, fy, cx, cy{', k1, k2, p1, p2, k3, k4, k5, k6'[: 4 * (len(numbers) - 4)]}.",
    )


@dataclass(frozen=True, eq=False)
class DsoCamera:
    """The first two lines of a camera.txt. model: "" where it has none."""

    model: str
    numbers: np.ndarray
    size: Size


def dso_camera(text: str) -> DsoCamera | None:
    """The camera of DSO's camera.txt, also of LSD-SLAM and PTAM; None for other files."""
    lines = _lines(text)
    if len(lines) < 2 or not re.fullmatch(r"\d+\s+\d+", lines[1]):
        return None
    model, rest = lines[0].split(maxsplit=1) if re.match(r"[A-Za-z]+\s+\S", lines[0]) else ("", lines[0])
    numbers = _numbers(rest)
    if numbers is None or len(numbers) not in (4, 5, 8):
        return None
    width, height = map(int, lines[1].split())
    return DsoCamera(model, numbers, (width, height))


def calibration_from_dso(camera: DsoCamera, source: str) -> Calibration:
    """The calibration of such a file; a principal point below 1 means that all is in widths and heights.

    Raises:
        CalibrationError: the lens is described by its field of view or is not known, or it has another number of parameters.
    """
    fx, fy, cx, cy, *rest = camera.numbers.tolist()
    model = camera.model or ("fov" if any(rest) else "pinhole")
    check_supported("model", model)
    lens = _DSO.get(model.lower())
    if lens is None or len(rest) not in ((0, 1) if lens == NONE else (4,)) or (lens == NONE and any(rest)):
        raise CalibrationError(f"the model '{model}' with {len(camera.numbers)} numbers is not one of {', '.join(_DSO)}.")
    width, height = camera.size
    K = fields.matrix_from(fx, fy, cx, cy)
    if cx < 1.0 and cy < 1.0:
        K = fields.matrix_from(fx * width, fy * height, cx * width - _PIXEL_CENTRE, cy * height - _PIXEL_CENTRE)
    return Calibration(
        source, K=K, size=camera.size, lens_names={"model": lens}, coefficients=np.array(rest if lens != NONE else [])
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _numbers(line: str) -> np.ndarray | None:
    try:
        return np.array([float(word) for word in line.replace(",", " ").split()])
    except ValueError:
        return None
