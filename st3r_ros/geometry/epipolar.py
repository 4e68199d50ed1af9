# SPDX-License-Identifier: Apache-2.0
"""The algebra of the epipolar constraint, x0^T E x1 = 0 with E = [t] R, on rays x (N, 3) with z = 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INDEPENDENT_PAIRS = 100
"""Errors of neighbouring matches are correlated: any number of matches counts as at most this many."""


def skew(v: np.ndarray) -> np.ndarray:
    """The matrix (3, 3) of the cross product with v."""
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def orthogonal(t: np.ndarray) -> np.ndarray:
    """Two unit vectors (2, 3) orthogonal to the unit vector t and to each other."""
    across = skew(t)
    first = across[:, np.argmin(np.abs(t))]
    first = first / np.sqrt(first @ first)
    return np.stack([first, across @ first])


@dataclass(frozen=True, eq=False)
class Sampson:
    """Signed Sampson distance (N,), the gradient norm (N,) that divides it, and the epipolar lines (N, 3) in both images."""

    distance: np.ndarray
    gradient: np.ndarray
    lines0: np.ndarray
    lines1: np.ndarray


def sampson(E: np.ndarray, rays0: np.ndarray, rays1: np.ndarray) -> Sampson:
    """How far matches are from their epipolar lines, to first order."""
    lines0, lines1 = rays1 @ E.T, rays0 @ E
    square = lines0[:, 0] ** 2 + lines0[:, 1] ** 2 + lines1[:, 0] ** 2 + lines1[:, 1] ** 2
    gradient = np.maximum(np.sqrt(square), 1e-12)
    return Sampson(np.einsum("ni,ni->n", rays0, lines0) / gradient, gradient, lines0, lines1)


def sampson_derivatives(at: Sampson, forms: np.ndarray, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    """Derivatives (N, K) of the distance by K changes of E, `forms` (K, 3, 3).

    Those of the gradient, by which the constraint is divided, count as well: without them a refinement is drawn off along the
    directions that matches hardly determine (rotation against translation), by many times its standard deviation.
    """
    lines0, lines1 = (np.concatenate([lines[:, :2], np.zeros((len(lines), 1))], axis=1) for lines in (at.lines0, at.lines1))
    share = (at.distance / at.gradient)[:, None]
    # Both are sums over the entries of E, of which entry (i, j) counts with these products.
    left, right = rays0 - share * lines0, share * lines1
    by_entry = left[:, :, None] * rays1[:, None, :] - rays0[:, :, None] * right[:, None, :]
    return by_entry.reshape(-1, 9) @ forms.reshape(-1, 9).T / at.gradient[:, None]
