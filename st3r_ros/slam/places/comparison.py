# SPDX-License-Identifier: Apache-2.0
"""One comparison of a query with a reference image: matches, pose, and agreement with other comparisons."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.config import RelocalizerConfig
from st3r_ros.geometry import so3
from st3r_ros.geometry.pnp_refinement import RefinedPose, UncertainPoints, refine_pnp
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.two_view_focal import FocalFit
from st3r_ros.slam.places.focal_check import (
    CENTRE_SIGMA,
    MIN_PARALLAX_DEG,
    USABLE_SIGMA,
    PairView,
    checked,
    contradicts,
    is_same_camera,
    refocused,
)
from st3r_ros.types import Features, LocalizationResult, LocalizationStatus, Matches, PairModel, PairPrediction

THRESHOLD_PX = 4.0
SAME_TURN_DEG, SAME_SHARE = 5.0, 0.1
"""Poses that differ by less, in rotation and as a share of the distance to the scene, are the same."""
POINTS_GAIN = 0.2
"""By what share a focal length must lower the squared reprojection errors to count."""
OTHER_FACTOR = 2.5
"""Poses that differ by this many times more are of different places; in between, one of them is inaccurate."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Matches of the query (0) with one reference image (1): points (N) in its camera, pixels (N, 2), and the pose.

    T_ref_points: from the points' frame to that of the answers. unit_sigma: relative error of the points' unit.
    image: what the points are of, with its intrinsics. prediction: of query (0) and keyframe (1), None for other references.
    """

    name: str
    matches: Matches
    points: UncertainPoints
    pixels: np.ndarray
    K: np.ndarray
    refined: RefinedPose | None
    image: Features
    prediction: PairPrediction | None = None
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

    def checked(self, model: PairModel, query: Features, min_matches: int, *, early: bool) -> FocalFit | None:
        """How far the query's calibration is from what the matches say; None where they cannot. early: see `FocalCheck`."""
        if not self.image.K_known:
            return None
        refined = self.refined if self.inliers >= min_matches else None
        by_points = None if refined is None else self._fit_to_points(query, refined)
        T_points_cam = None if refined is None else refined.T_cam_points.inverse()
        by_rays = None
        if T_points_cam is None or np.linalg.norm(T_points_cam.translation) >= math.radians(MIN_PARALLAX_DEG) * self.distance:
            view = PairView(query, self.image, self.matches)
            by_rays = checked(model, view, T_points_cam, min_matches, rematch=early or refined is None)
        fits = [fit for fit in (by_points, by_rays) if fit is not None]
        if is_same_camera(self.image, query):
            # Points seen with the same wrong focal length fit it; and the rays of an enlarged image fit no common one.
            fits = [fit for fit in fits if fit.log_sigma <= USABLE_SIGMA and contradicts(fit)] or fits
        return min(fits, key=lambda fit: fit.log_sigma, default=None)

    def _fit_to_points(self, query: Features, refined: RefinedPose) -> FocalFit | None:
        """The focal length of the query that fits the points, without parallax; None where it fits hardly better than the given.

        Depths are wrong by more than they say, so how sure the fit is does not count alone.
        """
        centre = CENTRE_SIGMA * max(query.image.shape[:2])
        start, K = refined.T_cam_points, query.K
        fit = refine_pnp(self.points, self.pixels, K, start, threshold_px=THRESHOLD_PX, free_focal=True, centre_sigma_px=centre)
        gain = 1.0 - _misfit(fit) / max(_misfit(refined), 1e-12)
        if gain < POINTS_GAIN:
            return None
        return FocalFit(fit.T_cam_points.inverse(), fit.focal, fit.log_focal_sigma, fit.covariance, gain, alone=True)

    def deviation(self, query: Features, factor: float, *, alone: bool) -> np.ndarray:
        """Covariance (6, 6), as `RefinedPose.covariance`, of the error that a focal length wrong by `factor` makes.

        alone: only the query's is wrong. Otherwise the points were seen with the same one.
        """
        assert self.refined is not None
        points = self.points
        if not alone and self.image.K_known and is_same_camera(self.image, query):
            # The depth of the points is known, not their distance from the axis.
            wider = np.array([factor, factor, 1.0])
            points = replace(points, points=points.points / wider, along=points.along / wider)
        there = refine_pnp(
            points, self.pixels, refocused(query, factor).K, self.refined.T_cam_points, threshold_px=THRESHOLD_PX
        ).T_cam_points
        d = (there @ self.refined.T_cam_points.inverse()).log()
        return np.outer(d, d)

    def result(self, status: LocalizationStatus, reason: str) -> LocalizationResult:
        """The statistics of this candidate, without a pose."""
        refined = self.refined
        return LocalizationResult(
            status,
            reason,
            reference=self.name,
            keyframe_id=self.keyframe_id,
            metric=self.metric,
            reference_assumed=not self.image.K_known,
            matches=len(self.matches),
            inliers=self.inliers,
            rmse_px=math.nan if refined is None else refined.rmse_px,
            focal_px=float(self.K[0, 0]),
            pixels=self.matches,
            prediction=self.prediction,
            agree=np.zeros(len(self.matches), bool) if refined is None else refined.inliers,
        )


def _misfit(refined: RefinedPose) -> float:
    """Sum of the squared reprojection errors, each at most that of an outlier."""
    return float((np.minimum(refined.residual_px, THRESHOLD_PX) ** 2).sum())


def same_place(a: SE3, b: SE3, distance: float, factor: float = 1.0) -> bool:
    turn = so3.degrees(a.rotation.T @ b.rotation)
    moved = float(np.linalg.norm(a.translation - b.translation))
    return turn < factor * SAME_TURN_DEG and moved < factor * SAME_SHARE * distance


def spread_enough(pixels: np.ndarray, query: Features, config: RelocalizerConfig) -> bool:
    """Whether pixels (N, 2) are spread in both directions, by the smaller of their principal standard deviations."""
    if len(pixels) < 3:
        return False
    extent = math.sqrt(max(float(np.linalg.eigvalsh(np.cov(pixels.T))[0]), 0.0))
    return extent >= config.min_spread * math.hypot(*query.image.shape[:2])


def refined_pose(points: UncertainPoints, pixels: np.ndarray, K: np.ndarray, start: SE3, query: Features) -> RefinedPose:
    """The pose of the query; without a calibration with its focal length, and with the error of its principal point."""
    if query.K_known:
        return refine_pnp(points, pixels, K, start, threshold_px=THRESHOLD_PX)
    centre = CENTRE_SIGMA * max(query.image.shape[:2])
    return refine_pnp(points, pixels, K, start, threshold_px=THRESHOLD_PX, free_focal=True, centre_sigma_px=centre)


def solved_together(candidates: list[Comparison], query: Features) -> Comparison:
    """The combined matches of the candidates, with points in the frame of the answers."""
    best, parts = candidates[0], []
    assert best.refined is not None
    for c in candidates:
        points = c.T_ref_points.act(c.points.points)
        parts.append(replace(c.points, points=points, along=c.points.along @ c.T_ref_points.rotation.T))
    points, pixels = UncertainPoints.joined(parts), np.concatenate([c.pixels for c in candidates])
    start = best.T_ref_cam.inverse()
    refined = refined_pose(points, pixels, best.K, start, query)
    return replace(best, points=points, pixels=pixels, refined=refined, T_ref_points=SE3.identity())
