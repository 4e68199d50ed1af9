# SPDX-License-Identifier: Apache-2.0
"""One frame against one keyframe: predict, match, solve, and update the depths of the keyframe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from st3r_ros.config import MapperConfig
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.geometry.two_view import estimate_two_view
from st3r_ros.slam.keyframes.fusion import fuse_pointmap, moved, unit_ratio
from st3r_ros.slam.keyframes.projection import (
    INDEPENDENT_CLAIMS,
    directions,
    observations_at,
    pixel_index,
    pixels_per_radian,
    points_at,
    rays,
    sample,
)
from st3r_ros.slam.keyframes.sightings import Sighting
from st3r_ros.slam.tracking.frame_pose import TrackingProblem, TrackingResult, track
from st3r_ros.solver.residuals import Observations, PixelObservations, RayObservations
from st3r_ros.types import Features, Keyframe, Matches, PairModel, PairPrediction

UNKNOWN_DEPTH_INFORMATION = 1.0
TYPICAL_DEPTH = 2.0
"""Median depth in units of the world that the first scene of a map without metres gets; taken where a keyframe knows none."""
MIN_AGREEING, AGREEING_SHARE = 50, 0.7
"""So many matches, and this share of them, that agree are enough where few depths are known: they fix rotation and direction, and
the few depths the length of the way."""
MIN_INLIER_SHARE, SOLID_INLIER_SHARE = 0.3, 0.5
FITTING_SHARE, FITTING_CLOSE_SHARE = 0.85, 0.7
"""Of putative matches, those that agree on a pose, and of those with known depth, those that lie close, where little in the view
moves by itself."""
EPIPOLAR_PX, VERIFIED_SHARE = 1.5, 0.7
"""How far from its epipolar line a match may lie, and how many of them must not."""


@dataclass(frozen=True, eq=False)
class Tracked:
    """A solved frame. `result` refers to `matches` (0 = frame, 1 = keyframe)."""

    prediction: PairPrediction
    problem: TrackingProblem
    result: TrackingResult

    @property
    def matches(self) -> Matches:
        """Matches of the frame (0) with the keyframe (1)."""
        return self.prediction.matches

    @property
    def trusted(self) -> int:
        """Matches that agree on the pose and whose depth was known before."""
        return self.result.trusted

    @property
    def agreeing(self) -> int:
        """Matches that agree on the pose."""
        return int(self.result.inliers.sum())

    @property
    def inlier_share(self) -> float:
        """Share of the matches that agree on the pose."""
        return float(self.result.inliers.double().mean())

    @property
    def fits_well(self) -> bool:
        """Whether so many matches agree on the pose that hardly anything else moves in the view."""
        result = self.result
        return self.inlier_share >= FITTING_SHARE and result.close >= FITTING_CLOSE_SHARE * result.known

    @property
    def median_distance(self) -> float:
        """Of the matched points from the keyframe, in its unit."""
        return float(self.problem.points.norm(dim=1).median())

    @property
    def agreed(self) -> Matches:
        """The matches that agree on the pose."""
        return self.matches.chosen(self.result.inliers)


class Tracker:
    """Finds poses relative to keyframes with one pair model."""

    def __init__(self, model: PairModel, config: MapperConfig) -> None:
        self.model = model
        self.config = config
        self._newest: tuple[Any, Any, PairPrediction] | None = None

    def track(
        self,
        features: Features,
        keyframe: Keyframe,
        keyframe_features: Any,
        T_kf_cam: Sim3,
        seed: Matches | None = None,
        other: Sim3 | None = None,
    ) -> Tracked | None:
        """Pose of a frame relative to `keyframe`, from the guess `T_kf_cam`, or the `other` one where that fits better, and the
        matches `seed` of the frame before. None when too few points agree.
        """
        guesses = (T_kf_cam,) if other is None else (T_kf_cam, other)
        return self._matched(
            features,
            keyframe_features,
            seed,
            self.model.traits.monocular_depth,
            lambda prediction: self.solve(prediction, features.K, keyframe, *guesses, K_known=features.K_known),
        )

    def _matched(
        self,
        features0: Any,
        features1: Any,
        seed: Matches | None,
        dense: bool,
        solve: Callable[[PairPrediction], Tracked | None],
    ) -> Tracked | None:
        """Solved with putative matches where these fit, with verified ones where they do not.

        What moves in the view must not draw the camera along; but to find the geometry that most matches agree on takes longer
        than all the rest.
        """
        newest = self._newest
        if newest is not None and newest[0] is features0 and newest[1] is features1:
            prediction = newest[2]
        else:
            prediction = self.model.predict(features0, features1, seed=seed, dense=dense, verified=False)
        tracked = solve(prediction)
        if prediction.putative and (tracked is None or not tracked.fits_well):
            verified = _verified(prediction, features0, features1, self.config.min_inliers)
            prediction = verified or self.model.predict(features0, features1, seed=seed, dense=dense)
            tracked = solve(prediction)
        self._newest = features0, features1, prediction
        return tracked

    def solve(
        self, prediction: PairPrediction, K: np.ndarray, keyframe: Keyframe, *guesses: Sim3, K_known: bool = True
    ) -> Tracked | None:
        """Like `track`, with a given prediction. K: (3, 3) intrinsics of the frame."""
        pixels = prediction.matches.pixels0
        if len(pixels) < self.config.min_inliers:
            return None
        calibrated = K_known or not self.model.traits.monocular_depth or prediction.X_0_0 is None
        seen: Observations
        if calibrated:
            seen = PixelObservations(pixels.double(), torch.as_tensor(K, device=pixels.device))
        else:
            assert prediction.X_0_0 is not None
            seen = RayObservations(directions(prediction.X_0_0, pixels), pixels_per_radian(K))
        if prediction.X_0_0 is None or prediction.conf0 is None:
            return self._solve(prediction, seen, keyframe, guesses)
        claimed = sample(prediction.X_0_0, pixels).double()
        depth = claimed[:, 2] if calibrated else claimed.norm(dim=1)
        information = sample(prediction.conf0, pixels).double() / self.model.traits.relative_depth_sigma**2
        return self._solve(prediction, seen, keyframe, guesses, depth, information)

    def tie(
        self, keyframe0: Keyframe, features0: Any, keyframe1: Keyframe, features1: Any, seed: Matches | None
    ) -> Tracked | None:
        """Pose of `keyframe0` relative to `keyframe1`, with the pointmaps of both; None when too few points agree.

        The pair that was tracked last, as a frame that was then made a keyframe, is not matched again.
        """

        def solve(prediction: PairPrediction) -> Tracked | None:
            if len(prediction.matches) < self.config.min_inliers:
                return None
            own = points_at(keyframe0, prediction.matches.pixels0)
            depth = own.points[:, 2] if keyframe0.calibrated else own.points.norm(dim=1)
            seen = observations_at(keyframe0, prediction.matches.pixels0)
            information = own.conf / self.model.traits.relative_depth_sigma**2
            return self._solve(prediction, seen, keyframe1, (guess,), depth, information)

        guess = keyframe1.T_world_cam.inverse() @ keyframe0.T_world_cam
        return self._matched(features0, features1, seed, False, solve)

    def _solve(
        self,
        prediction: PairPrediction,
        seen: Observations,
        keyframe: Keyframe,
        guesses: tuple[Sim3, ...],
        frame_depth: torch.Tensor | None = None,
        frame_information: torch.Tensor | None = None,
    ) -> Tracked | None:
        pixels = prediction.matches.pixels1
        own = points_at(keyframe, pixels)
        known = own.conf > 0
        if len(pixels) < MIN_AGREEING and int(known.sum()) < self.config.min_inliers:
            return None
        towards = rays(pixels, keyframe.K) if keyframe.calibrated else directions(keyframe.X, pixels)
        if known.any():
            typical = own.points[known].norm(dim=1).median() / towards[known].norm(dim=1).median()
        else:
            typical = own.points.new_tensor((keyframe.median_depth() or TYPICAL_DEPTH) / float(keyframe.T_world_cam.scale))
        points = torch.where(known[:, None], own.points, towards * typical)
        information = (own.conf / self.model.traits.relative_depth_sigma**2).clamp_min(UNKNOWN_DEPTH_INFORMATION)
        weight = prediction.matches.weight.double()
        if frame_information is not None:
            frame_information = frame_information * min(1.0, INDEPENDENT_CLAIMS / len(pixels))
        problem = TrackingProblem(points, information, seen, weight, frame_depth, frame_information)
        result = track(problem, *guesses)
        share = float(result.inliers.double().mean())
        finite = np.isfinite(result.T_kf_cam.as_matrix()).all()
        if not finite or share < MIN_INLIER_SHARE:
            return None
        tracked = Tracked(prediction, problem, result)
        by_direction = tracked.agreeing >= MIN_AGREEING and share >= AGREEING_SHARE
        return tracked if result.trusted >= self.config.min_inliers or by_direction else None

    def sighting(self, keyframe: Keyframe, K: np.ndarray, tracked: Tracked) -> Sighting | None:
        """What is kept of a frame with intrinsics K (3, 3) for the bundle of the whole map; None where there will be none."""
        return None if self.model.traits.monocular_depth else Sighting.pack(keyframe.id, K, tracked.agreed)

    def is_solid(self, tracked: Tracked) -> bool:
        """Whether enough matches agree on the pose to connect two keyframes by it, or to believe it without others."""
        return tracked.trusted >= 2 * self.config.min_inliers and tracked.inlier_share >= SOLID_INLIER_SHARE

    def fuse(self, keyframe: Keyframe, tracked: Tracked) -> float | None:
        """Updates the keyframe's pointmap from a tracked frame: matched points by their parallax, all by the prediction.

        Returns the prediction's units per unit of the keyframe, None when that is not known.
        """
        fuse_depths(keyframe, tracked, self.model.traits.relative_depth_sigma)
        prediction = tracked.prediction
        if prediction.X_0_1 is None or prediction.conf1 is None:
            return None
        T_kf_cam = tracked.result.T_kf_cam
        ratio = unit_ratio(keyframe.X, keyframe.conf, T_kf_cam, prediction.X_0_1, prediction.conf1)
        if ratio is None:
            return None
        X = moved(prediction.X_0_1, Sim3(T_kf_cam.rotation, T_kf_cam.translation, np.float64(ratio)))
        sigma = self.model.traits.relative_depth_sigma
        keyframe.X, keyframe.conf = fuse_pointmap(keyframe.X, keyframe.conf, X, prediction.conf1, sigma)
        return 1.0 / ratio


def _verified(prediction: PairPrediction, features0: Any, features1: Any, min_matches: int) -> PairPrediction | None:
    """The matches that agree on one geometry; None where too few do."""
    matches = prediction.matches
    rays0, rays1 = rays(matches.pixels0.numpy(), features0.K), rays(matches.pixels1.numpy(), features1.K)
    found = estimate_two_view(rays0, rays1, EPIPOLAR_PX / features0.K[0, 0], min_matches, quick=True)
    if found is None or found.inliers.mean() < VERIFIED_SHARE:
        return None
    return replace(prediction, matches=matches.chosen(torch.from_numpy(found.inliers)), putative=False)


def fuse_depths(keyframe: Keyframe, tracked: Tracked, depth_sigma: float) -> None:
    """Fuses the depths found by the frame into the matched points of the keyframe, and adds its information to their conf."""
    result = tracked.result
    gained = result.information
    enough = result.inliers & (gained > UNKNOWN_DEPTH_INFORMATION)
    information = tracked.problem.information[enough]
    column, row = pixel_index(tracked.matches.pixels1[enough], keyframe.conf.shape[1], keyframe.conf.shape[0])
    points = tracked.problem.points[enough] * result.log_depth[enough].exp()[:, None]
    known = keyframe.conf[row, column] > 0
    total = torch.where(known, information, 0.0) + gained[enough]
    keyframe.X[row, column] = points.to(keyframe.X.dtype)
    keyframe.conf[row, column] = (total * depth_sigma**2).to(keyframe.conf.dtype)


CARRIED_INFORMATION = 4.0
"""Depths known to a half are worth carrying from keyframe to keyframe: further views make them better."""


@dataclass(frozen=True, eq=False)
class CarriedPoints:
    """Points of a keyframe as a frame sees them: pixels (n, 2), X (n, 3) in its camera and keyframe units, information (n,)."""

    pixels: torch.Tensor
    X: torch.Tensor
    information: torch.Tensor


def carried_points(tracked: Tracked) -> CarriedPoints:
    """The keyframe's points in the tracked frame, of depth known before or by it."""
    result = tracked.result
    chosen = result.inliers & (tracked.problem.information + result.information > CARRIED_INFORMATION)
    T_cam_kf = result.T_kf_cam.se3().inverse()
    points = tracked.problem.points[chosen] * result.log_depth[chosen].exp()[:, None]
    X = torch.from_numpy(T_cam_kf.act(points.cpu().numpy())).to(points.device)
    return CarriedPoints(tracked.matches.pixels0[chosen], X, tracked.problem.information[chosen] + result.information[chosen])
