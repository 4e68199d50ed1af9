# SPDX-License-Identifier: Apache-2.0
"""Camera pose from 2D-3D matches with outliers, without an initial guess."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from st3r_ros.geometry.transforms import SE3


@dataclass(frozen=True, eq=False)
class PnPResult:
    """T_cam_points maps the points' coordinates to the camera's. inliers: (N,) bool."""

    T_cam_points: SE3
    inliers: np.ndarray


def solve_pnp(
    points: np.ndarray, pixels: np.ndarray, K: np.ndarray, threshold_px: float = 4.0, max_draws: int = 200
) -> PnPResult | None:
    """Pose from points (N, 3) and their pixels (N, 2), None when no pose fits at least 6 of them.

    max_draws: maximum number of samples of three points; fewer are drawn when most matches agree.

    RANSAC over three-point solutions (OpenCV; Ke and Roumeliotis, CVPR 2017).
    """
    if len(points) < 6:
        return None
    points, pixels = np.ascontiguousarray(points, np.float64), np.ascontiguousarray(pixels, np.float64)
    cv2.setRNGSeed(0)
    found, rvec, tvec, inliers = cv2.solvePnPRansac(
        points,
        pixels,
        K,
        None,
        iterationsCount=max_draws,
        reprojectionError=threshold_px,
        confidence=0.999,
        flags=cv2.SOLVEPNP_AP3P,
    )
    if not found or inliers is None or len(inliers) < 6 or not np.isfinite(rvec).all():
        return None
    mask = np.zeros(len(points), bool)
    mask[inliers.ravel()] = True
    return PnPResult(SE3(cv2.Rodrigues(rvec)[0], tvec.ravel()), mask)
