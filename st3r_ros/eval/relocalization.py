# SPDX-License-Identifier: Apache-2.0
"""Errors of relocalized poses: of each answer, and statistics over many attempts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3

FINE_M, COARSE_M, WITHIN_DEG = 0.25, 0.5, 5.0
FALSE_DEG, FALSE_M = 10.0, 0.5
DIRECTION_DEG, DIRECTION_ROTATION_DEG = 10.0, 2.0
MIN_BASELINE = 0.05
"""Distance between query and reference, metres, below which the true direction is too uncertain for a comparison."""


@dataclass(frozen=True)
class PoseError:
    """Errors of one answer.

    translation: distance of the positions, in the truth's unit; NaN when the answer is up to scale. rotation_deg: angle between
    the orientations. direction_deg: angle between the translations; NaN without one to compare.
    nees: squared error normalized by the answer's covariance, 6 on average for a correct covariance; NaN when not available.
    sigmas: the error of the rotation or of the translation (its direction, without a unit), whichever is more, in the largest
    standard deviation that the covariance has for it; NaN without a covariance.
    """

    translation: float
    rotation_deg: float
    direction_deg: float
    nees: float = math.nan
    sigmas: float = math.nan

    @property
    def false(self) -> bool:
        """Whether the answer is wrong and should have been a refusal."""
        return self.rotation_deg > FALSE_DEG or (
            self.direction_deg > FALSE_DEG if math.isnan(self.translation) else self.translation > FALSE_M
        )


@dataclass(frozen=True)
class Shares:
    """Shares of all attempts, including refusals.

    fine, coarse: within 0.25 m and 0.5 m, each also within 5 degrees. directed: rotation within 2 degrees and the
    direction, if any, within 10.
    """

    fine: float
    coarse: float
    directed: float


@dataclass(frozen=True)
class RelocalizationErrors:
    """Statistics of many attempts; medians are over the answers, NaN without any.

    answered: number of localized attempts; metric: number of those with a metric translation.
    false_accepts: answers off by more than 10 degrees or 0.5 m (without a unit: by more than 10 degrees in direction).
    nees: mean over the answers that have one; 6 for correct covariances. in_3_sigma: share of the answers with a covariance whose
    errors are within three standard deviations.
    """

    attempts: int
    answered: int
    metric: int
    shares: Shares
    median_translation: float
    median_rotation_deg: float
    median_direction_deg: float
    false_accepts: int
    nees: float
    in_3_sigma: float


def pose_error(T_found: SE3, T_true: SE3, *, metric: bool, covariance: np.ndarray | None = None) -> PoseError:
    """Compares a pose with the true one, both in the same frame.

    metric: whether the estimated translation has the truth's unit; otherwise only its direction is compared.
    covariance: (6, 6) of the estimated pose, order (translation, rotation about fixed axes), in the same frame.
    """
    rotation = so3.log(T_true.rotation @ T_found.rotation.T)
    difference = T_true.translation - T_found.translation
    nees = sigmas = math.nan
    if covariance is not None:
        if metric:
            nees = normalised_error(np.concatenate([difference, rotation]), covariance)
        moved = difference if metric else _unit(T_true.translation) - _unit(T_found.translation)
        sigmas = max(_in_sigmas(moved, covariance[:3, :3]), _in_sigmas(rotation, covariance[3:, 3:]))
    return PoseError(
        translation=float(np.linalg.norm(difference)) if metric else math.nan,
        rotation_deg=math.degrees(float(np.linalg.norm(rotation))),
        direction_deg=_angle_deg(T_found.translation, T_true.translation),
        nees=nees,
        sigmas=sigmas,
    )


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _in_sigmas(error: np.ndarray, covariance: np.ndarray) -> float:
    """The length of an error (3,) in standard deviations of the least certain direction."""
    if not np.isfinite(covariance).all():
        return math.nan
    return float(np.linalg.norm(error) / math.sqrt(max(float(np.linalg.eigvalsh(covariance)[-1]), 1e-24)))


def normalised_error(error: np.ndarray, covariance: np.ndarray) -> float:
    """error^T covariance^-1 error; NaN when the covariance is not finite or not invertible."""
    if not np.isfinite(covariance).all():
        return math.nan
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return math.nan
    return float((np.linalg.solve(factor, error) ** 2).sum())


def summarise_attempts(errors: Sequence[PoseError | None]) -> RelocalizationErrors:
    """Statistics of one entry per attempt, None for a refusal."""
    answers = [e for e in errors if e is not None]
    translation, rotation, direction, nees = (
        np.array([getattr(e, name) for e in answers]) for name in ("translation", "rotation_deg", "direction_deg", "nees")
    )
    sigmas = np.array([e.sigmas for e in answers if math.isfinite(e.sigmas)])
    close = rotation <= WITHIN_DEG
    directed = (rotation <= DIRECTION_ROTATION_DEG) & ~(direction > DIRECTION_DEG)
    return RelocalizationErrors(
        attempts=len(errors),
        answered=len(answers),
        metric=int(np.isfinite(translation).sum()),
        shares=Shares(
            fine=_share(close & (translation <= FINE_M), len(errors)),
            coarse=_share(close & (translation <= COARSE_M), len(errors)),
            directed=_share(directed, len(errors)),
        ),
        median_translation=_known(np.median, translation),
        median_rotation_deg=_known(np.median, rotation),
        median_direction_deg=_known(np.median, direction),
        false_accepts=sum(e.false for e in answers),
        nees=_known(np.mean, nees),
        in_3_sigma=_share(sigmas <= 3.0, len(sigmas)),
    )


def _angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between the estimated translation a and the true one b."""
    if np.linalg.norm(b) < MIN_BASELINE or not np.linalg.norm(a) > 0.0:
        return math.nan
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b)))


def _share(which: np.ndarray, of: int) -> float:
    return float(np.count_nonzero(which) / of) if of else math.nan


def _known(figure: Callable[[np.ndarray], Any], values: np.ndarray) -> float:
    """A statistic of the known values."""
    known = values[np.isfinite(values)]
    return float(figure(known)) if len(known) else math.nan
