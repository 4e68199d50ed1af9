# SPDX-License-Identifier: Apache-2.0
"""Lens distortion on the plane z = 1: the three models of ROS camera calibrations and their inverse, in NumPy.

Formulas: OpenCV's calib3d (plumb_bob, and rational_polynomial with thin prism terms and a tilted sensor) and its fisheye module
(equidistant, Kannala and Brandt 2006), whose coefficients ROS stores in the same order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def plumb_bob(xy: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Distort points xy (..., 2) with D = k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tau_x tau_y]]]]; missing ones are 0."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tau_x, tau_y = np.pad(D, (0, 14 - len(D)))
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    radial = (1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1.0 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    distorted = np.empty_like(xy)
    distorted[..., 0] = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x) + r2 * (s1 + r2 * s2)
    distorted[..., 1] = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y + r2 * (s3 + r2 * s4)
    return _tilted(distorted, tau_x, tau_y) if tau_x or tau_y else distorted


def _tilted(xy: np.ndarray, tau_x: float, tau_y: float) -> np.ndarray:
    """Where points of the plane z = 1 appear on a sensor tilted by two angles, radians (Scheimpflug, as OpenCV defines it)."""
    (sx, cx), (sy, cy) = ((np.sin(angle), np.cos(angle)) for angle in (tau_x, tau_y))
    R = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    tilt = np.array([[R[2, 2], 0, -R[0, 2]], [0, R[2, 2], -R[1, 2]], [0, 0, 1]]) @ R
    x, y, w = np.moveaxis(np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1) @ tilt.T, -1, 0)
    return np.stack([x / w, y / w], axis=-1)


def equidistant(xy: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Distort points xy (..., 2) with D = k1 k2 k3 k4: the image radius is a polynomial of the angle to the optical axis."""
    k1, k2, k3, k4 = D
    r = np.sqrt((xy * xy).sum(-1, keepdims=True) + 1e-300)
    theta = np.arctan(r)
    t2 = theta * theta
    return xy * (theta * (1.0 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))) / r)


_X, _Y = np.eye(2)
_STEP = 1e-7
_NEWTON_STEPS = 30

# Model name -> (function, accepted numbers of coefficients). None at all stands for an ideal lens, which a fisheye never is.
MODELS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], tuple[int, ...]]] = {
    "plumb_bob": (plumb_bob, (0, 4, 5)),
    "rational_polynomial": (plumb_bob, (0, 8, 12, 14)),
    "equidistant": (equidistant, (4,)),
}


def distort(model: str, D: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Where the lens puts the ideal points xy (..., 2) of the plane z = 1."""
    return MODELS[model][0](xy, D)


def undistort(model: str, D: np.ndarray, distorted: np.ndarray) -> np.ndarray:
    """The ideal points (..., 2) that the lens puts at `distorted` (..., 2); not converged, hence NaN, where it puts none.

    Newton's method with numerical derivatives. Started at the distorted point it stays on the branch around the optical axis.
    """
    lens = MODELS[model][0]
    xy, error = distorted, lens(distorted, D) - distorted
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            along_x = (lens(xy + _STEP * _X, D) - distorted - error) / _STEP
            along_y = (lens(xy + _STEP * _Y, D) - distorted - error) / _STEP
            determinant = _cross(along_x, along_y)
            xy = xy - np.stack([_cross(error, along_y), _cross(along_x, error)], axis=-1) / determinant[..., None]
            error = lens(xy, D) - distorted
            residual = np.abs(error).max(axis=-1, keepdims=True)
            if not (residual > 1e-13).any():
                break
        return np.where(residual < 1e-9, xy, np.nan)


def fold_radius(model: str, D: np.ndarray) -> float:
    """The radius on the plane z = 1 at which the image radius stops growing: beyond it a calibration shows the scene twice.

    Infinite when it grows up to 89 degrees from the axis.
    """
    r = np.tan(np.radians(np.linspace(0.0, 89.0, 2000)))
    falling = np.flatnonzero(~(np.diff(image_radius(model, D, r)) > 0.0))
    return float(r[falling[0]]) if falling.size else float("inf")


def image_radius(model: str, D: np.ndarray, r: np.ndarray | float) -> np.ndarray:
    """The radius (...) on the distorted plane of points at the radius r (...) on the plane z = 1.

    The mean of two opposite directions leaves the radial part alone.
    """
    along_x = np.stack([np.asarray(r), np.zeros_like(r)], axis=-1)
    return 0.5 * (distort(model, D, along_x) - distort(model, D, -along_x))[..., 0]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
