# SPDX-License-Identifier: Apache-2.0
"""Image windows that objects can cover."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.camera import Camera

NEAR = 0.02  # near plane, metres

_BAND = 1 << 15  # pixels processed at a time, to fit into the processor cache


@dataclass(frozen=True)
class Window:
    """A part of an image, first and past the last pixel."""

    x0: int
    y0: int
    x1: int
    y1: int

    @staticmethod
    def whole(camera: Camera) -> Window:
        """All pixels of its images."""
        return Window(0, 0, camera.width, camera.height)

    @property
    def empty(self) -> bool:
        """Whether no pixel is left."""
        return self.x0 >= self.x1 or self.y0 >= self.y1

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as indices of an image."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def __and__(self, other: Window) -> Window:
        """Intersection of two windows."""
        low, high = (max(self.x0, other.x0), max(self.y0, other.y0)), (min(self.x1, other.x1), min(self.y1, other.y1))
        return Window(*low, *high)

    def bands(self) -> Iterator[Window]:
        """The window in parts of a few rows."""
        if self.empty:
            return
        rows = max(1, _BAND // max(1, self.x1 - self.x0))
        for y in range(self.y0, self.y1, rows):
            yield Window(self.x0, y, self.x1, min(y + rows, self.y1))

    def linear(self, form: np.ndarray) -> np.ndarray:
        """form . (x, y, 1) at each pixel, in the type of the form."""
        x, y = np.arange(self.x0, self.x1, dtype=form.dtype), np.arange(self.y0, self.y1, dtype=form.dtype)
        return form[0] * x + (form[1] * y + form[2])[:, None]


def polygon_windows(camera: Camera, corners: np.ndarray) -> list[Window]:
    """The windows of flat polygons with corners (N, P, 3) in the camera, clipped at the near plane."""
    following = np.roll(corners, -1, axis=1)
    z0, z1 = corners[..., 2:], following[..., 2:]
    crosses = (z0 > NEAR) != (z1 > NEAR)
    at = np.where(crosses, (NEAR - z0) / np.where(crosses, z1 - z0, 1.0), 0.0)
    outline = np.concatenate([corners, corners + at * (following - corners)], axis=1)
    valid = np.concatenate([z0 > NEAR, crosses], axis=1)[..., 0]
    return point_windows(camera, outline, valid)


def point_windows(camera: Camera, points: np.ndarray, valid: np.ndarray) -> list[Window]:
    """The windows of the valid (N, P) among N sets of points (N, P, 3) in the camera."""
    z = np.where(valid, points[..., 2], 1.0)[..., None]
    pixels = (points / z) @ camera.K[:2].T
    low = np.where(valid[..., None], pixels, np.inf).min(1)
    high = np.where(valid[..., None], pixels, -np.inf).max(1)
    size = np.array([camera.width, camera.height])
    low, high = np.clip(np.ceil(low - 0.01), 0, size), np.clip(np.floor(high + 1.01), 0, size)
    return [Window(*bounds) for bounds in np.hstack([low, high]).astype(int).tolist()]
