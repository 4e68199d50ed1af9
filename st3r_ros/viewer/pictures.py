# SPDX-License-Identifier: Apache-2.0
"""Small pictures for the frusta, with the camera's field of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PICTURE_WIDTH = 128
ASSUMED_FOV = 0.8
"""Vertical field of view of a camera that nothing is known about, radians."""
_ROWS = 100


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera saw: image (h, w, 3) uint8 RGB, small, and the vertical field of view, radians."""

    image: np.ndarray
    fov: float

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.image.shape[1] / self.image.shape[0]


def picture(image: np.ndarray, focal_px: float | None) -> Picture:
    """Of an image (H, W, 3) uint8 RGB; its vertical focal length, pixels, or None when that is not known."""
    height, width = image.shape[:2]
    step = max(1, -(-width // PICTURE_WIDTH))
    offset = step // 2 if min(height, width) > step else 0
    fov = ASSUMED_FOV if focal_px is None else 2.0 * float(np.arctan(0.5 * height / focal_px))
    return Picture(np.ascontiguousarray(image[offset::step, offset::step]), fov)


def focal_of_points(points: np.ndarray) -> float | None:
    """The vertical focal length, pixels, of the camera that sees points (H, W, 3) in its own axes, one per pixel, NaN where none.

    None when too few points tell it.
    """
    height = points.shape[0]
    step = max(1, height // _ROWS)
    rows = np.arange(0, height, step)[:, None] - 0.5 * (height - 1)
    y, z = points[::step, ::step, 1], points[::step, ::step, 2]
    usable = (z > 0) & (np.abs(y) > 1e-6 * z) & (np.abs(rows) > 0.1 * height)  # comparisons with NaN are false
    if np.count_nonzero(usable) < 16:
        return None
    focal = float(np.median((rows * z)[usable] / y[usable]))
    return focal if focal > 0 else None
