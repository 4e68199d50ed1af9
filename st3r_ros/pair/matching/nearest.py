# SPDX-License-Identifier: Apache-2.0
"""Exact nearest neighbours by brute force, a block of products at a time.

A block is small enough to stay in the cache after the matrix product. Only the maximum of every group of database rows is kept,
which vectorizes (an argmax does not); the rows of the best group are then compared again in float32. Nothing here synchronizes
with the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

GROUP = 64
# Products in memory at once: 4 MiB on a CPU, a fraction of the memory of a GPU.
BLOCK_CPU = 2**20
BLOCK_GPU = 2**25
# Groups that are compared again when the products are less precise than float32 (half precision, TF32).
COARSE_GROUPS = 4

# Queries (Q, d) and for each of them some database rows (Q, c, d) -> scores (Q, c) float32.
Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_UNUSABLE = -torch.finfo(torch.float32).max


@dataclass(frozen=True, eq=False)
class Nearest:
    """For every query the row of its nearest neighbour, index (Q,) int64, and score (Q,) float32, higher for nearer rows."""

    index: torch.Tensor
    score: torch.Tensor


def nearest(queries: torch.Tensor, database: torch.Tensor, *, block: int | None = None) -> Nearest:
    """For each of `queries` (Q, d) the row of `database` (N >= 1, d) with the greatest dot product, which is the score.

    Of equal products the first row is taken. Half precision is multiplied as float16 on a GPU and as float32 on a CPU; the final
    comparison is always in float32. Values must be finite. block: products in memory at once; the result does not depend on it.
    """
    return _search(for_products(queries), for_products(database), _dot_products, block)


def nearest_points(queries: torch.Tensor, database: torch.Tensor, usable: torch.Tensor, *, block: int | None = None) -> Nearest:
    """For each of `queries` (Q, 3) the nearest row of `database` (N >= 1, 3) that is `usable` (N,); the score is -distance^2.

    Points are finite and should be near the origin: distances are resolved to about 1e-3 of the distance from it. Without a
    usable row the score is -inf. block: products in memory at once.
    """
    queries, database = queries.float(), database.float()
    # |q - p|^2 is least where q.p - |p|^2 / 2 is greatest: a dot product with one coordinate more
    height = torch.where(usable, -0.5 * database.square().sum(1), _UNUSABLE)
    lifted = torch.cat([database, height[:, None]], dim=1)
    return _search(pad(queries, (0, 1), value=1.0), lifted, _negative_squared_distances, block)


def _dot_products(queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return (queries.float()[:, None] * rows.float()).sum(2)


def _negative_squared_distances(queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    distances = (queries[:, None, :3] - rows[..., :3]).square().sum(2)
    return torch.where(rows[..., 3] == _UNUSABLE, -torch.inf, -distances)


def for_products(vectors: torch.Tensor) -> torch.Tensor:
    """The vectors in the precision of the coarse products: half only where a GPU multiplies it."""
    half = vectors.dtype in (torch.float16, torch.bfloat16)
    return vectors.half() if half and vectors.is_cuda else vectors.float()


def _search(queries: torch.Tensor, database: torch.Tensor, score: Score, block: int | None) -> Nearest:
    """The best row of the group (or groups) with the greatest product, for every query; a block of queries at a time."""
    n = len(database)
    missing = -n % GROUP
    if missing:
        database = torch.cat([database, database[-1:].expand(missing, -1)])
    groups = database.view(-1, GROUP, database.shape[1])
    block = block or (BLOCK_GPU if database.is_cuda else BLOCK_CPU)
    within_group = torch.arange(GROUP, device=database.device)
    index = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
    best_score = torch.empty(len(queries), dtype=torch.float32, device=queries.device)
    step = max(1, math.isqrt(block // 2))
    for begin in range(0, len(queries), step):
        part = queries[begin : begin + step]
        chosen = _best_groups(part, groups, block)
        best = score(part, groups[chosen].flatten(1, 2)).max(dim=1)
        rows = (chosen[..., None] * GROUP + within_group).flatten(1)
        index[begin : begin + step] = rows.gather(1, best.indices[:, None])[:, 0].clamp(max=n - 1)
        best_score[begin : begin + step] = best.values
    return Nearest(index, best_score)


def _best_groups(queries: torch.Tensor, groups: torch.Tensor, block: int) -> torch.Tensor:
    """For each query the groups (G, GROUP, d) with the greatest product, (Q, 1) or (Q, COARSE_GROUPS) int64, ascending."""
    count, size = len(groups), len(queries)
    maxima = torch.empty(count, size, dtype=groups.dtype, device=groups.device)
    step = min(count, max(1, block // (GROUP * size)))
    products = torch.empty(step * GROUP, size, dtype=groups.dtype, device=groups.device)
    for begin in range(0, count, step):
        part = groups[begin : begin + step]
        rows = products[: len(part) * GROUP]
        torch.mm(part.flatten(0, 1), queries.t(), out=rows)
        torch.amax(rows.view(-1, GROUP, size), 1, out=maxima[begin : begin + step])
    if groups.is_cuda or groups.dtype != torch.float32:
        return maxima.topk(min(COARSE_GROUPS, count), dim=0).indices.sort(dim=0).values.t()
    return maxima.argmax(dim=0)[:, None]
