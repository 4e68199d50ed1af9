# SPDX-License-Identifier: Apache-2.0
"""Rotation and direction of a query relative to a reference image, from a pair model that sees no depth in the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.config import RelocalizerConfig
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.two_view import TwoViewGeometry, another_pose, classify_matches, direction_covariance, estimate_two_view
from st3r_ros.geometry.two_view_focal import FocalFit
from st3r_ros.slam.places.comparison import spread_enough
from st3r_ros.slam.places.focal_check import (
    MIN_PARALLAX_DEG,
    FocalCheck,
    PairView,
    checked,
    contradicts,
    fit_pair,
    is_same_camera,
    matched,
    refocused,
)
from st3r_ros.slam.places.reference import Reference
from st3r_ros.types import Features, LocalizationResult, LocalizationStatus, PairModel

MATCH_AGAIN = 0.1
"""Change of the logarithm of an assumed focal length from which the images are matched again: the matches depend on it."""
DIRECTION_FACTOR = 10.0
"""The direction may be this many times as uncertain as the rotation."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """A query and a reference, the pose T_ref_query that most matches agree on, and the fit of the focal length."""

    view: PairView
    geometry: TwoViewGeometry | None
    fit: FocalFit | None = None


def locate_direction(
    model: PairModel, query: Features, reference: Reference, config: RelocalizerConfig, check: FocalCheck
) -> LocalizationResult:
    """The pose with a translation of length 1, or why there is none.

    Focal lengths that are not known are estimated together with the pose. check: of the query's calibration.
    """
    given = query.K_known and reference.features.K_known
    seen = _compare(model, query, reference.features, config)
    if not given:
        seen = _with_estimated_focal(model, seen, config)
    elif check.is_due(query):
        T_0_1 = None if seen.geometry is None or seen.geometry.parallax_deg < MIN_PARALLAX_DEG else seen.geometry.T_0_1
        rematch = check.is_early() or seen.geometry is None
        seen = replace(seen, fit=checked(model, seen.view, T_0_1, config.min_inliers, rematch=rematch))
        if seen.fit is not None:
            check.add(seen.fit)
    matches = seen.view.matches
    known = LocalizationResult(
        LocalizationStatus.TOO_FEW_MATCHES,
        f"{len(matches)} matches with reference '{reference.name}', of which {config.min_inliers} must agree.",
        reference=reference.name,
        directional=True,
        matches=len(matches),
        focal_px=float(seen.view.query.K[0, 0]),
        reference_assumed=not reference.features.K_known,
        pixels=matches,
    )
    if seen.geometry is None:
        return replace(known, agree=np.zeros(len(matches), bool))
    known = replace(known, inliers=int(seen.geometry.inliers.sum()), agree=seen.geometry.inliers)
    refusal = _refusal(seen, seen.geometry, known, config)
    if refusal is not None:
        return refusal
    covariance = _covariance(seen, seen.geometry, given)
    if given and check.doubt is not None:
        covariance = covariance + _deviation(seen.geometry.T_0_1, _with_focal(seen, check.doubt.factor))
    sigma, direction = (math.degrees(math.sqrt(np.linalg.eigvalsh(covariance[b, b])[-1])) for b in (slice(3, 6), slice(3)))
    if sigma > config.max_rotation_sigma_deg or direction > DIRECTION_FACTOR * config.max_rotation_sigma_deg:
        reason = f"The matches leave the rotation uncertain by {sigma:.1f} and the direction by {direction:.1f} degrees."
        return replace(known, status=LocalizationStatus.UNCERTAIN, reason=reason)
    if given and seen.fit is not None and check.doubt is None and contradicts(seen.fit):
        covariance = covariance + _deviation(seen.geometry.T_0_1, seen.fit.T_0_1)
    R, T_0_1 = reference.T_ref_cam.rotation, seen.geometry.T_0_1
    turned = np.kron(np.eye(2), R)
    return replace(
        known,
        status=LocalizationStatus.LOCALIZED,
        reason=f"{known.inliers} of {known.matches} matches agree; the translation is a direction only, without a length.",
        T_ref_cam=SE3(R @ T_0_1.rotation, R @ T_0_1.translation),
        covariance=turned @ covariance @ turned.T,
    )


def _refusal(
    seen: _Seen, geometry: TwoViewGeometry, known: LocalizationResult, config: RelocalizerConfig
) -> LocalizationResult | None:
    """What a pose that many matches agree on is refused for."""
    pixels = seen.view.matches.pixels0.numpy()[geometry.inliers]
    if known.inlier_ratio < config.min_inlier_ratio or not spread_enough(pixels, seen.view.query, config):
        return replace(known, reason="The inliers are too few, or all in one place.")
    if geometry.parallax_deg < MIN_PARALLAX_DEG:
        reason = "The two images seem to differ by a rotation only: the direction of the translation is unknown."
        return replace(known, status=LocalizationStatus.UNCERTAIN, reason=reason)
    other = another_pose(geometry, *seen.view.rays, seen.view.threshold, config.min_inliers)
    if other is not None:
        reason = f"{known.inliers} matches agree on one pose and {other.inliers.sum()} on another: the scene may be flat."
        return replace(known, status=LocalizationStatus.AMBIGUOUS, reason=reason)
    return None


def _compare(model: PairModel, query: Features, reference: Features, config: RelocalizerConfig) -> _Seen:
    view = matched(model, query, reference)
    return _Seen(view, estimate_two_view(*view.rays, view.threshold, config.min_inliers))


def _with_estimated_focal(model: PairModel, seen: _Seen, config: RelocalizerConfig) -> _Seen:
    """The same images with the focal length that fits best where it is not known; of both when it is unknown in both."""
    free = not seen.view.other.K_known, not seen.view.query.K_known
    for again in (True, False):
        if seen.geometry is None:
            return seen
        fit = fit_pair(seen.view, seen.geometry.T_0_1, free)
        other = refocused(seen.view.other, fit.factor) if free[0] else seen.view.other
        query = refocused(seen.view.query, fit.factor) if free[1] else seen.view.query
        if again and abs(math.log(fit.factor)) > MATCH_AGAIN:
            seen = _compare(model, query, other, config)
            continue
        view = PairView(query, other, seen.view.matches)
        return _Seen(view, classify_matches(fit.T_0_1, *view.rays, view.threshold, config.min_inliers), fit)
    return seen


def _with_focal(seen: _Seen, factor: float) -> SE3:
    """The pose with `factor` times the given focal length."""
    assert seen.geometry is not None
    same = is_same_camera(seen.view.other, seen.view.query)
    other = refocused(seen.view.other, factor) if same else seen.view.other
    return fit_pair(
        PairView(refocused(seen.view.query, factor), other, seen.view.matches), seen.geometry.T_0_1, (same, True)
    ).T_0_1


def _covariance(seen: _Seen, geometry: TwoViewGeometry, given: bool) -> np.ndarray:
    if not given and seen.fit is not None:
        return seen.fit.covariance
    return direction_covariance(geometry, *seen.view.rays)


def _deviation(T: SE3, T_fit: SE3) -> np.ndarray:
    """Covariance (6, 6) of a pose that would be T_fit with the focal length that fits best."""
    moved = T_fit.translation / np.linalg.norm(T_fit.translation) - T.translation / np.linalg.norm(T.translation)
    d = np.concatenate([moved, so3.log(T_fit.rotation @ T.rotation.T)])
    return np.outer(d, d)
