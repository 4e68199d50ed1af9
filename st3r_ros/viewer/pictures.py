# SPDX-License-Identifier: Apache-2.0
"""Small pictures for the frusta, with the camera's field of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PICTURE_WIDTH = 128
ASSUMED_FOV = 0.8
"""Vertical field of view of an unknown camera, radians."""
_ROWS = 100


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """What a camera saw: image (h, w, 3) uint8 RGB, small, and the vertical field of view, radians."""

    image: np.ndarray
    fov: float

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.image.shape[1] / self.image.shape[0]


def picture(image: np.ndarray, focal_px: float | None) -> Thumbnail:
    """Of an image (H, W, 3) uint8 RGB; its vertical focal length, pixels, or None when that is not known."""
    height, width = image.shape[:2]
    step = max(1, -(-width // PICTURE_WIDTH))
    offset = step // 2 if min(height, width) > step else 0
    fov = ASSUMED_FOV if focal_px is None else 2.0 * float(np.arctan(0.5 * height / focal_px))
    return Thumbnail(np.ascontiguousarray(image[offset::step, offset::step]), fov)


def focal_of_points(points: np.ndarray) -> float | None:
    """The vertical focal length, pixels, of the camera that sees points (H, W, 3) in its own axes, one per pixel, NaN where none.

    Its axes are optical or, where that fits the rows better, those of a body. None when too few points tell it.
    """
    height = points.shape[0]
    step = max(1, height // _ROWS)
    rows = np.arange(0, height, step)[:, None] - 0.5 * (height - 1)
    x, y, z = np.moveaxis(points[::step, ::step], -1, 0)
    fits = [fit for down, ahead in ((y, z), (-z, x)) if (fit := _focal_of_rows(rows, down, ahead, height)) is not None]
    return min(fits, key=lambda fit: fit[1])[0] if fits else None


def _focal_of_rows(rows: np.ndarray, down: np.ndarray, ahead: np.ndarray, height: int) -> tuple[float, float] | None:
    """The focal length, pixels, and the median error of the rows (h, 1) that it says points (h, w) are seen in, pixels."""
    usable = (ahead > 0) & (np.abs(down) > 1e-6 * ahead) & (np.abs(rows) > 0.1 * height)  # comparisons with NaN are false
    if np.count_nonzero(usable) < 16:
        return None
    seen = np.broadcast_to(rows, down.shape)[usable]
    slope = (down[usable] / ahead[usable]).astype(np.float64)
    focal = float(np.median(seen / slope))
    error = float(np.median(np.abs(seen - focal * slope)))
    return (focal, error) if focal > 0 else None
