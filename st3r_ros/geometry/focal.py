# SPDX-License-Identifier: Apache-2.0
"""The focal length of a camera from its own pointmap."""

from __future__ import annotations

import math

import numpy as np

from st3r_ros.errors import GeometryError
from st3r_ros.geometry.camera import pixel_grid

_STEPS = 10

# The focal length of a 60 degree field of view over the longer side, as a share of that side: limits are multiples of it.
_TYPICAL = 0.5 / math.tan(math.radians(30.0))


def focal_from_pointmap(
    X: np.ndarray, principal_point: np.ndarray | None = None, min_ratio: float = 0.0, max_ratio: float = math.inf
) -> float:
    """The focal length, pixels, that best explains which pixel sees which point: the geometric median by Weiszfeld's algorithm.

    X: (H, W, 3) points in the camera's own coordinates; points that are not finite or have z = 0 do not count.
    principal_point: (2,) pixels, the image centre by default.
    min_ratio, max_ratio: the result is limited to these multiples of the focal length that sees 60 degrees over the longer side.

    Raises:
        GeometryError: wrong shape, or no points from which a positive focal length follows.
    """
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 3 or X.shape[2] != 3:
        raise GeometryError(f"A pointmap needs the shape (H, W, 3), but this one has {X.shape}.")
    height, width = X.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2) if principal_point is None else principal_point
    u = (pixel_grid(width, height) - centre).reshape(-1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = (X[..., :2] / X[..., 2:]).reshape(-1, 2)
    q = np.where(np.isfinite(q), q, 0.0)

    along, length = (q * u).sum(axis=1), (q * q).sum(axis=1)
    if not length.sum() > 0.0:
        raise GeometryError("The pointmap holds no finite point off the optical axis; no focal length follows from it.")
    focal = along.sum() / length.sum()
    for _ in range(_STEPS):
        weights = 1.0 / np.maximum(np.linalg.norm(u - focal * q, axis=1), 1e-8)
        focal = (weights @ along) / (weights @ length)
    if not focal > 0.0:
        raise GeometryError(
            f"The pointmap gives the focal length {focal:.4g} pixels; its points do not lie in front of the camera."
        )
    typical = _TYPICAL * max(height, width)
    return float(np.clip(focal, min_ratio * typical, max_ratio * typical))
