# SPDX-License-Identifier: Apache-2.0
"""Pixels to rays and points to pixels, through the intrinsics K of a camera without lens distortion.

K is [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], (3, 3) for all pixels or (..., 3, 3). Where `Array` stands, NumPy arrays and torch
tensors are taken alike and the result is of the same kind, on the same device; all values are float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")
Intrinsics = Any
"""K as an array or a tensor: an array (3, 3) serves pixels of both kinds."""


def normalized(pixels: Array, K: Intrinsics) -> Array:
    """The coordinates (..., 2) at which the rays of pixels (..., 2) cross the plane z = 1."""
    return _stacked(*_on_plane(pixels, K))


def rays(pixels: Array, K: Intrinsics) -> Array:
    """The rays (..., 3) of pixels (..., 2), with z = 1."""
    x, y = _on_plane(pixels, K)
    return _stacked(x, y, np.ones_like(x) if _is_numpy(x) else x.new_ones(x.shape))


def to_pixels(xy: Array, K: Intrinsics) -> Array:
    """The pixels (..., 2) of normalized coordinates (..., 2), on the plane z = 1."""
    fx, skew, cx, fy, cy = _parts(K)
    x, y = _components(xy)
    return _stacked(fx * x + cx if skew is None else fx * x + skew * y + cx, fy * y + cy)


def project(points: Array, K: Intrinsics) -> Array:
    """The pixels (..., 2) of points (..., 3) in the camera; without meaning where z is not positive."""
    return to_pixels(points[..., :2] / points[..., 2:], K)


def projection_derivative(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """The derivative (..., 2, 3) of the pixels of points (..., 3) by the points, float64."""
    z = points[..., 2]
    J = np.zeros((*z.shape, 2, 3))
    J[..., 0, 0], J[..., 0, 1], J[..., 1, 1] = (K[..., i, j] / z for i, j in ((0, 0), (0, 1), (1, 1)))
    x, y = points[..., 0], points[..., 1]
    J[..., 0, 2], J[..., 1, 2] = -(J[..., 0, 0] * x + J[..., 0, 1] * y) / z, -J[..., 1, 1] * y / z
    return J


def ray_matrix(K: np.ndarray) -> np.ndarray:
    """The matrix (3, 3) that takes homogeneous pixels (x, y, 1) to their rays with z = 1."""
    return np.linalg.inv(K)


def scaled_focal(K: np.ndarray, factor: float) -> np.ndarray:
    """K (3, 3) with both focal lengths, and the skew, times a factor."""
    scaled = K.copy()
    scaled[:2, :2] *= factor
    return scaled


def pixels_per_radian(K: np.ndarray) -> float:
    """Around the principal point; where K is assumed, it only sets the unit of residuals."""
    return math.sqrt(K[0, 0] * K[1, 1])


def pixel_grid(width: int, height: int) -> np.ndarray:
    """The coordinates (x, y) of every pixel, (height, width, 2) float64."""
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)), axis=-1)


def grid_axes(K: np.ndarray, width: int, height: int, first_row: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`normalized` of every pixel of a grid, to be broadcast: x (1, width), or (height, width) with a skew, and y (height, 1)."""
    (fx, skew, cx), (_, fy, cy), _ = K
    y = (np.arange(first_row, first_row + height)[:, None] - cy) / fy
    columns = np.arange(width)[None] - cx
    return (columns - skew * y if skew else columns) / fx, y


def _on_plane(pixels: Any, K: Intrinsics) -> tuple[Any, Any]:
    fx, skew, cx, fy, cy = _parts(K)
    u, v = _components(pixels)
    y = (v - cy) / fy
    u = u - cx
    return (u if skew is None else u - skew * y) / fx, y


def _parts(K: Intrinsics) -> tuple[Any, Any, Any, Any, Any]:
    """fx, skew, cx, fy and cy: numbers of one K, arrays (...) of many. The skew is None where it is known to be 0."""
    if K.ndim > 2:
        return K[..., 0, 0], K[..., 0, 1], K[..., 0, 2], K[..., 1, 1], K[..., 1, 2]
    # Tensors are not looked at: they may be on a device that should not be waited for.
    skew = None if _is_numpy(K) and K[0, 1] == 0.0 else K[0, 1]
    return K[0, 0], skew, K[0, 2], K[1, 1], K[1, 2]


def _components(values: Any) -> tuple[Any, Any]:
    """x and y (...) of values (..., 2), float64."""
    values = values.astype(np.float64, copy=False) if _is_numpy(values) else values.double()
    return values[..., 0], values[..., 1]


def _stacked(*components: Any) -> Any:
    """Components (...) as the last dimension."""
    if _is_numpy(components[0]):
        return np.stack(components, axis=-1)
    import torch

    return torch.stack(components, dim=-1)


def _is_numpy(values: Any) -> bool:
    return isinstance(values, np.ndarray | np.generic)
