# SPDX-License-Identifier: Apache-2.0
"""Calibrations in plain text: KITTI, COLMAP's cameras.txt, and a bare 3 x 3 or 4 x 4 matrix."""

from __future__ import annotations

import re

import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.lens_names import EQUIDISTANT, NONE, PLUMB_BOB, RATIONAL
from st3r_ros.io.calibration import fields
from st3r_ros.io.calibration.calibration import Calibration, Size

_PIXEL_CENTRE = 0.5
"""COLMAP and nerfstudio count from the corner of the first pixel."""
# COLMAP's model -> lens, parameters before the distortion, where each coefficient of the lens stands among the rest (-1: 0).
_COLMAP = {
    "SIMPLE_PINHOLE": (NONE, 3, ()),
    "PINHOLE": (NONE, 4, ()),
    "SIMPLE_RADIAL": (PLUMB_BOB, 3, (0, -1, -1, -1)),
    "RADIAL": (PLUMB_BOB, 3, (0, 1, -1, -1)),
    "OPENCV": (PLUMB_BOB, 4, (0, 1, 2, 3)),
    "FULL_OPENCV": (RATIONAL, 4, (0, 1, 2, 3, 4, 5, 6, 7)),
    "OPENCV_FISHEYE": (EQUIDISTANT, 4, (0, 1, 2, 3)),
    "SIMPLE_RADIAL_FISHEYE": (EQUIDISTANT, 3, (0, -1, -1, -1)),
    "RADIAL_FISHEYE": (EQUIDISTANT, 3, (0, 1, -1, -1)),
    "SIMPLE_FISHEYE": (EQUIDISTANT, 3, (-1, -1, -1, -1)),
    "FISHEYE": (EQUIDISTANT, 4, (-1, -1, -1, -1)),
}
_KITTI = re.compile(r"^(P_rect_|P|K_|D_|S_rect_|S_|R_rect_)(\d+)$")


def kitti_entries(text: str) -> dict[str, list[str]]:
    """The lines `name: numbers` of KITTI's calib.txt and calib_cam_to_cam.txt that tell of cameras; empty for other files."""
    found = {}
    for line in text.splitlines():
        name, colon, values = line.partition(":")
        if colon and _KITTI.match(name.strip()):
            found[name.strip()] = values.split()
    return found


def kitti_cameras(entries: dict[str, list[str]]) -> list[str]:
    """The numbers of the cameras, as P2 in calib.txt, as P_rect_02 in calib_cam_to_cam.txt."""
    return sorted({match[2] for name in entries if (match := _KITTI.match(name)) and match[1] in ("P", "P_rect_")})


def calibration_from_kitti(entries: dict[str, list[str]], camera: str, source: str) -> Calibration:
    """The calibration of one camera; KITTI's images are rectified except those of its unsynchronized raw data.

    Raises:
        CalibrationError: an entry is missing or has other numbers than it should.
    """
    raw = f"K_{camera}" in entries
    P = fields.numbers(entries, f"P_rect_{camera}" if f"P_rect_{camera}" in entries else f"P{camera}", 12).reshape(3, 4)[:, :3]
    return Calibration(
        source,
        K=fields.numbers(entries, f"K_{camera}", 9).reshape(3, 3) if raw else None,
        size=_size(entries, f"S_{camera}"),
        lens_names={f"D_{camera}": PLUMB_BOB} if raw else {},
        coefficients=fields.numbers(entries, f"D_{camera}") if raw else np.zeros(0),
        P=P,
        rectified_size=_size(entries, f"S_rect_{camera}"),
    )


def colmap_cameras(text: str) -> dict[str, list[str]]:
    """The lines of COLMAP's cameras.txt by camera id: model, width, height, parameters; empty for other files."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not all(len(words) >= 7 and words[0].isdigit() and words[1].isupper() for words in lines):
        return {}
    return {words[0]: words[1:] for words in lines}


def calibration_from_colmap(words: list[str], source: str) -> Calibration:
    """The calibration of one line of cameras.txt.

    Raises:
        CalibrationError: the model is not supported or has another number of parameters.
    """
    model, width, height, *texts = words
    size = fields.image_size({"width": width, "height": height}, "width", "height")
    values = [fields.number(text, "cameras.txt") for text in texts]
    lens, before, places = _COLMAP.get(model, (model, 4, ()))
    wanted = before + max(places, default=-1) + 1
    if model in _COLMAP and len(values) != wanted:
        raise CalibrationError(f"the model {model} has {len(values)} parameters; it must have {wanted}.")
    if len(values) < before:
        raise CalibrationError(f"the model {model} has {len(values)} parameters, too few for a camera.")
    fx, fy, cx, cy = values[:4] if before == 4 else (values[0], *values[:3])
    return Calibration(
        source,
        K=fields.matrix_from(fx, fy, cx - _PIXEL_CENTRE, cy - _PIXEL_CENTRE),
        size=size,
        lens_names={"model": lens},
        coefficients=np.array([0.0 if place < 0 else values[before + place] for place in places]),
    )


def bare_matrix(text: str) -> np.ndarray | None:
    """The K of a file that holds nothing but the numbers of a 3 x 3, 3 x 4 or 4 x 4 matrix; None for other files."""
    words = text.replace(",", " ").replace("[", " ").replace("]", " ").replace(";", " ").split()
    shape = {9: (3, 3), 12: (3, 4), 16: (4, 4)}.get(len(words))
    try:
        matrix = np.array([float(word) for word in words]).reshape(shape or -1)
    except ValueError:
        return None
    if shape is None or ("\n" not in text.strip() and matrix[2, :3].tolist() != [0.0, 0.0, 1.0]):
        return None  # one line of other numbers
    return matrix[:3, :3]


def calibration_from_matrix(K: np.ndarray, source: str) -> Calibration:
    """The calibration of a bare matrix."""
    return Calibration(source, K=K, lens_names={"matrix": NONE}, note=f"{source} gives no distortion: none is assumed.")


def _size(entries: dict[str, list[str]], key: str) -> Size | None:
    if key not in entries:
        return None
    width, height = fields.numbers(entries, key, 2)
    return fields.image_size({"width": width, "height": height}, "width", "height")
