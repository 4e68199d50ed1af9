# SPDX-License-Identifier: Apache-2.0
"""Helpers of SE3 and Sim3: checks of input arrays, homogeneous matrices, batched points and indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from st3r_ros.errors import GeometryError


def read_only(array: np.ndarray) -> np.ndarray:
    """A read-only float64 copy."""
    copy = np.array(array, dtype=np.float64)
    copy.flags.writeable = False
    return copy


def check_vectors(t: np.ndarray) -> np.ndarray:
    """The translations (..., 3) as float64.

    Raises:
        GeometryError: the last dimension is not 3, or a number is not finite.
    """
    t = np.asarray(t, dtype=np.float64)
    if t.shape[-1:] != (3,):
        raise GeometryError(f"A translation needs 3 numbers, but the array has shape {t.shape}.")
    if not np.isfinite(t).all():
        raise GeometryError("A translation contains a number that is not finite.")
    return t


def check_homogeneous(M: np.ndarray) -> np.ndarray:
    """The matrices (..., 4, 4) as float64.

    Raises:
        GeometryError: wrong shape, a number that is not finite, or a last row that is not 0 0 0 1.
    """
    M = np.asarray(M, dtype=np.float64)
    if M.shape[-2:] != (4, 4):
        raise GeometryError(f"A transform needs a 4 x 4 matrix, but the array has shape {M.shape}.")
    if not np.isfinite(M).all():
        raise GeometryError("A transform matrix contains a number that is not finite.")
    if np.abs(M[..., 3, :] - (0.0, 0.0, 0.0, 1.0)).max(initial=0.0) > 1e-9:
        raise GeometryError("The last row of a transform matrix is not 0 0 0 1; it is not a rigid or similarity transform.")
    return M


def check_batch(*batches: tuple[int, ...]) -> None:
    """Raises GeometryError when the parts of a transform have different batch shapes."""
    if len(set(batches)) > 1:
        raise GeometryError(f"The parts of a transform have different batch shapes: {' and '.join(map(str, batches))}.")


def homogeneous(A: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The matrices (..., 4, 4) of X -> A @ X + t."""
    M = np.zeros((*t.shape[:-1], 4, 4))
    M[..., :3, :3], M[..., :3, 3], M[..., 3, 3] = A, t, 1.0
    return M


def transform_points(A: np.ndarray, t: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A @ X + t for every point X, float64.

    A: (*batch, 3, 3), t: (*batch, 3). points: (*batch, ..., 3), each transform is applied to the points below its own index;
    points with fewer dimensions than the batch are broadcast.
    """
    points = np.asarray(points, dtype=np.float64)
    own = points.shape[t.ndim - 1 : -1]
    rows = points.reshape(*points.shape[: points.ndim - 1 - len(own)], math.prod(own), 3)
    moved = rows @ A.swapaxes(-1, -2) + t[..., None, :]
    return moved.reshape(*moved.shape[:-2], *own, 3)


def batch_index(index: Any, trailing: int) -> tuple:
    """The index that applies `index` to the batch dimensions and keeps the `trailing` last ones."""
    key = index if isinstance(index, tuple) else (index,)
    rest = () if any(item is Ellipsis for item in key) else (Ellipsis,)
    return (*key, *rest, *(slice(None),) * trailing)
