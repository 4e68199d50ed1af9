# SPDX-License-Identifier: Apache-2.0
"""Alignment of paired points by a similarity or rigid transform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from st3r_ros.errors import GeometryError
from st3r_ros.geometry.transforms import Sim3

# Points count as collinear when the second singular value of their normalised covariance is below this.
_COLLINEAR = 1e-10

# Median and 99 % quantile of the length of a 3-D Gaussian error of standard deviation 1 per axis.
_MEDIAN_LENGTH, _INLIER_LENGTH = 1.538, 3.368

# Thresholds in standard deviations that keep 95 % efficiency under Gaussian errors.
_TUNING = {"huber": 1.345, "cauchy": 2.385}
_LOSSES = {"huber": lambda r: 1.0 / np.maximum(r, 1.0), "cauchy": lambda r: 1.0 / (1.0 + r * r)}

_MAX_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Alignment:
    """The result of `robust_align`.

    residuals: (N,) float64 distances between the aligned source points and the target, in the target's unit.
    weights: (N,) float64 in [0, 1], robust weight of each pair.
    sigma: standard deviation of a good pair per axis, in the target's unit. inliers: (N,) bool, residual within 3.4 sigma.
    rmse: weighted root mean square of the residuals. converged: whether the weights settled within the allowed iterations.
    """

    T_target_source: Sim3
    residuals: np.ndarray
    weights: np.ndarray
    inliers: np.ndarray
    sigma: float
    rmse: float
    converged: bool


def umeyama(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None, with_scale: bool = True) -> Sim3:
    """The least squares `T_target_source` of paired points (N, 3), weighted by `weights` (N,) >= 0.

    Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI 1991. Without `with_scale` the
    scale stays 1.

    Raises:
        GeometryError: shapes differ, numbers are not finite, weights are negative, fewer than 3 pairs have weight, or the points
            are collinear, so that the transform is not determined.
    """
    source, target, weights = _checked_pairs(source, target, weights)
    share = weights / weights.sum()
    mean_source, mean_target = share @ source, share @ target
    source, target = source - mean_source, target - mean_target
    variance_source, variance_target = share @ (source * source).sum(axis=1), share @ (target * target).sum(axis=1)
    U, S, Vt = np.linalg.svd(target.T @ (share[:, None] * source))
    if not S[1] > _COLLINEAR * np.sqrt(variance_source * variance_target):
        raise GeometryError(
            f"The {np.count_nonzero(weights)} point pairs are collinear or coincide; they do not determine a rotation."
        )
    handedness = np.array([1.0, 1.0, np.linalg.det(U @ Vt)])
    rotation = (U * handedness) @ Vt
    scale = S @ handedness / variance_source if with_scale else 1.0
    return Sim3(rotation, mean_target - scale * (rotation @ mean_source), np.asarray(scale))


def robust_align(
    source: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    with_scale: bool = True,
    loss: str = "cauchy",
    sigma: float | None = None,
) -> Alignment:
    """Robust `umeyama` for pairs with outliers, by iteratively reweighted least squares.

    source, target: (N, 3) paired points. weights: (N,) prior trust, 1 by default.
    loss: "cauchy" (ignores far outliers) or "huber" (convex, only reduces their weight).
    sigma: standard deviation of a good pair per axis, in the target's unit; None estimates it from the median residual in every
    iteration. The loss reduces weights beyond 1.345 (huber) or 2.385 (cauchy) sigma.

    Raises:
        GeometryError: as in `umeyama`.
        ValueError: an unknown loss, or a sigma that is not positive.
    """
    if loss not in _TUNING:
        raise ValueError(f"The loss is {loss!r}; it must be one of {', '.join(_TUNING)}.")
    if sigma is not None and not sigma > 0.0:
        raise ValueError(f"sigma is {sigma!r}; it must be positive.")
    source, target, prior = _checked_pairs(source, target, weights)
    noise_floor = 1e-12 * np.abs(target).max()
    robust = np.ones(len(source))
    for _ in range(_MAX_ITERATIONS):
        T_target_source = umeyama(source, target, prior * robust, with_scale)
        residuals = np.linalg.norm(T_target_source @ source - target, axis=1)
        noise = sigma or max(_weighted_median(residuals, prior) / _MEDIAN_LENGTH, noise_floor)
        previous, robust = robust, _LOSSES[loss](residuals / (_TUNING[loss] * noise))
        converged = bool(np.abs(robust - previous).max() < 1e-6)
        if converged:
            break
    trust = prior * robust
    return Alignment(
        T_target_source=T_target_source,
        residuals=residuals,
        weights=robust,
        inliers=residuals <= _INLIER_LENGTH * noise,
        sigma=float(noise),
        rmse=float(np.sqrt(trust @ (residuals * residuals) / trust.sum())),
        converged=converged,
    )


def _checked_pairs(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.ndim != 2 or source.shape[1] != 3 or source.shape != target.shape:
        raise GeometryError(
            f"Paired points need two arrays of the same shape (N, 3), but these have {source.shape} and {target.shape}."
        )
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(source),):
        raise GeometryError(f"{len(source)} point pairs need as many weights, but these have shape {weights.shape}.")
    if not (np.isfinite(source).all() and np.isfinite(target).all() and np.isfinite(weights).all()):
        raise GeometryError("The paired points or their weights contain a number that is not finite; remove such pairs.")
    if (weights < 0.0).any():
        raise GeometryError(f"A weight is {weights.min():g}; weights must not be negative.")
    if np.count_nonzero(weights) < 3:
        raise GeometryError(f"{np.count_nonzero(weights)} weighted point pairs; a transform needs at least 3.")
    return source, target, weights


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])
