# SPDX-License-Identifier: Apache-2.0
"""The initial view of a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.transforms import SE3

_SAMPLES = 50_000


@dataclass(frozen=True, eq=False)
class Extent:
    """The bulk of a cloud: centre (3,) and size (diagonal of its box), map units."""

    center: np.ndarray
    size: float


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """Eye (3,) and the point (3,) it looks at."""

    position: np.ndarray
    look_at: np.ndarray


def extent(points: np.ndarray) -> Extent | None:
    """The box of points (N, 3) without the outermost, None when there is no size to tell."""
    if len(points) == 0:
        return None
    low, high = np.percentile(points[:: max(1, len(points) // _SAMPLES)], [3.0, 97.0], axis=0)
    size = float(np.linalg.norm(high - low))
    return Extent(0.5 * (low + high), size) if size > 0 else None


def overview(seen: Extent, cameras: SE3 | None) -> Viewpoint:
    """A view of all of it from above and behind the cameras (N,), whose poses are in axes with z up.

    Cameras that look all around, or none, give a view across a corner.
    """
    forward, behind = np.array([1.0, 1.0, 0.0]) / np.sqrt(2.0), seen.center
    if cameras is not None and len(cameras.translation):
        behind = cameras.translation.mean(0)
        mean = cameras.rotation[:, :, 2].mean(0) * [1.0, 1.0, 0.0]
        if np.linalg.norm(mean) > 0.3:
            forward = mean / np.linalg.norm(mean)
    aim = 0.75 * seen.center + 0.25 * behind
    distance = max(0.65 * seen.size, 0.3 * seen.size + float((aim - behind) @ forward))
    return Viewpoint(aim - distance * forward + np.array([0.0, 0.0, 0.4 * seen.size]), aim)
