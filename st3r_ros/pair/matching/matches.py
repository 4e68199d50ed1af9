# SPDX-License-Identifier: Apache-2.0
"""Lists of matched pixels and their union."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from st3r_ros.types import Matches

Shape = tuple[int, int]


def flat_index(pixels: torch.Tensor, width: int) -> torch.Tensor:
    """Row-major indices (..., ) of the pixel centres nearest to `pixels` (..., 2) in an image of that width, int64."""
    pixels = pixels.round().long() if pixels.is_floating_point() else pixels
    return pixels[..., 1] * width + pixels[..., 0]


def pixels_at(index: torch.Tensor, width: int) -> torch.Tensor:
    """Pixels (..., 2) int64 at row-major indices (...)."""
    return torch.stack([index % width, index // width], dim=-1)


def unique_pairs(index0: torch.Tensor, index1: torch.Tensor) -> torch.Tensor:
    """Positions (m,) int64 of the distinct pairs among `index0`, `index1` (n,), sorted by index0, then index1.

    Of equal pairs the first is taken.
    """
    by_second = torch.argsort(index1, stable=True)
    order = by_second[torch.argsort(index0[by_second], stable=True)]
    a, b = index0[order], index1[order]
    differs = torch.ones_like(order, dtype=torch.bool)
    differs[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return order[differs]


def joined(parts: Sequence[Matches]) -> Matches:
    """One list of all matches, in the order of the parts."""
    pixels0, pixels1 = torch.cat([p.pixels0 for p in parts]), torch.cat([p.pixels1 for p in parts])
    return Matches(pixels0, pixels1, torch.cat([p.weight for p in parts]))


def merge_matches(parts: Sequence[Matches], shape0: Shape, shape1: Shape) -> Matches:
    """The union of lists of matches between images of shapes (height, width), sorted by pixel in image 0, then in image 1.

    Matches with the same nearest pixel centres are duplicates; the first is kept, with its weight.
    """
    matches = joined(parts)
    return matches.chosen(unique_pairs(flat_index(matches.pixels0, shape0[1]), flat_index(matches.pixels1, shape1[1])))


def values_at(values: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Values (n, ...) of a map (H, W, ...) at pixels (n, 2) int64."""
    return values[pixels[:, 1], pixels[:, 0]]


def image_shape(values: torch.Tensor) -> Shape:
    """(H, W) of a map (H, W, ...)."""
    return values.shape[0], values.shape[1]
