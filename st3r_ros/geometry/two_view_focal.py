# SPDX-License-Identifier: Apache-2.0
"""The relative pose of two images together with the focal length of their camera, from point matches.

Two views of a scene with parallax determine one focal length, except in special positions (parallel or intersecting optical
axes, with noise); the standard deviation says how well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from st3r_ros.geometry import so3
from st3r_ros.geometry.epipolar import INDEPENDENT_PAIRS, Sampson, orthogonal, sampson, sampson_derivatives, skew
from st3r_ros.geometry.pnp_refinement import FOCAL_SIGMA
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.triangulation import triangulate
from st3r_ros.solver.damped import Estimate, Schedule, minimize

TRIAL = Schedule(iterations=6, enough=1e-4, damping=1e-9, least=1e-9, most=1e3, retry=1e-3)
REFINEMENT = replace(TRIAL, iterations=20)
MAX_STEP = 0.2
TRIAL_MATCHES, TRIAL_LOGS, TRIAL_THRESHOLD = 150, (0.0, -0.3, 0.3), 4.0
MIN_NOISE = 1e-3
"""Noise of the matches, at least, as a share of the threshold."""
_PLANE = np.diag([1.0, 1.0, 0.0])
_PRIOR = np.diag([0.0, 0.0, 0.0, 0.0, 0.0, FOCAL_SIGMA**-2])


@dataclass(frozen=True, eq=False)
class FocalFit:
    """T_0_1, with a translation of length 1, and the factor on the focal length, which fit the matches best together.

    covariance: (6, 6) of the pose, as (translation, rotation) in camera 0's axes, with the errors of the focal length and of the
    principal point. log_sigma: standard deviation of the logarithm of the factor, as the matches alone determine it. gain: how
    much lower the cost is than that of the pose with the given focal length, as a share of it; 1 where it is not compared. alone:
    whether the factor is of camera 1 only, and the other one's focal length is right.
    """

    T_0_1: SE3
    factor: float
    log_sigma: float
    covariance: np.ndarray
    gain: float = 1.0
    alone: bool = False


def scaled_rays(rays: np.ndarray, factor: float) -> np.ndarray:
    """Rays (N, 3) with z = 1 of the same pixels, with the focal length times `factor`."""
    return rays * np.array([1.0 / factor, 1.0 / factor, 1.0])


@dataclass(frozen=True, eq=False)
class _Values:
    """Rotation, direction of the translation and the logarithm of the factor."""

    R: np.ndarray
    t: np.ndarray
    log_focal: float


@dataclass(frozen=True, eq=False)
class _Problem:
    """The arguments of `fit_focal`."""

    rays0: np.ndarray
    rays1: np.ndarray
    threshold: float
    free: tuple[bool, bool]

    def distances(self, x: _Values) -> Sampson:
        return sampson(self._form(x, skew(x.t) @ x.R), self.rays0, self.rays1)

    def cost(self, at: Sampson) -> float:
        square = (at.distance / self.threshold) ** 2
        return float((square / (1.0 + square)).sum())

    def noise(self, at: Sampson) -> float:
        """Variance of the distances."""
        return max(1.48 * float(np.median(np.abs(at.distance))), MIN_NOISE * self.threshold) ** 2

    def equations(self, x: _Values, at: Sampson) -> _Equations:
        """Linearized by exp(w) R, t + B b, the logarithm, and the principal point, weighted."""
        B, E = orthogonal(x.t), self._form(x, skew(x.t) @ x.R)
        by_rotation = [self._form(x, skew(x.t) @ skew(axis) @ x.R) for axis in np.eye(3)]
        by_direction = [self._form(x, skew(b) @ x.R) for b in B]
        by_focal = -(self.free[0] * _PLANE @ E + self.free[1] * E @ _PLANE)
        shifts = [np.outer(axis, [0.0, 0.0, 1.0]) for axis in np.eye(3)[:2]]
        by_centre = [-(self.free[0] * shift.T @ E + self.free[1] * E @ shift) for shift in shifts]
        J = sampson_derivatives(at, np.stack([*by_rotation, *by_direction, by_focal, *by_centre]), self.rays0, self.rays1)
        weight = 1.0 / (1.0 + (at.distance / self.threshold) ** 2) ** 2
        rows = J[:, :6] * weight[:, None] / self.noise(at)
        return _Equations(rows.T @ J[:, :6], rows.T @ J[:, 6:], rows.T @ at.distance, B, float(weight.sum()))

    def in_front(self, x: _Values) -> SE3:
        """The pose, with the sign of the translation for which most points are in front of both cameras."""
        rays0, rays1 = (
            scaled_rays(rays, math.exp(x.log_focal) if free else 1.0)
            for rays, free in zip((self.rays0, self.rays1), self.free, strict=True)
        )
        depths = triangulate(rays0, rays1, SE3(x.R, x.t))
        ahead, behind = (int(((sign * depths.depth0 > 0) & (sign * depths.depth1 > 0)).sum()) for sign in (1, -1))
        return SE3(x.R, x.t if ahead >= behind else -x.t)

    def _form(self, x: _Values, E: np.ndarray) -> np.ndarray:
        """E of rays by the given focal lengths, so that distances keep their unit."""
        shrink = np.diag([math.exp(-x.log_focal), math.exp(-x.log_focal), 1.0])
        return (shrink if self.free[0] else np.eye(3)) @ E @ (shrink if self.free[1] else np.eye(3))


@dataclass(frozen=True, eq=False)
class _Equations:
    """Information (6, 6), its columns (6, 2) by the principal point, gradient (6,), directions B (2, 3), sum of weights."""

    information: np.ndarray
    by_centre: np.ndarray
    gradient: np.ndarray
    B: np.ndarray
    weight: float


def fit_focal(
    T_0_1: SE3,
    rays0: np.ndarray,
    rays1: np.ndarray,
    threshold: float,
    free: tuple[bool, bool] = (True, True),
    centre_sigma: float = 0.0,
) -> FocalFit:
    """The rotation, direction of the translation and logarithm of the focal length that fit best, from an approximate pose.

    rays0, rays1: (N, 3) with z = 1, of the matches by the given focal lengths. threshold: distance to the epipolar line above
    which a match has little weight, in units of the focal length, as centre_sigma, the standard deviation of the principal point.
    free: the images whose focal length is multiplied by the factor; True for both where one camera took them.
    """
    problem = _Problem(rays0, rays1, threshold, free)
    tried = min(_tried(problem, T_0_1), key=lambda x: problem.cost(problem.distances(x)))
    best = minimize(_Descent.of(problem, tried, problem.distances(tried)), REFINEMENT).estimate
    at = problem.equations(best.x, best.at)
    # Errors of neighbouring matches are correlated; those of the principal point are the same for all.
    inverse = np.linalg.pinv(at.information + _PRIOR, hermitian=True)
    alike = max(1.0, at.weight / INDEPENDENT_PAIRS)
    common = inverse @ at.by_centre * centre_sigma
    small = inverse @ (alike * at.information + _PRIOR) @ inverse + common @ common.T
    lift = np.zeros((6, 6))
    lift[3:, :3], lift[:3, 3:5] = np.eye(3), at.B.T
    alone = np.linalg.pinv(at.information, hermitian=True)[5, 5]
    sigma = math.sqrt(alike * max(float(alone), 0.0))
    given = _Values(T_0_1.rotation, T_0_1.translation / np.linalg.norm(T_0_1.translation), 0.0)
    gain = 1.0 - problem.cost(best.at) / max(problem.cost(problem.distances(given)), 1e-12)
    return FocalFit(problem.in_front(best.x), math.exp(best.x.log_focal), sigma, lift @ small @ lift.T, gain, alone=not free[0])


def _tried(problem: _Problem, T_0_1: SE3) -> Iterator[_Values]:
    """Where the descent from several starts leads: a wrong focal length makes a rotation look like a translation, and its matches
    were chosen by it."""
    few = slice(None, None, max(1, len(problem.rays0) // TRIAL_MATCHES))
    part = replace(problem, rays0=problem.rays0[few], rays1=problem.rays1[few], threshold=TRIAL_THRESHOLD * problem.threshold)
    t = T_0_1.translation / np.linalg.norm(T_0_1.translation)
    starts = [(t, log_focal) for log_focal in TRIAL_LOGS] + [(axis, 0.0) for axis in np.eye(3)]
    for direction, log_focal in starts:
        start = _Values(T_0_1.rotation, direction, log_focal)
        yield minimize(_Descent.of(part, start, part.distances(start)), TRIAL).estimate.x


@dataclass(frozen=True, eq=False)
class _Descent(Estimate):
    """Values x with the distances there. cost: of Geman and McClure, in units of the noise, and of the prior."""

    problem: _Problem
    x: _Values
    at: Sampson
    noise: float
    cost: float

    @staticmethod
    def of(problem: _Problem, x: _Values, at: Sampson, noise: float | None = None) -> _Descent:
        """noise: variance of the distances, by default as they are at x."""
        noise = problem.noise(at) if noise is None else noise
        cost = 0.5 * problem.threshold**2 * problem.cost(at) / noise + 0.5 * _PRIOR[5, 5] * x.log_focal**2
        return _Descent(problem, x, at, noise, cost)

    def stepped(self, damping: float | torch.Tensor) -> _Descent:
        x, equations = self.x, self.problem.equations(self.x, self.at)
        H = equations.information + _PRIOR
        damped = H + np.diag(float(damping) * H.diagonal() + 1e-9 * np.trace(H))
        step = -np.linalg.solve(damped, equations.gradient + _PRIOR[:, 5] * x.log_focal)
        step *= min(1.0, MAX_STEP / max(float(np.abs(step).max()), 1e-12))
        t = x.t + step[3:5] @ equations.B
        moved = _Values(so3.exp(step[:3]) @ x.R, t / np.linalg.norm(t), x.log_focal + float(step[5]))
        return _Descent.of(self.problem, moved, self.problem.distances(moved), self.noise)

    def reweighed(self) -> _Descent:
        """With the noise that the distances have here."""
        return _Descent.of(self.problem, self.x, self.at)
