# SPDX-License-Identifier: Apache-2.0
"""Mutual nearest neighbours, found from a few starts (MASt3R paper, fast reciprocal matching).

A cycle from image 0 to image 1 and back either closes or ends on another pixel, which is the next start. Cycles merge quickly, so
every neighbour is searched once and cached, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from st3r_ros.pair.matching.matches import Shape, flat_index, merge_matches, pixels_at, unique_pairs
from st3r_ros.types import Matches

MAX_ROUNDS = 10


class NeighbourTable:
    """Nearest neighbour in the other image of any pixel of one image, searched at most once per pixel.

    search: row-major indices (n,) of distinct pixels -> indices (n,) in the other image. size: pixels of this image.
    """

    def __init__(self, search: Callable[[torch.Tensor], torch.Tensor], size: int, device: torch.device) -> None:
        self._search = search
        self._neighbour = torch.full((size,), -1, dtype=torch.int64, device=device)

    def __call__(self, index: torch.Tensor) -> torch.Tensor:
        """The neighbours (n,) of pixels `index` (n,)."""
        new = index[self._neighbour[index] < 0].unique()
        if len(new):
            self._neighbour[new] = self._search(new)
        return self._neighbour[index]


@dataclass(frozen=True, eq=False)
class PairTables:
    """Both directions between two images: forward from pixels of image 0, backward from pixels of image 1.

    usable0, usable1: (H*W,) bool, the pixels that may be matched.
    """

    forward: NeighbourTable
    backward: NeighbourTable
    usable0: torch.Tensor
    usable1: torch.Tensor
    shape0: Shape
    shape1: Shape

    def swapped(self) -> PairTables:
        """The same with image 0 and image 1 exchanged."""
        return PairTables(self.backward, self.forward, self.usable1, self.usable0, self.shape1, self.shape0)


def grid_pixels(shape: Shape, subsample: int, device: torch.device) -> torch.Tensor:
    """Pixels (n, 2) of every `subsample`-th column and row, the first at `subsample // 2`."""
    y, x = torch.meshgrid(*(torch.arange(n, device=device)[subsample // 2 :: subsample] for n in shape), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def closed_cycles(tables: PairTables, starts: torch.Tensor, max_rounds: int) -> Matches:
    """The reciprocal neighbours reached from pixels `starts` (n,), row-major indices in image 0, in at most `max_rounds`.

    Distinct pairs, sorted by pixel in image 0, then in image 1.
    """
    found0, found1 = [starts[:0]], [starts[:0]]
    points = starts.unique()
    for _ in range(max_rounds):
        points = points[tables.usable0[points]]
        if not len(points):
            break
        neighbours = tables.forward(points)
        back = tables.backward(neighbours)
        closed = back == points
        found0.append(points[closed])
        found1.append(neighbours[closed])
        points = back[~closed].unique()
    return _as_matches(tables, torch.cat(found0), torch.cat(found1))


def near_cycles(tables: PairTables, starts: torch.Tensor, pixel_tolerance: float) -> Matches:
    """The neighbours of `starts` (n,) whose own neighbours are less than `pixel_tolerance` pixels from the start.

    With a tolerance of 0 it must be the start itself. Distinct pairs, sorted by pixel in image 0, then in image 1.
    """
    neighbours = tables.forward(starts)
    back = tables.backward(neighbours)
    width = tables.shape0[1]
    miss = torch.linalg.vector_norm((pixels_at(back, width) - pixels_at(starts, width)).double(), dim=1)
    kept = (miss < pixel_tolerance) | (miss == 0)
    return _as_matches(tables, starts[kept], neighbours[kept])


def from_grid(tables: PairTables, subsample: int, pixel_tolerance: float = 0.0, max_rounds: int = MAX_ROUNDS) -> Matches:
    """The matches reached from every `subsample`-th pixel of image 0; with a tolerance, in one round."""
    starts = flat_index(grid_pixels(tables.shape0, subsample, tables.usable0.device), tables.shape0[1])
    if pixel_tolerance > 0:
        return near_cycles(tables, starts, pixel_tolerance)
    return closed_cycles(tables, starts, max_rounds)


def both_directions(tables: PairTables, subsample: int, pixel_tolerance: float = 0.0) -> Matches:
    """The union of the matches `from_grid` of image 0 and of image 1, sorted."""
    forth, back = from_grid(tables, subsample, pixel_tolerance), from_grid(tables.swapped(), subsample, pixel_tolerance)
    return merge_matches([forth, back.swapped()], tables.shape0, tables.shape1)


def _as_matches(tables: PairTables, index0: torch.Tensor, index1: torch.Tensor) -> Matches:
    usable = tables.usable0[index0] & tables.usable1[index1]
    index0, index1 = index0[usable], index1[usable]
    order = unique_pairs(index0, index1)
    return Matches(pixels_at(index0[order], tables.shape0[1]), pixels_at(index1[order], tables.shape1[1]))
