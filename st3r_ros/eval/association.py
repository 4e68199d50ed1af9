# SPDX-License-Identifier: Apache-2.0
"""Associates the measurements of two streams by their stamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MATCH_TOLERANCE_NS = 20_000_000


@dataclass(frozen=True, eq=False)
class Association:
    """Pairs of indices: `queries[k]` of one stream corresponds to `references[k]` of the other, both (M,) int64."""

    queries: np.ndarray
    references: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)


def associate(queries_ns: np.ndarray, references_ns: np.ndarray, tolerance_ns: int = MATCH_TOLERANCE_NS) -> Association:
    """Pairs every query stamp with the nearest reference stamp within the tolerance.

    queries_ns: (N,) int64 nanoseconds, any order. references_ns: (M,) int64 nanoseconds, increasing.
    """
    queries_ns = np.asarray(queries_ns, dtype=np.int64)
    references_ns = np.asarray(references_ns, dtype=np.int64)
    if len(queries_ns) == 0 or len(references_ns) == 0:
        return Association(np.zeros(0, np.int64), np.zeros(0, np.int64))
    right = np.clip(np.searchsorted(references_ns, queries_ns), 0, len(references_ns) - 1)
    left = np.maximum(right - 1, 0)
    left_is_nearer = np.abs(references_ns[left] - queries_ns) <= np.abs(references_ns[right] - queries_ns)
    nearest = np.where(left_is_nearer, left, right)
    close = np.flatnonzero(np.abs(references_ns[nearest] - queries_ns) <= tolerance_ns)
    return Association(close, nearest[close])
