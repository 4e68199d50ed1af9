# SPDX-License-Identifier: Apache-2.0
"""Fewer points of a cloud, so that a browser can turn it."""

from __future__ import annotations

import numpy as np

_PRIMES = (np.uint32(73856093), np.uint32(19349663), np.uint32(83492791))


def thinned(points: np.ndarray, max_points: int) -> np.ndarray:
    """Which of the points (N, 3) float32 to show: (N,) bool, at most `max_points`, spread evenly over the cloud.

    Whether a point is shown depends on where it is, not on the others: a cloud that has grown keeps most of what it showed.
    """
    count = len(points)
    if count <= max_points:
        return np.ones(count, bool)
    draw = _hash(points)
    keep = draw < np.uint32(max_points / count * 2**32)
    surplus = np.count_nonzero(keep) - max_points
    if surplus > 0:
        keep[np.flatnonzero(keep)[-surplus:]] = False
    return keep


def _hash(points: np.ndarray) -> np.ndarray:
    """A number (N,) uint32 for each point, even over all numbers, and different for neighbours."""
    bits = np.ascontiguousarray(points, np.float32).view(np.uint32)
    mixed = bits[:, 0] * _PRIMES[0]
    for axis in (1, 2):
        mixed ^= bits[:, axis] * _PRIMES[axis]
    for shift, factor in ((16, np.uint32(0x85EBCA6B)), (13, np.uint32(0xC2B2AE35)), (16, None)):  # the last steps of MurmurHash3
        mixed ^= mixed >> np.uint32(shift)
        if factor is not None:
            mixed *= factor
    return mixed
