# SPDX-License-Identifier: Apache-2.0
"""The pose of camera 1 seen from camera 0, from what two pointmaps and their matches say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from st3r_ros.errors import GeometryError
from st3r_ros.geometry import so3
from st3r_ros.geometry.alignment import robust_align
from st3r_ros.geometry.pnp import solve_pnp
from st3r_ros.geometry.se3 import SE3


@dataclass(frozen=True, eq=False)
class RelativePose:
    """T_0_1 maps camera 1's coordinates to camera 0's, in the unit of camera 0's points.

    inliers: (N,) bool, the points that agree with it. parallax_deg: median angle, over these, between the directions from which
    the two cameras see a point; 0 when only a rotation is seen.
    scale_ratio: length in camera 0's points of what is 1 long in camera 1's own; 1 where camera 1's own points were not asked.
    """

    T_0_1: SE3
    inliers: np.ndarray
    parallax_deg: float
    scale_ratio: float = 1.0

    @property
    def inlier_share(self) -> float:
        """Which part of the points agrees."""
        return float(self.inliers.mean())

    @property
    def rotation_deg(self) -> float:
        """The angle between the two cameras' orientations, degrees."""
        return math.degrees(np.linalg.norm(so3.log(self.T_0_1.rotation)))

    @property
    def baseline(self) -> float:
        """The distance of the two cameras, in the unit of camera 0's points."""
        return float(np.linalg.norm(self.T_0_1.translation))


def pose_by_pnp(points0: np.ndarray, pixels1: np.ndarray, K1: np.ndarray, threshold_px: float = 4.0) -> RelativePose | None:
    """The pose from points (N, 3) in camera 0's coordinates and the pixels (N, 2) of image 1 that show them.

    The points are pixels of X_0_0 whose matches are `pixels1`, or pixels of X_0_1, which show themselves. K1: (3, 3) intrinsics
    of image 1. None when no pose brings 6 of them within `threshold_px` of their pixels. Points that are not finite do not count.
    """
    usable = np.isfinite(points0).all(axis=1)
    found = solve_pnp(points0[usable], pixels1[usable], K1, threshold_px)
    if found is None:
        return None
    inliers = np.zeros(len(points0), bool)
    inliers[usable] = found.inliers
    T_0_1 = found.T_cam_points.inverse()
    return RelativePose(T_0_1, inliers, _median_parallax_deg(points0[inliers], T_0_1))


def pose_by_alignment(points0: np.ndarray, points1: np.ndarray, conf: np.ndarray) -> RelativePose | None:
    """The pose from the same points in camera 0's coordinates and, in their own scale, in camera 1's: (N, 3) each.

    The points are the pixels of X_0_1 and, predicted with the images in the other order, of X_1_1. conf: (N,) trust in each,
    above 0. A pointmap's errors grow with the distance, so the weights fall with its square. None when the points determine no
    pose; points that are not finite do not count.

    Source: Procrustes alignment (Luo and Hancock, 2002) as the DUSt3R paper uses it, section 3.3; made robust here.
    """
    usable = np.isfinite(points0).all(axis=1) & np.isfinite(points1).all(axis=1)
    distance = np.linalg.norm(points0, axis=1)
    usable &= distance > 0.0
    source, target = points1[usable], points0[usable]
    try:
        found = robust_align(source, target, conf[usable] / distance[usable] ** 2)
    except GeometryError:  # too few points, or all on a line
        return None
    inliers = np.zeros(len(points0), bool)
    inliers[usable] = found.inliers
    T_0_1 = SE3(found.T_target_source.rotation, found.T_target_source.translation)
    return RelativePose(T_0_1, inliers, _median_parallax_deg(points0[inliers], T_0_1), float(found.T_target_source.scale))


def _median_parallax_deg(points0: np.ndarray, T_0_1: SE3) -> float:
    to_camera1 = points0 - T_0_1.translation
    sine = np.linalg.norm(np.cross(points0, to_camera1), axis=1)
    return float(np.degrees(np.median(np.arctan2(sine, (points0 * to_camera1).sum(axis=1)))))
