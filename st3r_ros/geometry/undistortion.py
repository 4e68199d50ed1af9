# SPDX-License-Identifier: Apache-2.0
"""Removal of lens distortion from images.

The pixel maps of a large image are computed at nodes, the centres of square blocks of pixels, and interpolated between them:
distortion is smooth, so the error is far below the 1/32 pixel to which `cv2.remap` rounds. They are made and used in bands of
rows, because maps of 8000 x 6000 pixels would take more memory than two such images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry import distortion as lens
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import grid_axes, normalized, pixel_grid, to_pixels

MAX_NODES = 1024
"""Nodes along the longer side; images that have no more pixels get one for each pixel."""
MAX_KEPT = 24_000_000
"""Pixels of the largest images whose maps are kept, 6 bytes per pixel; those of larger ones are interpolated for each image."""
_BAND = 1_000_000
"""Pixels interpolated at a time, about."""
_NOWHERE = -10.0
_FAR = 1e5

Maps = tuple[np.ndarray, np.ndarray]
"""Where ideal pixels are in the distorted image, as `cv2.remap` takes it: int16 (h, W, 2) and fractions uint16 (h, W)."""


class Undistorter:
    """Turns images of a distorted camera into those of `camera`: an ideal lens with the same size and K.

    The nodes are computed once, here. What the lens does not show becomes black.
    """

    def __init__(self, distorted: Camera) -> None:
        self.camera = distorted.without_distortion()
        self._distorted = distorted
        self._step = math.ceil(max(distorted.width, distorted.height) / MAX_NODES)
        self._nodes = _at_nodes(distorted, self._step) if distorted.has_distortion else None
        keep = distorted.width * distorted.height <= MAX_KEPT
        self._kept = list(self._bands()) if keep else None

    def rectify(self, image: np.ndarray, *, nearest: bool = False) -> np.ndarray:
        """The image (H, W) or (H, W, C) without distortion, same size and type; the image itself when the lens is ideal.

        nearest: take whole pixels, for values that must not be mixed, such as depths.

        Raises:
            CalibrationError: the image does not have the size of the calibration.
        """
        if image.shape[:2] != (self.camera.height, self.camera.width):
            raise CalibrationError(
                f"The image has {image.shape[1]} x {image.shape[0]} pixels, but its calibration is for "
                f"{self.camera.width} x {self.camera.height}; calibrate at the size of the images."
            )
        if self._nodes is None:
            return image
        interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        rectified = np.empty_like(image, order="C")
        for y0, maps in self._bands() if self._kept is None else self._kept:
            band = rectified[y0 : y0 + len(maps[0])]
            cv2.remap(image, *maps, interpolation=interpolation, dst=band, borderMode=cv2.BORDER_CONSTANT)
        return rectified

    def _bands(self) -> Iterator[tuple[int, Maps]]:
        """The maps of bands of rows, each with its first row."""
        if self._nodes is None:
            return
        camera, step = self._distorted, self._step
        rows = max(1, _BAND // (camera.width * step))
        for first in range(0, len(self._nodes) - 2, rows):
            nodes = self._nodes[first : first + rows + 2]
            y0, y1 = first * step, min((first + len(nodes) - 2) * step, camera.height)
            seen_at = cv2.resize(nodes, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
            seen_at = np.ascontiguousarray(seen_at[step : step + y1 - y0, step : step + camera.width])
            if math.isfinite(camera.fold_radius):
                seen_at[_beyond_fold(camera, y0, y1)] = _NOWHERE
            yield y0, cv2.convertMaps(seen_at, None, cv2.CV_16SC2)


def _at_nodes(camera: Camera, step: int) -> np.ndarray:
    """Where the lens shows the centres of blocks of step x step pixels, float32; with one more block at each border."""
    columns, rows = math.ceil(camera.width / step) + 2, math.ceil(camera.height / step) + 2
    pixels = (pixel_grid(columns, rows) - 1.0) * step + 0.5 * (step - 1)
    xy = normalized(pixels, camera.K)
    with np.errstate(all="ignore"):
        seen_at = to_pixels(lens.distort(camera.distortion_model, camera.distortion, xy), camera.K)
    return np.nan_to_num(seen_at, nan=_FAR, posinf=_FAR, neginf=-_FAR).clip(-_FAR, _FAR).astype(np.float32)


def _beyond_fold(camera: Camera, y0: int, y1: int) -> np.ndarray:
    """Which pixels of the rows y0 to y1 the calibration does not describe, bool (y1 - y0, W)."""
    x, y = grid_axes(camera.K, camera.width, y1 - y0, first_row=y0)
    return x * x > camera.fold_radius**2 - y * y
