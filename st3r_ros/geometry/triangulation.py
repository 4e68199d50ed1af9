# SPDX-License-Identifier: Apache-2.0
"""Depth from two rays by the midpoint method, with the parallax angle as a measure of its reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.transforms import SE3


@dataclass(frozen=True, eq=False)
class Triangulation:
    """depth0, depth1 (N,): z in camera 0 and 1 (may be negative or infinite for bad matches). parallax (N,): radians."""

    depth0: np.ndarray
    depth1: np.ndarray
    parallax: np.ndarray


def triangulate(rays0: np.ndarray, rays1: np.ndarray, T_0_1: SE3) -> Triangulation:
    """Depths of matched rays (N, 3) with z = 1, in the units of `T_0_1`'s translation.

    Each pair of depths is where the two rays are closest to each other (Hartley and Zisserman, Multiple View Geometry, 12).
    """
    turned = rays1 @ T_0_1.rotation.T
    aa = np.einsum("ni,ni->n", rays0, rays0)
    bb = np.einsum("ni,ni->n", turned, turned)
    ab = np.einsum("ni,ni->n", rays0, turned)
    at, bt = rays0 @ T_0_1.translation, turned @ T_0_1.translation
    determinant = np.maximum(aa * bb - ab * ab, 1e-18)
    depth0 = (bb * at - ab * bt) / determinant
    depth1 = (ab * at - aa * bt) / determinant
    parallax = np.arctan2(np.sqrt(determinant), ab)
    return Triangulation(depth0, depth1, parallax)
