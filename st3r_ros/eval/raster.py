# SPDX-License-Identifier: Apache-2.0
"""Orthographic pictures of a map: viewing directions, limits and a fast rasterization."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SAMPLE = 50_000
MAX_SPLAT_PX = 7
CLOSED_GROWTH = 1.6


@dataclass(frozen=True)
class PlotWindow:
    """The visible part of a plane, map units."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.top - self.bottom


@dataclass(frozen=True, eq=False)
class Bounds:
    """An axis-aligned box: low and high (k,)."""

    low: np.ndarray
    high: np.ndarray


def level_axes(up: np.ndarray, forward: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(3, 3) rows: the longest level direction of the points, the level direction across it, and up. Right-handed.

    up, forward: (3,), need not be normalised; the direction across points forward rather than back. points: (N, 3), the scene.
    """
    up = up / np.linalg.norm(up)
    sample = points[:: max(1, len(points) // SAMPLE)].astype(np.float64)
    centred = sample - np.median(sample, axis=0)
    distances = np.linalg.norm(centred, axis=1)
    centred = centred[distances <= np.percentile(distances, 90)]
    level = centred - np.outer(centred @ up, up)
    along = np.linalg.eigh(level.T @ level)[1][:, -1]
    along -= (along @ up) * up
    along /= np.linalg.norm(along)
    across = np.cross(up, along)
    return np.stack([along, across, up]) if across @ forward >= 0 else np.stack([-along, -across, up])


def robust_bounds(points: np.ndarray, paths: np.ndarray) -> Bounds:
    """Box (low, high) around the bulk of the points (N, k) and every pose (M, k), outliers left outside.

    The bulk is the middle 80 % of each coordinate, widened by 0.4 of it on each side but not beyond what is there. (A tenth of a
    voxel-filtered cloud may be outliers, since each of them has its own voxel.)
    """
    boxes = []
    if len(points):
        least, low, high, most = np.percentile(points, (0.5, 10.0, 90.0, 99.5), axis=0)
        boxes += [np.maximum(least, low - 0.4 * (high - low)), np.minimum(most, high + 0.4 * (high - low))]
    if len(paths):
        boxes += [paths.min(axis=0), paths.max(axis=0)]
    if not boxes:
        return Bounds(np.full(points.shape[1], -1.0), np.full(points.shape[1], 1.0))
    return Bounds(np.min(boxes, axis=0), np.max(boxes, axis=0))


def rasterise(points: np.ndarray, colors: np.ndarray, window: PlotWindow, width: int, height: int) -> np.ndarray:
    """(height, width, 4) uint8 RGBA, first row at the top: each pixel has the mean colour of its points and is more opaque with
    more points.

    points: (N, 2) float. colors: (N, 3) uint8. Sparse clouds get larger dots, so that surfaces are closed.
    """
    column = np.floor((points[:, 0] - window.left) / window.width * width)
    row = np.floor((window.top - points[:, 1]) / window.height * height)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = (row[inside] * width + column[inside]).astype(np.int64)
    channels = [np.bincount(pixel, minlength=width * height)]
    channels += [np.bincount(pixel, weights=colors[inside, c], minlength=width * height) for c in range(3)]
    image = np.stack(channels, axis=-1).reshape(height, width, 4).astype(np.float32)
    if len(pixel) == 0:
        return np.zeros((height, width, 4), np.uint8)
    splat = _splat_size(image[..., 0])
    sums = cv2.boxFilter(image, -1, (splat, splat), normalize=False, borderType=cv2.BORDER_CONSTANT)
    count = sums[..., :1]
    typical = float(np.median(count[count > 0]))
    alpha = 255.0 * (1.0 - np.exp(-2.0 * count / typical))
    return np.concatenate([sums[..., 1:] / np.maximum(count, 1.0), alpha], axis=-1).clip(0, 255).astype(np.uint8)


def _splat_size(count: np.ndarray) -> int:
    """Size of the smallest dot, in pixels, that closes surfaces. count: (H, W) points per pixel."""
    occupied = (count > 0).astype(np.uint8)
    area = np.count_nonzero(occupied)
    for size in range(1, MAX_SPLAT_PX, 2):
        larger = np.count_nonzero(cv2.dilate(occupied, np.ones((size + 2, size + 2), np.uint8)))
        if larger < CLOSED_GROWTH * area:
            return size
        area = larger
    return MAX_SPLAT_PX
