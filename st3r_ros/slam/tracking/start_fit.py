# SPDX-License-Identifier: Apache-2.0
"""The geometry of a start: several views of the points of one image, adjusted together, with no depth known before.

Two views with little parallax, or of a plane, allow several poses; more views decide. A start is as good as the depths that it
gives: how many points it determines, and whether another solution fits as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.pixels import rays
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.geometry.triangulation import triangulate
from st3r_ros.geometry.two_view import TwoViewGeometry, another_pose, estimate_two_view
from st3r_ros.slam.optimization.bundle import Bundle, BundleEstimate
from st3r_ros.slam.tracking.frame_pose import TrackingProblem, track
from st3r_ros.solver.damped import Schedule, minimize
from st3r_ros.solver.points import SeenPoints
from st3r_ros.solver.poses import Pairs
from st3r_ros.solver.residuals import PixelObservations
from st3r_ros.types import EDGE_PIXEL_STEP, Matches

EPIPOLAR_PX = 1.5
SCHEDULE = Schedule(iterations=20, share=1e-4, most=1e3)
HOLD, GUESS = 0.05, 4.0
"""Information of the log-depths: in the adjustment, where they only hold the unit, and while the views are placed for it."""
FARTHEST = 50.0
"""Depths at first, as multiples of the median: what lies beyond begins at the median."""
INLIER_STD = 3.0
MIN_SHARED = 20
SURE_INFORMATION = 100.0
"""Of a log-depth that is known to a tenth."""


@dataclass(frozen=True, eq=False)
class StartView:
    """What another image shows of the first: matches of it (0) with the first (1), and its intrinsics K (3, 3)."""

    matches: Matches
    K: np.ndarray


@dataclass(frozen=True, eq=False)
class StartFit:
    """T_first_view of the last view, with a unit of its own; the points of the first image, and how well they fit.

    pixels: (P, 2) of the first image. depth, information: (P,) z, and the information of its logarithm, 0 where a view disagrees.
    cost: robust, of all views. share: of the last view's matches, those that agree.
    """

    T_first_view: SE3
    pixels: torch.Tensor
    depth: torch.Tensor
    information: torch.Tensor
    cost: float
    share: float

    @property
    def sure(self) -> int:
        """Number of points with a sure depth."""
        return int((self.information > SURE_INFORMATION).sum())


def fit_start(K: np.ndarray, views: Sequence[StartView], min_matches: int) -> list[StartFit]:
    """The geometries of the first image, with intrinsics K (3, 3), and its views: the best one first, at most two.

    The last view tells where to begin. Empty where it has no geometry.
    """
    last = views[-1]
    rays0, rays1 = rays(last.matches.pixels0.numpy(), last.K), rays(last.matches.pixels1.numpy(), K)
    threshold = EPIPOLAR_PX / K[0, 0]
    geometry = estimate_two_view(rays0, rays1, threshold, min_matches)
    if geometry is None:
        return []
    other = another_pose(geometry, rays0, rays1, threshold, min_matches)
    fits = [_fit(views, _points(g, rays0, rays1), g.T_0_1.inverse()) for g in (geometry, other) if g is not None]
    return sorted(fits, key=lambda fit: fit.cost)


def _points(geometry: TwoViewGeometry, rays0: np.ndarray, rays1: np.ndarray) -> torch.Tensor:
    """Points (P, 3) of the first image, by two views; at a typical depth where these do not tell."""
    depth = triangulate(rays0, rays1, geometry.T_0_1).depth1
    good = (depth > 0) & np.isfinite(depth) & geometry.inliers
    typical = float(np.median(depth[good])) if good.any() else 1.0
    return torch.from_numpy(rays1 * np.where(good & (depth < FARTHEST * typical), depth, typical)[:, None])


def _fit(views: Sequence[StartView], X: torch.Tensor, T_first_last: SE3) -> StartFit:
    """The best poses and depths, from points X (P, 3) at the pixels of the first image in the last view, and its pose."""
    last = views[-1]
    seen = [view for view in (_Seen.of(view, last.matches) for view in views[:-1]) if len(view.point) >= MIN_SHARED]
    poses = [track(view.problem(X), Sim3.identity(), T_first_last.sim3()).T_kf_cam.as_matrix() for view in seen]
    poses += [T_first_last.as_matrix()]
    seen += [_Seen.of(last, last.matches)]
    points = SeenPoints(
        X=X,
        information=torch.full((len(X),), HOLD, dtype=torch.float64),
        seen=PixelObservations(
            torch.cat([view.pixels for view in seen]), torch.cat([view.K.expand(len(view.point), 3, 3) for view in seen])
        ),
        weight=torch.cat([view.weight for view in seen]),
        point=torch.cat([view.point for view in seen]),
        sizes=[len(view.point) for view in seen],
    )
    targets = torch.arange(1, len(seen) + 1)
    bundle = Bundle(points, Pairs(torch.zeros_like(targets), targets), torch.arange(len(seen) + 1) > 0)
    start = torch.from_numpy(np.stack([np.eye(4), *poses]))
    found = minimize(BundleEstimate.at(bundle, start, torch.zeros(len(X), dtype=torch.float64)), SCHEDULE).estimate
    inliers = found.equations.distance < INLIER_STD
    agree = points.gathered((~inliers).double()) == 0
    share = float(inliers[-points.sizes[-1] :].double().mean()) if points.sizes else 0.0
    T = Sim3.from_matrix(found.poses[-1].numpy()).se3()
    information = torch.where(agree, found.relief_variance().reciprocal().nan_to_num(0.0), 0.0)
    return StartFit(T, last.matches.pixels1, X[:, 2] * found.delta.exp(), information, float(found.cost), share)


@dataclass(frozen=True, eq=False)
class _Seen:
    """The points that a view sees: their numbers (M,), pixels (M, 2) float64, weight (M,) and intrinsics K (3, 3)."""

    point: torch.Tensor
    pixels: torch.Tensor
    weight: torch.Tensor
    K: torch.Tensor

    @staticmethod
    def of(view: StartView, last: Matches) -> _Seen:
        """Of the first image's pixels in the last view's matches."""
        _, point, theirs = np.intersect1d(_keys(last.pixels1), _keys(view.matches.pixels1), return_indices=True)
        mine = view.matches.chosen(torch.from_numpy(theirs))
        return _Seen(torch.from_numpy(point), mine.pixels0.double(), mine.weight.double(), torch.from_numpy(view.K))

    def problem(self, X: torch.Tensor) -> TrackingProblem:
        """To place the view by points X (P, 3)."""
        information = torch.full((len(self.point),), GUESS, dtype=torch.float64)
        return TrackingProblem(X[self.point], information, PixelObservations(self.pixels, self.K), self.weight)


def _keys(pixels: torch.Tensor) -> np.ndarray:
    """One number (N,) for each pixel (N, 2)."""
    x, y = (pixels / EDGE_PIXEL_STEP).round().long().T
    return ((x << 32) + y).numpy()
