# SPDX-License-Identifier: Apache-2.0
"""Points in cubic cells: which cell, the best point of each, and an even choice among all."""

from __future__ import annotations

import numpy as np

BLOCK_BITS = 6
"""Cells are grouped in blocks of 64 x 64 x 64, larger ones where cells are so small that those would hold few points."""
FARTHEST_CELL = 1 << 20
"""Cells along each axis on either side of the origin; what is farther has no number."""
_AXIS_BITS = 21
FEW_BLOCKS = 1000
"""Number of blocks up to which the points of a keyframe lie in few."""
_POINTS_OF_BLOCK = 256
_LAST = 0xFFFFFFFF


def numbered(points: np.ndarray, size: float) -> np.ndarray:
    """Which of the points (N, 3) lie in cells that have numbers: (N,) bool. Not those that are not finite."""
    limit = np.float32(size * (FARTHEST_CELL - 1))
    if np.abs(points).max(initial=0.0) < limit:  # false as well where one is not a number
        return np.ones(len(points), bool)
    return (np.abs(points) < limit).all(1)


def block_bits(points: np.ndarray, size: float) -> int:
    """The bits of a cell's place along an axis of its block with which these points (N, 3) lie in few blocks, or many in each."""
    bits = BLOCK_BITS
    enough = max(FEW_BLOCKS, len(points) // _POINTS_OF_BLOCK)
    while bits < _AXIS_BITS - 1 and len(np.unique(block_of(cell_numbers(points, size, bits), bits))) > enough:
        bits += 1
    return bits


def cell_numbers(points: np.ndarray, size: float, bits: int = BLOCK_BITS) -> np.ndarray:
    """The number (N,) int64 of the cell of each point (N, 3) float32; `block_of` it is the same for all cells of a block."""
    planes = [plane + np.int32(FARTHEST_CELL) for plane in _cells(points, size)]
    blocks = _joined([plane >> bits for plane in planes], 3 * [1 << _AXIS_BITS - bits], np.int64)
    return blocks << 3 * bits | _in_block(planes, bits)


def ranks(points: np.ndarray, size: float, bits: int = BLOCK_BITS) -> np.ndarray:
    """Numbers (N,) of the cells, small ones in the order of `cell_numbers`: int32 where that is enough, or int64."""
    if len(points) == 0:
        return np.zeros(0, np.int32)
    planes = _cells(points, size)
    blocks = [(plane >> bits) - (plane.min() >> bits) for plane in planes]
    extents = [int(block.max()) + 1 for block in blocks]
    large = extents[0] * extents[1] * extents[2] << 3 * bits >= 1 << 31
    return _joined(blocks, extents, np.int64 if large else np.int32) << 3 * bits | _in_block(planes, bits)


def block_of(cells: np.ndarray, bits: int = BLOCK_BITS) -> np.ndarray:
    """The number (N,) int64 of the block of each cell."""
    return cells >> 3 * bits


def in_block(cells: np.ndarray, bits: int = BLOCK_BITS) -> np.ndarray:
    """The number (N,) of each cell in its block: int32 where that is enough, or int64."""
    return (cells & (1 << 3 * bits) - 1).astype(_kind_in_block(bits))


def best_of_cells(cells: np.ndarray, conf: np.ndarray) -> np.ndarray:
    """The index (n,) of the most confident point of each cell, in the order of the cells; of equal ones the first.

    cells: (N,) int32 or int64, not negative. conf: (N,) float32, not negative.
    """
    if len(cells) == 0:
        return np.zeros(0, np.int64)
    order = _order(cells)
    cells = cells.take(order)
    rank = conf.view(np.uint32).astype(np.uint64) << np.uint64(32)  # floats that are not negative are in the order of their bits
    rank |= np.arange(_LAST, _LAST - len(rank), -1, dtype=np.uint64)
    best = np.maximum.reduceat(rank.take(order), np.flatnonzero(np.append(True, cells[1:] != cells[:-1])))
    return (_LAST - (best & np.uint64(_LAST))).astype(np.int64)


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


def _order(numbers: np.ndarray) -> np.ndarray:
    """The stable order (N,) int64 of numbers (N,) that are not negative.

    16 bits at a time, for which NumPy has a radix sort: several times faster than its sort of whole numbers in no order.
    """
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    for shift in range(16, int(numbers.max(initial=0)).bit_length(), 16):
        order = order.take(np.argsort((numbers >> shift).astype(np.uint16).take(order), kind="stable"))
    return order


def _cells(points: np.ndarray, size: float) -> list[np.ndarray]:
    """The cell of each point along each axis: three arrays (N,) int32."""
    return [np.floor(points[:, axis] / np.float32(size)).astype(np.int32) for axis in range(3)]


def _in_block(planes: list[np.ndarray], bits: int) -> np.ndarray:
    """The number (N,) in their block of cells along each axis, three arrays (N,) int32, not negative."""
    return _joined([plane & ((1 << bits) - 1) for plane in planes], 3 * [1 << bits], _kind_in_block(bits))


def _kind_in_block(bits: int) -> type:
    return np.int32 if 3 * bits < 32 else np.int64


def _joined(planes: list[np.ndarray], extents: list[int], kind: type) -> np.ndarray:
    """One number for three."""
    number = planes[0].astype(kind)
    for plane, extent in zip(planes[1:], extents[1:], strict=True):
        number *= kind(extent)
        number += plane
    return number
