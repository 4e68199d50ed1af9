# SPDX-License-Identifier: Apache-2.0
"""Matches without descriptors (DUSt3R): mutual nearest points of two pointmaps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from st3r_ros.pair.matching.cycles import NeighbourTable, PairTables, both_directions
from st3r_ros.pair.matching.matches import image_shape, merge_matches, values_at
from st3r_ros.pair.matching.nearest import nearest_points
from st3r_ros.types import Matches

# Points this many times farther from the centre than the median are outliers.
MAX_SPREAD = 1e4


@dataclass(frozen=True, eq=False)
class PointMaps:
    """Outputs of one order of a pair: points0 (H0, W0, 3), points1 (H1, W1, 3) in one camera; conf0 (H0, W0), conf1 (H1, W1)."""

    points0: torch.Tensor
    points1: torch.Tensor
    conf0: torch.Tensor
    conf1: torch.Tensor


def pointmap_matches(
    X_0_0: torch.Tensor,
    X_0_1: torch.Tensor,
    conf0: torch.Tensor,
    conf1: torch.Tensor,
    *,
    subsample: int = 8,
    min_conf: float = 0.0,
) -> Matches:
    """Reciprocal nearest points of X_0_0 (H0, W0, 3) and X_0_1 (H1, W1, 3), found from every `subsample`-th pixel of both.

    conf0 (H0, W0), conf1 (H1, W1): pixels below `min_conf` are left out, as are points that are not finite; the weight of a
    match is the geometric mean of those of its pixels.
    """
    tables = _point_tables(X_0_0, X_0_1, conf0 >= min_conf, conf1 >= min_conf)
    matches = both_directions(tables, subsample)
    conf = (values_at(conf0, matches.pixels0) * values_at(conf1, matches.pixels1)).sqrt()
    return replace(matches, weight=conf.float())


def symmetric_pointmap_matches(order01: PointMaps, order10: PointMaps, *, subsample: int = 8, min_conf: float = 0.0) -> Matches:
    """The union of the `pointmap_matches` of both orders of a pair: `order01` is in camera 0, `order10` in camera 1.

    In both, points0 and conf0 belong to image 0. Matches found in both orders have the weight of `order01`.
    """
    parts = [
        pointmap_matches(maps.points0, maps.points1, maps.conf0, maps.conf1, subsample=subsample, min_conf=min_conf)
        for maps in (order01, order10)
    ]
    return merge_matches(parts, image_shape(order01.points0), image_shape(order01.points1))


def _point_tables(X_0_0: torch.Tensor, X_0_1: torch.Tensor, mask0: torch.Tensor, mask1: torch.Tensor) -> PairTables:
    """The search among the points in `mask0` and `mask1` (H, W), with the centre of those of image 0 as the origin."""
    points0, points1 = X_0_0.flatten(0, 1).float(), X_0_1.flatten(0, 1).float()
    usable0, usable1 = mask0.flatten() & points0.isfinite().all(1), mask1.flatten() & points1.isfinite().all(1)
    middle = torch.where(usable0[:, None], points0, torch.nan).nanmedian(dim=0).values
    points0, points1 = points0 - middle, points1 - middle
    size0, size1 = points0.abs().amax(1), points1.abs().amax(1)
    limit = MAX_SPREAD * torch.where(usable0, size0, torch.nan).nanmedian()
    usable0, usable1 = usable0 & (size0 < limit), usable1 & (size1 < limit)
    points0, points1 = torch.where(usable0[:, None], points0, 0.0), torch.where(usable1[:, None], points1, 0.0)
    return PairTables(
        NeighbourTable(lambda index: nearest_points(points0[index], points1, usable1).index, len(points0), points0.device),
        NeighbourTable(lambda index: nearest_points(points1[index], points0, usable0).index, len(points1), points1.device),
        usable0,
        usable1,
        image_shape(X_0_0),
        image_shape(X_0_1),
    )
