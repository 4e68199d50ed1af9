# SPDX-License-Identifier: Apache-2.0
"""One frame against one keyframe: predict, match, solve, and give the keyframe back what the frame says about its depths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.projection import pixel_index, sample
from st3r_ros.slam.tracking import TrackingProblem, TrackingResult, make_problem, track
from st3r_ros.types import Features, Keyframe, Matches, PairModel, PairPrediction

UNKNOWN_DEPTH_INFORMATION = 1.0
KNOWN_DEPTH_INFORMATION = 25.0


@dataclass(frozen=True, eq=False)
class Tracked:
    """A solved frame. `result` refers to `matches` (0 = frame, 1 = keyframe); trusted: inliers whose depth was known before."""

    prediction: PairPrediction
    problem: TrackingProblem
    result: TrackingResult
    trusted: int

    @property
    def matches(self) -> Matches:
        """Matches of the frame (0) with the keyframe (1)."""
        return self.prediction.matches


def track_against(
    model: PairModel,
    features: Features,
    keyframe: Keyframe,
    T_kf_cam: Sim3,
    min_inliers: int,
    seed: Matches | None = None,
) -> Tracked | None:
    """Pose of a frame relative to `keyframe`, from the guess `T_kf_cam` and the matches `seed` of the frame before.

    None when fewer than `min_inliers` points agree.
    """
    prediction = model.predict(features, keyframe.features, seed=seed, dense=False)
    return solve_matches(model, prediction, features.K, keyframe, T_kf_cam, min_inliers)


def solve_matches(
    model: PairModel, prediction: PairPrediction, K: np.ndarray, keyframe: Keyframe, T_kf_cam: Sim3, min_inliers: int
) -> Tracked | None:
    """As `track_against`, when the prediction is there already. K: (3, 3) intrinsics of the frame."""
    matches = prediction.matches
    if len(matches) < min_inliers:
        return None
    conf = sample(keyframe.conf, matches.pixels1)
    depth = sample(keyframe.X, matches.pixels1)[:, 2]
    known = conf > 0
    if int(known.sum()) < min_inliers:
        return None
    depth = torch.where(known, depth, depth[known].median())
    information = (conf.double() / model.relative_depth_sigma**2).clamp_min(UNKNOWN_DEPTH_INFORMATION)
    problem = make_problem(matches, depth, information, keyframe.K, K)
    result = track(problem, T_kf_cam)
    trusted = int((result.inliers & (problem.information > KNOWN_DEPTH_INFORMATION)).sum())
    finite = np.isfinite(result.T_kf_cam.as_matrix()).all()
    if trusted < min_inliers or not finite:
        return None
    return Tracked(prediction, problem, result, trusted)


def fuse_depths(keyframe: Keyframe, tracked: Tracked, depth_sigma: float) -> None:
    """Moves the depths of the keyframe's matched points to what the frame found, and adds its information to their confidence."""
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


@dataclass(frozen=True, eq=False)
class CarriedPoints:
    """Points of a keyframe as a tracked frame sees them: pixels (n, 2), depth (n,) in keyframe units, information (n,)."""

    pixels: torch.Tensor
    depth: torch.Tensor
    information: torch.Tensor


def carried_points(tracked: Tracked) -> CarriedPoints:
    """The keyframe's points of known depth in the tracked frame."""
    result = tracked.result
    chosen = result.inliers & (tracked.problem.information > KNOWN_DEPTH_INFORMATION)
    T_cam_kf = result.T_kf_cam.se3().inverse()
    points = tracked.problem.points[chosen] * result.log_depth[chosen].exp()[:, None]
    depth = torch.from_numpy(T_cam_kf.act(points.cpu().numpy())[:, 2]).to(points.device)
    return CarriedPoints(tracked.matches.pixels0[chosen], depth, tracked.problem.information[chosen] + result.information[chosen])
