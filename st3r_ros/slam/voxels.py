# SPDX-License-Identifier: Apache-2.0
"""Points in cubic cells: which cell, the best point of each, and an even choice among all."""

from __future__ import annotations

import numpy as np

BLOCK_BITS = 6
"""Cells are grouped in blocks of 64 x 64 x 64."""
FARTHEST_CELL = 1 << 20
"""Cells along each axis on either side of the origin; what is farther has no number."""
_BLOCK_AXIS_BITS = 21 - BLOCK_BITS


def numbered(points: np.ndarray, size: float) -> np.ndarray:
    """Which of the points (N, 3) lie in cells that have numbers: (N,) bool. Not those that are not finite."""
    return (np.abs(points) < np.float32(size * (FARTHEST_CELL - 1))).all(1)


def cell_numbers(points: np.ndarray, size: float) -> np.ndarray:
    """The number (N,) int64 of the cell of each point (N, 3) float32; `block_of` it is the same for all cells of a block."""
    cells = np.floor(points / np.float32(size)).astype(np.int32) + np.int32(FARTHEST_CELL)
    blocks, inside = cells >> BLOCK_BITS, cells & ((1 << BLOCK_BITS) - 1)
    return _joined(blocks, _BLOCK_AXIS_BITS) << 3 * BLOCK_BITS | _joined(inside, BLOCK_BITS)


def block_of(cells: np.ndarray) -> np.ndarray:
    """The number (N,) int64 of the block of each cell."""
    return cells >> 3 * BLOCK_BITS


def best_of_cells(cells: np.ndarray, conf: np.ndarray) -> np.ndarray:
    """The index (n,) of the most confident point of each cell, in the order of the cells; of equal ones the first.

    cells: (N,) int64. conf: (N,).
    """
    if len(cells) == 0:
        return np.zeros(0, np.int64)
    order = np.argsort(cells, kind="stable")
    cells, conf = cells[order], conf[order]
    starts = np.flatnonzero(np.append(True, cells[1:] != cells[:-1]))
    best = np.repeat(np.maximum.reduceat(conf, starts), np.diff(np.append(starts, len(cells))))
    return np.minimum.reduceat(np.where(conf == best, order, len(order)), starts)


def draws(points: np.ndarray, size: float) -> np.ndarray:
    """A number (N,) uint32 for the cell of each point (N, 3) float32, for each point where the size is 0.

    Even over all numbers and different for neighbours: those below a limit are an even choice, and the same one every time.
    """
    if size > 0:
        mixed = cell_numbers(points, size).view(np.uint64)
    else:
        bits = np.ascontiguousarray(points).view(np.uint32).astype(np.uint64)
        mixed = bits[:, 0] ^ bits[:, 1] << np.uint64(32) ^ bits[:, 2] * np.uint64(0x9E3779B97F4A7C15)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):  # the last steps of MurmurHash3
        mixed = (mixed ^ mixed >> np.uint64(33)) * np.uint64(factor)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _joined(cells: np.ndarray, bits: int) -> np.ndarray:
    x, y, z = cells.T.astype(np.int64)
    return (x << bits | y) << bits | z
