# SPDX-License-Identifier: Apache-2.0
"""Which pixels of two true views show the same point, also where one room is taken for its twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from noisy_depth.views import TrueView
from st3r_ros.geometry.transforms import SE3

OCCLUSION_TOLERANCE = 0.05
"""A point further from the depth seen at its pixel than this share of its depth is hidden."""
NEAR = 0.05  # metres; nothing closer to a camera is seen
MIN_OVERLAP = 0.05


class Twins(Protocol):
    """Two rooms of a world that look exactly alike. T_a_b: world coordinates in room b to those of the same spot in room a."""

    T_a_b: SE3

    def in_a(self, points: np.ndarray) -> np.ndarray:
        """Which world points (N, 3) belong to room a, (N,) bool."""
        ...

    def in_b(self, points: np.ndarray) -> np.ndarray:
        """Which belong to room b."""
        ...


@dataclass(frozen=True, eq=False)
class Correspondence:
    """T_0_1: where camera 1 is, or seems to be. pixels0, pixels1: (N, 2) true matches, those of image 1 on its grid.

    overlap: share of the grid of image 1 that image 0 shows. fooled: whether it is the twin of what image 1 shows.
    """

    T_0_1: SE3
    pixels0: np.ndarray
    pixels1: np.ndarray
    overlap: float
    fooled: bool = False


def correspond(view0: TrueView, view1: TrueView, twins: Twins | None = None) -> Correspondence:
    """The true matches; where there is no overlap, those of looking the same, as far as the twins do."""
    truth = _seen_from(view0, view1, SE3.identity(), None)
    if truth.overlap >= MIN_OVERLAP or twins is None:
        return truth
    swaps = ((twins.T_a_b, twins.in_b), (twins.T_a_b.inverse(), twins.in_a))
    seeming = [_seen_from(view0, view1, T, belongs(view1.grid_points)) for T, belongs in swaps]
    return max([truth, *seeming], key=lambda found: found.overlap)


def _seen_from(view0: TrueView, view1: TrueView, T_world_moved: SE3, belongs: np.ndarray | None) -> Correspondence:
    """What image 0 shows of image 1's points after these have been moved; only those that belong, (N,) bool, if given."""
    T_0_world = view0.T_world_cam.inverse() @ T_world_moved
    points = T_0_world @ view1.grid_points
    z = points[:, 2]
    pixels = points[:, :2] / np.maximum(z, NEAR)[:, None] * view0.K[[0, 1], [0, 1]] + view0.K[:2, 2]
    h, w = view0.depth.shape
    nearest = np.rint(np.clip(pixels, -1.0, (w, h))).astype(np.int64)
    inside = (z > NEAR) & (nearest >= 0).all(1) & (nearest[:, 0] < w) & (nearest[:, 1] < h)
    x, y = nearest[inside].T
    shown = view0.depth[y, x]
    inside[inside] = (shown > 0) & (np.abs(z[inside] - shown) < OCCLUSION_TOLERANCE * z[inside])
    if belongs is not None:
        inside &= belongs
    overlap = float(inside.mean()) if len(inside) else 0.0
    T_0_1 = T_0_world @ view1.T_world_cam
    return Correspondence(T_0_1, pixels[inside], view1.grid_pixels[inside], overlap, fooled=belongs is not None)
