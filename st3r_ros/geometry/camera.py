# SPDX-License-Identifier: Apache-2.0
"""The pinhole camera with lens distortion.

Pixel coordinates are (x, y), the centre of the top left pixel at (0, 0).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry import distortion as lens
from st3r_ros.geometry.arrays import read_only
from st3r_ros.geometry.pixels import normalized, to_pixels

MAX_IN_SIZES = 1e4
"""Focal length and principal point in widths or heights of the image, at most."""
MIN_FOCAL_IN_SIZES = 0.02
"""Focal lengths in widths or heights of the image, at least. The widest fisheyes have 0.1; less is not in pixels."""
MAX_COEFFICIENT = 1e6


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics of images of one size. Two cameras are equal when all their numbers are.

    width, height: pixels. K: (3, 3) float64 [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], pixels.
    distortion_model: plumb_bob (4 or 5 coefficients), equidistant (4) or rational_polynomial (8, 12 with thin prism terms, 14
    with a tilted sensor too).
    distortion: the coefficients in the order of ROS and OpenCV, float64, empty for an ideal lens. Arrays are read-only copies.

    Raises:
        CalibrationError: any of these is incomplete or impossible.
    """

    width: int
    height: int
    K: np.ndarray
    distortion_model: str = "plumb_bob"
    distortion: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            _check_size(name, getattr(self, name))
        object.__setattr__(self, "K", _checked_K(self.K))
        object.__setattr__(self, "distortion", _checked_distortion(self.distortion_model, self.distortion))
        self._check_plausible()

    def _check_plausible(self) -> None:
        """No lens has such numbers, and computing with them ends in infinities."""
        size = np.array([[self.width, self.width, self.width], [self.height, self.height, self.height]])
        in_sizes = np.abs(self.K[:2]) / size
        if in_sizes.max() > MAX_IN_SIZES or min(in_sizes[0, 0], in_sizes[1, 1]) < MIN_FOCAL_IN_SIZES:
            raise CalibrationError(
                f"The camera matrix K is {self.K.tolist()}: impossible for {self.width} x {self.height} pixels; "
                "its values must be in pixels."
            )
        if np.abs(self.distortion).max(initial=0.0) > MAX_COEFFICIENT:
            raise CalibrationError(f"The distortion coefficients are {self.distortion.tolist()}: no lens has such.")

    @staticmethod
    def from_fov(width: int, height: int, horizontal_fov_deg: float) -> Camera:
        """The ideal camera with a horizontal field of view in degrees, square pixels and a centred principal point.

        Raises:
            CalibrationError: the field of view is not between 0 and 180 degrees, or the size is not positive.
        """
        if not 0.0 < horizontal_fov_deg < 180.0:
            raise CalibrationError(f"The field of view is {horizontal_fov_deg} degrees; it must be between 0 and 180.")
        focal = 0.5 * width / math.tan(math.radians(0.5 * horizontal_fov_deg))
        return Camera(width, height, np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]]))

    @property
    def has_distortion(self) -> bool:
        """Whether images of this camera differ from those of an ideal lens (a fisheye's always do)."""
        return self.distortion_model == "equidistant" or bool(np.any(self.distortion))

    def without_distortion(self) -> Camera:
        """The ideal camera with the same size and K."""
        return dataclasses.replace(self, distortion_model="plumb_bob", distortion=np.zeros(0))

    def scaled(self, width: int, height: int) -> Camera:
        """The camera of the images resized to (width, height); pixel areas, not pixel centres, are what scales.

        Raises:
            CalibrationError: the new size is not positive.
        """
        sx, sy = width / self.width, height / self.height
        resize = np.array([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5], [0.0, 0.0, 1.0]])
        return dataclasses.replace(self, width=width, height=height, K=resize @ self.K)

    def cropped(self, x0: int, y0: int, width: int, height: int) -> Camera:
        """The camera of the part of the images that starts at pixel (x0, y0).

        Raises:
            CalibrationError: the part is empty or reaches beyond the image.
        """
        if min(x0, y0) < 0 or x0 + width > self.width or y0 + height > self.height:
            raise CalibrationError(
                f"A crop of {width} x {height} at ({x0}, {y0}) reaches beyond the image of {self.width} x {self.height}."
            )
        shift = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]])
        return dataclasses.replace(self, width=width, height=height, K=shift @ self.K)

    def project(self, points: np.ndarray) -> np.ndarray:
        """The pixels (..., 2) of points (..., 3) in camera coordinates, float64.

        NaN where there is none: not in front of the camera, or outside the field of view that the calibration describes.
        """
        points = np.asarray(points, dtype=np.float64)
        z = points[..., 2:]
        xy = points[..., :2] / np.where(z > 0.0, z, np.nan)
        if self.has_distortion:
            xy = lens.distort(self.distortion_model, self.distortion, self._in_view(xy))
        return to_pixels(xy, self.K)

    def unproject(self, pixels: np.ndarray, depth: np.ndarray | float = 1.0) -> np.ndarray:
        """The points (..., 3) at `depth` (...,) along the optical axis that are seen at pixels (..., 2), float64.

        NaN where the calibration shows nothing.
        """
        xy = normalized(np.asarray(pixels, dtype=np.float64), self.K)
        if self.has_distortion:
            xy = self._in_view(lens.undistort(self.distortion_model, self.distortion, xy))
        return np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1) * np.asarray(depth)[..., None]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Camera) and self._values == other._values

    def __hash__(self) -> int:
        return hash(self._values)

    @cached_property
    def _values(self) -> tuple:
        return (self.width, self.height, self.distortion_model, self.K.tobytes(), self.distortion.tobytes())

    @cached_property
    def fold_radius(self) -> float:
        """The radius on the plane z = 1 up to which the calibration describes the lens, as `distortion.fold_radius`."""
        return lens.fold_radius(self.distortion_model, self.distortion)

    def _in_view(self, xy: np.ndarray) -> np.ndarray:
        return np.where((xy * xy).sum(-1, keepdims=True) <= self.fold_radius**2, xy, np.nan)


def _check_size(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value <= 0:
        raise CalibrationError(f"The camera's {name} is {value!r}; it must be a positive whole number of pixels.")


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        array = read_only(values)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{name} contains something that is not a number: {values!r}.") from error
    if not np.isfinite(array).all():
        raise CalibrationError(f"{name} holds a number that is not finite: {str(array.tolist())[:200]}.")
    return array


def _checked_K(values: Any) -> np.ndarray:
    K = _numbers("The camera matrix K", values)
    if K.shape != (3, 3):
        raise CalibrationError(f"The camera matrix K has shape {K.shape}; it must be 3 x 3.")
    if not (K[0, 0] > 0.0 and K[1, 1] > 0.0):
        raise CalibrationError(
            f"The focal lengths in K are fx = {K[0, 0]:g} and fy = {K[1, 1]:g}; both must be positive. Is the camera calibrated?"
        )
    if K[1, 0] != 0.0 or tuple(K[2]) != (0.0, 0.0, 1.0):
        raise CalibrationError(f"The camera matrix K is {K.tolist()}; below its diagonal it must be 0, and its last row 0 0 1.")
    return K


def _checked_distortion(model: Any, values: Any) -> np.ndarray:
    if model not in lens.MODELS:
        raise CalibrationError(f"The distortion model is {str(model)[:50]!r}; known ones are {', '.join(lens.MODELS)}.")
    D = _numbers("The list of distortion coefficients", values)
    allowed = lens.MODELS[model][1]
    if D.ndim != 1 or len(D) not in allowed:
        raise CalibrationError(
            f"The distortion coefficients have shape {D.shape}; {model} takes {' or '.join(map(str, allowed))} of them."
        )
    return D
