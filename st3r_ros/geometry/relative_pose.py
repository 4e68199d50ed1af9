# SPDX-License-Identifier: Apache-2.0
"""The pose of camera 1 relative to camera 0 from two pointmaps or their matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from st3r_ros.errors import GeometryError
from st3r_ros.geometry import so3
from st3r_ros.geometry.alignment import robust_align
from st3r_ros.geometry.pnp import solve_pnp
from st3r_ros.geometry.transforms import SE3


@dataclass(frozen=True, eq=False)
class RelativePose:
    """T_0_1 maps camera 1's coordinates to camera 0's, in the unit of camera 0's points.

    inliers: (N,) bool, the points that agree with the pose. parallax_deg: median angle, over these, between the directions from
    which the two cameras see a point; 0 when only a rotation is seen.
    scale_ratio: units of camera 0's points per unit of camera 1's own points; 1 when the latter were not used.
    """

    T_0_1: SE3
    inliers: np.ndarray
    parallax_deg: float
    scale_ratio: float = 1.0

    @property
    def inlier_share(self) -> float:
        """Share of inliers."""
        return float(self.inliers.mean())

    @property
    def rotation_deg(self) -> float:
        """The angle between the two cameras' orientations, degrees."""
        return so3.degrees(self.T_0_1.rotation)

    @property
    def baseline(self) -> float:
        """Distance between the two cameras, in the unit of camera 0's points."""
        return float(np.linalg.norm(self.T_0_1.translation))


def pose_by_pnp(points0: np.ndarray, pixels1: np.ndarray, K1: np.ndarray, threshold_px: float = 4.0) -> RelativePose | None:
    """The pose from points (N, 3) in camera 0's coordinates and their pixels (N, 2) in image 1.

    The points are those of X_0_0 with matches `pixels1`, or those of X_0_1 at their own pixels. K1: (3, 3) intrinsics
    of image 1. None when no pose projects 6 of them within `threshold_px` of their pixels. Points that are not finite are
    ignored.
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

    The points are the pixels of X_0_1 and, predicted with the images in the other order, of X_1_1. conf: (N,) confidences
    above 0. The errors of a pointmap grow with the distance, so the weights decrease with its square. None when the points do not
    determine a pose; points that are not finite are ignored.

    Source: Procrustes alignment (Luo and Hancock, 2002) as the DUSt3R paper uses it, section 3.3; made robust here.
    """
    usable = np.isfinite(points0).all(axis=1) & np.isfinite(points1).all(axis=1)
    distance = np.linalg.norm(points0, axis=1)
    usable &= distance > 0.0
    source, target = points1[usable], points0[usable]
    try:
        found = robust_align(source, target, conf[usable] / distance[usable] ** 2)
    except GeometryError:  # too few points, or all collinear
        return None
    inliers = np.zeros(len(points0), bool)
    inliers[usable] = found.inliers
    T_0_1 = SE3(found.T_target_source.rotation, found.T_target_source.translation)
    return RelativePose(T_0_1, inliers, _median_parallax_deg(points0[inliers], T_0_1), float(found.T_target_source.scale))


def _median_parallax_deg(points0: np.ndarray, T_0_1: SE3) -> float:
    to_camera1 = points0 - T_0_1.translation
    sine = np.linalg.norm(np.cross(points0, to_camera1), axis=1)
    return float(np.degrees(np.median(np.arctan2(sine, (points0 * to_camera1).sum(axis=1)))))
