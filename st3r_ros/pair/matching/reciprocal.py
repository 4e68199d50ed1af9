# SPDX-License-Identifier: Apache-2.0
"""Matches of dense descriptors: reciprocal nearest neighbours by dot product, for one or both orders of a pair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from st3r_ros.pair.matching.cycles import MAX_ROUNDS, NeighbourTable, PairTables, both_directions, from_grid, near_cycles
from st3r_ros.pair.matching.matches import flat_index, image_shape, merge_matches, values_at
from st3r_ros.pair.matching.nearest import nearest
from st3r_ros.types import Matches


@dataclass(frozen=True, eq=False)
class DescriptorMaps:
    """Outputs of one order of a pair: desc0 (H0, W0, d), desc1 (H1, W1, d), unit or zero; conf0 (H0, W0), conf1 (H1, W1) > 0."""

    desc0: torch.Tensor
    desc1: torch.Tensor
    conf0: torch.Tensor
    conf1: torch.Tensor


def fast_reciprocal(
    desc0: torch.Tensor,
    desc1: torch.Tensor,
    *,
    subsample: int = 8,
    starts: torch.Tensor | None = None,
    pixel_tolerance: float = 0.0,
    max_rounds: int = MAX_ROUNDS,
) -> Matches:
    """Reciprocal nearest neighbours of descriptors (H0, W0, d) and (H1, W1, d), sorted by pixel in image 0, then in image 1.

    From every `subsample`-th pixel of image 0, the neighbour's neighbour is followed for up to `max_rounds` until it is the pixel
    itself. With pixels `starts` (n, 2) of image 0, or a tolerance, there is one round only, and a start is matched when its
    neighbour's neighbour is less than `pixel_tolerance` pixels away (or the start itself). Descriptors that are zero or not
    finite are never matched.
    """
    tables = _descriptor_tables(desc0, desc1)
    if starts is not None:
        return near_cycles(tables, flat_index(starts, desc0.shape[1]), pixel_tolerance)
    return from_grid(tables, subsample, pixel_tolerance, max_rounds)


def one_order_matches(
    desc0: torch.Tensor,
    desc1: torch.Tensor,
    conf0: torch.Tensor,
    conf1: torch.Tensor,
    *,
    subsample: int = 8,
    pixel_tolerance: float = 0.0,
) -> Matches:
    """The matches that `fast_reciprocal` finds from image 0 and from image 1.

    The weight is the smaller confidence of the two pixels.
    """
    maps = DescriptorMaps(desc0, desc1, conf0, conf1)
    matches = both_directions(_descriptor_tables(maps.desc0, maps.desc1), subsample, pixel_tolerance)
    return replace(matches, weight=torch.minimum(*_confidences(maps, matches)))


def symmetric_matches(
    order01: DescriptorMaps, order10: DescriptorMaps, *, subsample: int = 8, pixel_tolerance: float = 0.0
) -> Matches:
    """The matches of both orders of a pair: `order01` has image 0 as its first view, `order10` image 1.

    In both, desc0 and conf0 belong to image 0. The weight is the geometric mean of the confidences of the two pixels; matches
    found in both orders have that of `order01`.
    """
    parts = []
    for maps in (order01, order10):
        matches = both_directions(_descriptor_tables(maps.desc0, maps.desc1), subsample, pixel_tolerance)
        conf0, conf1 = _confidences(maps, matches)
        parts.append(replace(matches, weight=(conf0 * conf1).sqrt()))
    return merge_matches(parts, image_shape(order01.desc0), image_shape(order01.desc1))


def _descriptor_tables(desc0: torch.Tensor, desc1: torch.Tensor) -> PairTables:
    flat0, usable0 = _flattened(desc0)
    flat1, usable1 = _flattened(desc1)
    return PairTables(
        NeighbourTable(lambda index: nearest(flat0[index], flat1).index, len(flat0), desc0.device),
        NeighbourTable(lambda index: nearest(flat1[index], flat0).index, len(flat1), desc1.device),
        usable0,
        usable1,
        image_shape(desc0),
        image_shape(desc1),
    )


def _flattened(desc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Descriptors (H*W, d), the unusable ones zero, and which are usable, (H*W,) bool."""
    flat = desc.flatten(0, 1)
    norm = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float32)
    usable = norm.isfinite() & (norm > 0)
    return torch.where(usable[:, None], flat, 0), usable


def _confidences(maps: DescriptorMaps, matches: Matches) -> tuple[torch.Tensor, torch.Tensor]:
    """The confidence (n,) float32 of both pixels of every match."""
    return values_at(maps.conf0, matches.pixels0).float(), values_at(maps.conf1, matches.pixels1).float()
