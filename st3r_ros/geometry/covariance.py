# SPDX-License-Identifier: Apache-2.0
"""Transforms covariances of poses to another point and other axes."""

from __future__ import annotations

import numpy as np

from st3r_ros.geometry import so3


def moved_covariance(covariance: np.ndarray, R_a_b: np.ndarray, lever: np.ndarray) -> np.ndarray:
    """The covariance (6, 6) of the pose of another point of the same rigid body, in other axes.

    covariance: (6, 6) float64, of a body's position and of its rotation about fixed axes, radians, both in the axes of b.
    R_a_b: (3, 3) rotation from the axes of b to those of a, the axes of the result. lever: (3,) from the old point to the new
    one, in the axes of b; a small rotation w moves the new point by w x lever.
    """
    J = np.zeros((6, 6))
    J[:3, :3] = J[3:, 3:] = R_a_b
    J[:3, 3:] = -R_a_b @ so3.hat(lever)
    return J @ covariance @ J.T
