# SPDX-License-Identifier: Apache-2.0
"""One comparison of a query with a reference image: matches, pose, and agreement with other comparisons."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.geometry import so3
from st3r_ros.geometry.pnp_refinement import RefinedPose, UncertainPoints, refine_pnp
from st3r_ros.geometry.se3 import SE3
from st3r_ros.types import LocalizationResult, LocalizationStatus, Matches

THRESHOLD_PX = 4.0
SAME_TURN_DEG, SAME_SHARE = 5.0, 0.1
"""Poses that differ by less, in rotation and as a share of the distance to the scene, are the same."""
OTHER_FACTOR = 2.5
"""Poses that differ by this many times more are of different places; in between, one of them is inaccurate."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Matches of the query (0) with one reference image (1): points (N) in its camera, pixels (N, 2), and the pose.

    T_ref_points: from the points' frame to that of the answers. unit_sigma: relative error of the points' unit.
    """

    name: str
    matches: Matches
    points: UncertainPoints
    pixels: np.ndarray
    K: np.ndarray
    refined: RefinedPose | None
    keyframe_id: int | None = None
    T_ref_points: SE3 = dataclasses.field(default_factory=SE3.identity)
    metric: bool = False
    unit_sigma: float = 0.0

    @property
    def inliers(self) -> int:
        return 0 if self.refined is None else int(self.refined.inliers.sum())

    @property
    def distance(self) -> float:
        """Median distance of the agreeing points from the query's camera."""
        assert self.refined is not None
        seen = self.refined.T_cam_points.act(self.points.points[self.refined.inliers])
        return float(np.median(np.linalg.norm(seen, axis=1)))

    @property
    def T_ref_cam(self) -> SE3:
        """Pose of the query in the frame of the answers."""
        assert self.refined is not None
        return self.T_ref_points @ self.refined.T_cam_points.inverse()

    def agrees_with(self, other: Comparison) -> bool:
        """Whether the two poses are the same."""
        return same_place(self.T_ref_cam, other.T_ref_cam, other.distance)

    def contradicts(self, other: Comparison) -> bool:
        """Whether the two poses are of different places."""
        return not same_place(self.T_ref_cam, other.T_ref_cam, other.distance, OTHER_FACTOR)

    def result(self, status: LocalizationStatus, reason: str) -> LocalizationResult:
        """The statistics of this candidate, without a pose."""
        refined = self.refined
        return LocalizationResult(
            status,
            reason,
            reference=self.name,
            keyframe_id=self.keyframe_id,
            metric=self.metric,
            matches=len(self.matches),
            inliers=self.inliers,
            rmse_px=math.nan if refined is None else refined.rmse_px,
            focal_px=float(self.K[0, 0]),
            pixels=self.matches,
            agree=np.zeros(len(self.matches), bool) if refined is None else refined.inliers,
        )


def same_place(a: SE3, b: SE3, distance: float, factor: float = 1.0) -> bool:
    turn = math.degrees(float(np.linalg.norm(so3.log(a.rotation.T @ b.rotation))))
    moved = float(np.linalg.norm(a.translation - b.translation))
    return turn < factor * SAME_TURN_DEG and moved < factor * SAME_SHARE * distance


def solved_together(candidates: list[Comparison], free_focal: bool) -> Comparison:
    """The combined matches of the candidates, with points in the frame of the answers."""
    best, parts = candidates[0], []
    assert best.refined is not None
    for c in candidates:
        points = c.T_ref_points.act(c.points.points)
        parts.append(replace(c.points, points=points, along=c.points.along @ c.T_ref_points.rotation.T))
    points, pixels = UncertainPoints.joined(parts), np.concatenate([c.pixels for c in candidates])
    start = best.T_ref_cam.inverse()
    refined = refine_pnp(points, pixels, best.K, start, threshold_px=THRESHOLD_PX, free_focal=free_focal)
    return replace(best, points=points, pixels=pixels, refined=refined, T_ref_points=SE3.identity())
