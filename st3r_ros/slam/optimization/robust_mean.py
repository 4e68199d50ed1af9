# SPDX-License-Identifier: Apache-2.0
"""The mean of numbers with outliers and correlated errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

OUTLIER = 3.0
"""Standard deviations."""
LEAST_SCATTER = 0.05
"""What is nearer to the median than three times this is no outlier, however well others agree: half a map may have drifted."""
MIN_CORRELATED = 10
"""Fewer values do not tell their correlation."""


@dataclass(frozen=True)
class RobustMean:
    """scatter: standard deviation of one value. kept: how many of the `given` values are no outliers.

    count: how many independent ones those amount to.
    """

    value: float
    scatter: float
    given: int
    kept: int
    count: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the mean."""
        return self.scatter / math.sqrt(self.count)

    @property
    def agree(self) -> bool:
        """Whether most of the values tell the same."""
        return 2 * self.kept > self.given


def robust_mean(values: np.ndarray, weights: np.ndarray) -> RobustMean:
    """The weighted mean of values (N,) in the order of time, N > 0, without outliers.

    What is further from the weighted median than three standard deviations, by the median of the distances, is an outlier.
    Neighbours that err alike, as along a stretch where a map has drifted, count less: n (1 - r) / (1 + r) with their
    correlation r.
    """
    distance = np.abs(values - _median(values, weights))
    keep = distance <= OUTLIER * max(1.4826 * _median(distance, weights), LEAST_SCATTER)
    given, values, weights = len(values), values[keep], weights[keep]
    mean = float(np.average(values, weights=weights))
    count = float(weights.sum() ** 2 / (weights**2).sum())
    rest = np.sqrt(weights) * (values - mean)
    variance = float(rest @ rest / weights.sum()) * count / max(count - 1.0, 0.5)
    correlation = float(rest[1:] @ rest[:-1] / max(rest @ rest, 1e-12)) if len(values) >= MIN_CORRELATED else 0.0
    correlation = min(max(correlation, 0.0), 0.95)
    count = max(count * (1.0 - correlation) / (1.0 + correlation), 1.0)
    return RobustMean(mean, math.sqrt(variance), given, len(values), count)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    half = np.searchsorted(np.cumsum(weights[order]), 0.5 * weights.sum())
    return float(values[order[min(half, len(values) - 1)]])
