# SPDX-License-Identifier: Apache-2.0
"""Fewer points of a cloud, so that a browser can turn it."""

from __future__ import annotations

import numpy as np

_PRIMES = (np.uint32(73856093), np.uint32(19349663), np.uint32(83492791))


def layers(points: np.ndarray, first: int, max_points: int) -> list[np.ndarray]:
    """Which of the points (N, 3) float32 to show: indices in layers, each spread evenly over the cloud.

    The first layer has about `first` points, each other one about as many as all before it; together they have at most
    `max_points`. In which layer a point is depends on where it is, not on the others: a cloud that has grown keeps most of what
    it showed.
    """
    count = len(points)
    if count <= min(first, max_points):
        return [np.arange(count)]
    rank = _hash(points) * (count / 2.0**32)
    shown = np.arange(count) if count <= max_points else np.flatnonzero(rank < max_points)[:max_points]
    layer = np.ceil(np.log2(np.maximum(rank[shown] / first, 1.0))).astype(np.int8)
    return [shown[layer == number] for number in range(int(layer.max(initial=0)) + 1)]


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
