# SPDX-License-Identifier: Apache-2.0
"""Refinement of a camera pose from 2D-3D matches with uncertain points, with its covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from st3r_ros.geometry import so3
from st3r_ros.geometry.pixels import project, projection_derivative, scaled_focal
from st3r_ros.geometry.transforms import SE3
from st3r_ros.solver.damped import Estimate, Schedule, minimize

REFINEMENT = Schedule(iterations=15, enough=1e-4, damping=1e-9, least=1e-9, most=1e3, retry=1e-3)
WIDE, NARROWED = 4.0, 2.0
"""Width of the robust kernel at first, in thresholds, and by what it is divided with each step."""
NEAR_SHARE, VAGUE = 0.05, 3.0
"""Points closer than this share of the median depth are ignored, and so are those whose depth is more uncertain than usual by the
inverse of it: their residuals are far from linear."""
FOCAL_SIGMA = 0.5
"""Standard deviation of the logarithm of an unknown focal length."""
INDEPENDENT_MATCHES = 300
"""Errors of neighbouring matches are correlated: any number of matches counts as at most this many."""
MIN_NOISE = 0.1
FIELD_NODES = 4
"""Nodes along each side of an image: in between, the depth errors of a pointmap are similar."""


@dataclass(frozen=True, eq=False)
class UncertainPoints:
    """Points of one or several pointmaps: points (N, 3), and the model of their errors.

    along: (N, 3) derivative of a point by the logarithm of its depth. log_sigma: (N,) standard deviation of that logarithm.
    cell: (N, 2) position in the image of its pointmap, from 0 to 1. owner: (N,) number of its pointmap.
    """

    points: np.ndarray
    along: np.ndarray
    log_sigma: np.ndarray
    cell: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    @staticmethod
    def joined(parts: list[UncertainPoints]) -> UncertainPoints:
        """Concatenates the points of all parts, each a separate pointmap."""
        owner = np.concatenate([np.full(len(part), number) for number, part in enumerate(parts)])
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        return UncertainPoints(**{**columns, "owner": owner})


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """T_cam_points; covariance (6, 6) of the tangent (translation, rotation) applied left of it; focal: factor on that of K.

    log_focal_sigma: standard deviation of the logarithm of that factor, 0 where it is not free.
    inliers: (N,) bool. residual_px: (N,) distances between pixels and projected points that depth errors do not explain.
    """

    T_cam_points: SE3
    covariance: np.ndarray
    focal: float
    log_focal_sigma: float
    inliers: np.ndarray
    residual_px: np.ndarray

    @property
    def rmse_px(self) -> float:
        """Root mean square reprojection error of the inliers, pixels; NaN without any."""
        return float(np.sqrt(np.mean(self.residual_px[self.inliers] ** 2))) if self.inliers.any() else math.nan


def refine_pnp(
    matched: UncertainPoints,
    pixels: np.ndarray,
    K: np.ndarray,
    T_cam_points: SE3,
    *,
    sigma_px: float = 1.0,
    threshold_px: float = 4.0,
    free_focal: bool = False,
    centre_sigma_px: float = 0.0,
) -> RefinedPose:
    """The pose that minimises the reprojection errors of all points near their pixels (N, 2), from an approximate one.

    Points are weighted by the errors of their pixel (sigma_px) and of the projection of their depth error; a residual above
    threshold_px that the depth error does not explain has little weight and is not an inlier. free_focal: the focal length of K
    is an initial guess and refined as well. centre_sigma_px: standard deviation of the principal point of K.

    The covariance contains the noise, scaled by the residuals of the inliers, depth errors shared by whole regions of a
    pointmap (a smooth field of 4x4 nodes, with the standard deviation of each point), which many matches do not average out, and
    the errors of the focal length, if it is free, and of the principal point.
    """
    problem = _Problem(matched, pixels, K, sigma_px, threshold_px, free_focal)
    best = minimize(_Refinement.at(problem, T_cam_points, 1.0, WIDE), REFINEMENT).estimate
    best = _Refinement.at(problem, best.T, best.focal, 1.0)
    return _result(best.system, matched, problem.size, centre_sigma_px)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The arguments of `refine_pnp`."""

    matched: UncertainPoints
    pixels: np.ndarray
    K: np.ndarray
    sigma_px: float
    threshold_px: float
    free_focal: bool

    @property
    def size(self) -> int:
        return 7 if self.free_focal else 6

    def cost(self, T: SE3, focal: float, whitening: Whitening, width: float) -> float:
        """Of Geman and McClure, to which the robust weights belong; a point that is not seen costs as much as an outlier."""
        at, seen = _ahead(self.matched, T)
        error = project(at, scaled_focal(self.K, focal)) - self.pixels
        square = (whitening(error, self.sigma_px) ** 2).sum(axis=1)
        most = (width * self.threshold_px / self.sigma_px) ** 2
        points = np.where(whitening.seen & seen, most * square / (most + square), most).sum()
        return 0.5 * float(points + (math.log(focal) / FOCAL_SIGMA) ** 2)


@dataclass(frozen=True, eq=False)
class _Refinement(Estimate):
    """A pose and a factor on the focal length. system: there, or where the residuals were weighted last.

    width: of the robust kernel, in thresholds. It begins wide, so that a poor start is not kept by the few points that fit it
    (graduated non-convexity; Yang et al., RA-L 2020).
    """

    problem: _Problem
    T: SE3
    focal: float
    system: NormalEquations
    cost: float
    width: float

    @staticmethod
    def at(problem: _Problem, T: SE3, focal: float, width: float) -> _Refinement:
        p = problem
        system = linearize(p.matched, p.pixels, p.K, T, focal, p.sigma_px, width * p.threshold_px)
        return _Refinement(problem, T, focal, system, problem.cost(T, focal, system.whitening, width), width)

    @property
    def final(self) -> bool:  # type: ignore[override]
        """Whether the kernel is as narrow as it is to be."""
        return self.width <= 1.0

    def stepped(self, damping: float | torch.Tensor) -> _Refinement:
        size = self.problem.size
        H, g = self.system.H[:size, :size].copy(), self.system.g[:size].copy()
        if self.problem.free_focal:
            H[6, 6] += FOCAL_SIGMA**-2
            g[6] += math.log(self.focal) / FOCAL_SIGMA**2
        H += np.diag(float(damping) * H.diagonal() + 1e-9 * np.trace(H) + 1e-12)
        step = -np.linalg.solve(H, g)
        focal = self.focal * math.exp(float(np.clip(step[6], -0.3, 0.3))) if self.problem.free_focal else 1.0
        T = SE3.exp(np.clip(step[:6], -10.0, 10.0)) @ self.T
        return replace(self, T=T, focal=focal, cost=self.problem.cost(T, focal, self.system.whitening, self.width))

    def reweighed(self) -> _Refinement:
        """With the points that are seen from here, and the errors that their depths cause here."""
        return _Refinement.at(self.problem, self.T, self.focal, max(1.0, self.width / NARROWED))


@dataclass(frozen=True, eq=False)
class Whitening:
    """The inverse square root of sigma_px^2 I + d d^T, by the length and direction of d (N, 2), the error by depth.

    unit: (N, 2) direction of d. gain: (N,) 1 / hypot(sigma_px, |d|) - 1 / sigma_px. seen: (N,) bool, the points that count.
    """

    unit: np.ndarray
    gain: np.ndarray
    seen: np.ndarray

    def __call__(self, values: np.ndarray, sigma_px: float) -> np.ndarray:
        """Rows (N, 2, ...) times (I / sigma_px + gain u u^T)."""
        flat = values.reshape(len(values), 2, -1)
        along = np.einsum("nr,nrk->nk", self.unit, flat) * self.gain[:, None]
        return (flat / sigma_px + self.unit[:, :, None] * along[:, None, :]).reshape(values.shape)


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """An estimate and its normal equations: H (7, 7), g (7,) by the tangent left of T and the logarithm of the focal length.

    J: (N, 2, 7) and residual (N, 2), both whitened; by_depth: (N, 2) derivative by the log-depth times its sigma; by_centre:
    (N, 2, 2) derivative by the principal point.
    weight: (N,) robust. residual_px: (N,). inliers: (N,) bool. whitening: of the residuals.
    """

    T: SE3
    focal: float
    H: np.ndarray
    g: np.ndarray
    J: np.ndarray
    residual: np.ndarray
    by_depth: np.ndarray
    by_centre: np.ndarray
    weight: np.ndarray
    residual_px: np.ndarray
    inliers: np.ndarray
    whitening: Whitening


def linearize(
    matched: UncertainPoints, pixels: np.ndarray, K: np.ndarray, T: SE3, focal: float, sigma_px: float, threshold_px: float
) -> NormalEquations:
    """The normal equations of the reprojection errors at the pose T and the factor `focal` on the focal length of K.

    The other arguments are those of `refine_pnp`.
    """
    K = scaled_focal(K, focal)
    (Y, seen), offset = _ahead(matched, T), matched.along @ T.rotation.T
    projected, by_point = project(Y, K), projection_derivative(Y, K)
    error, by_focal = projected - pixels, projected - K[:2, 2]
    J = np.concatenate([by_point, by_point @ -so3.hat(Y), by_focal[:, :, None]], axis=2)
    by_depth = np.einsum("nij,nj->ni", by_point, offset) * matched.log_sigma[:, None]
    length = np.linalg.norm(by_depth, axis=1)
    seen = seen & (matched.log_sigma <= VAGUE * np.median(matched.log_sigma))
    gain = 1.0 / np.hypot(sigma_px, length) - 1.0 / sigma_px
    whitening = Whitening(by_depth / np.maximum(length, 1e-12)[:, None], gain, seen)
    by_centre = np.broadcast_to(np.eye(2), (len(Y), 2, 2))
    residual, J, by_depth, by_centre = (whitening(values, sigma_px) for values in (error, J, by_depth, by_centre))
    residual_px = np.where(seen, sigma_px * np.linalg.norm(residual, axis=1), np.inf)
    inliers = residual_px < threshold_px
    weight = np.where(seen, 1.0 / (1.0 + (residual_px / threshold_px) ** 2) ** 2, 0.0)
    rows = J * weight[:, None, None]
    H = np.einsum("nri,nrj->ij", rows, J)
    g = np.einsum("nri,nr->i", rows, residual)
    return NormalEquations(T, focal, H, g, J, residual, by_depth, by_centre, weight, residual_px, inliers, whitening)


def _ahead(matched: UncertainPoints, T: SE3) -> tuple[np.ndarray, np.ndarray]:
    """The points (N, 3) in the camera, with z = 1 where they are not in front of it, and which are, (N,) bool."""
    Y = T.act(matched.points)
    seen = Y[:, 2] > NEAR_SHARE * np.median(np.abs(Y[:, 2]))
    return np.concatenate([Y[:, :2], np.where(seen, Y[:, 2], 1.0)[:, None]], axis=1), seen


def _result(system: NormalEquations, matched: UncertainPoints, size: int, centre_sigma_px: float) -> RefinedPose:
    kept = system.inliers
    noise = np.median(np.sum(system.residual[kept] ** 2, axis=1)) / (2.0 * math.log(2.0)) if kept.any() else 1.0
    H = system.H[:size, :size].copy()
    if size == 7:
        H[6, 6] += FOCAL_SIGMA**-2
    inverse = np.linalg.pinv(H, hermitian=True)
    nodes = _node_weights(matched)
    pull = np.einsum("nri,nr,n->ni", system.J[:, :, :size], system.by_depth, system.weight * kept)
    common = inverse @ pull.T @ nodes
    alike = max(1.0, kept.sum() / INDEPENDENT_MATCHES)
    by_centre = inverse @ np.einsum("nri,nrc,n->ic", system.J[:, :, :size], system.by_centre, system.weight * kept)
    covariance = alike * max(MIN_NOISE, noise) * inverse + common @ common.T + centre_sigma_px**2 * by_centre @ by_centre.T
    log_focal_sigma = math.sqrt(covariance[6, 6]) if size == 7 else 0.0
    return RefinedPose(system.T, covariance[:6, :6], system.focal, log_focal_sigma, kept, system.residual_px)


def _node_weights(matched: UncertainPoints) -> np.ndarray:
    """(N, nodes) bilinear weights of the nodes of its pointmap's field at each point."""
    at = np.clip(matched.cell, 0.0, 1.0) * (FIELD_NODES - 1)
    near = np.maximum(0.0, 1.0 - np.abs(at[:, :, None] - np.arange(FIELD_NODES)))  # (N, 2, nodes along a side)
    field = (near[:, 1, :, None] * near[:, 0, None, :]).reshape(len(matched), -1)
    count = int(matched.owner.max()) + 1 if len(matched) else 1
    weights = np.zeros((len(matched), count, FIELD_NODES**2))
    weights[np.arange(len(matched)), matched.owner] = field
    return weights.reshape(len(matched), -1)
