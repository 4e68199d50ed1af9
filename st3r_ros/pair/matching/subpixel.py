# SPDX-License-Identifier: Apache-2.0
"""Sub-pixel matches: one Gauss-Newton step on the descriptors, whose variation around a match is fitted to 3x3 pixels.

This is more accurate than the peak of a quadratic fitted to nine similarities, which is biased where descriptors vary faster on
one side than on the other.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from st3r_ros.pair.matching.matches import values_at
from st3r_ros.pair.matching.sampling import rows_at
from st3r_ros.types import Matches

MAX_OFFSET = 1.0
MIN_DETERMINANT = 1e-3


def refine_matches(desc0: torch.Tensor, desc1: torch.Tensor, matches: Matches) -> Matches:
    """Integer matches between maps (H0, W0, d) and (H1, W1, d), with pixels0 refined to sub-pixel positions; float32."""
    offsets = subpixel_offsets(desc0[None], values_at(desc1, matches.pixels1)[None], matches.pixels0[None])
    return replace(matches, pixels0=matches.pixels0 + offsets[0], pixels1=matches.pixels1.float())


def subpixel_offsets(desc: torch.Tensor, queries: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Offsets (B, n, 2) float32 from `pixels` (B, n, 2) int64 to where `desc` (B, H, W, d) is most similar to `queries` (B, n,
    d).

    The offset is 0 where the 3x3 pixels around are not all inside the image, where they do not vary in two directions, or where
    it would be more than `MAX_OFFSET` pixels in x or y.
    """
    height, width = desc.shape[1:3]
    x, y = pixels.unbind(-1)
    step = torch.arange(9, device=desc.device)
    dx, dy = step % 3 - 1, step // 3 - 1
    around = rows_at(desc, (x[..., None] + dx).clamp(0, width - 1), (y[..., None] + dy).clamp(0, height - 1)).float()
    # value and slopes at the centre of the least-squares quadratic through the nine pixels
    fit = torch.stack([(5 - 3 * (dx * dx + dy * dy)) / 9, dx / 6, dy / 6])
    value, slope_x, slope_y = (fit @ around).unbind(-2)
    error = queries.float() - value
    ex, ey = (slope_x * error).sum(-1), (slope_y * error).sum(-1)
    xx, yy, xy = slope_x.square().sum(-1), slope_y.square().sum(-1), (slope_x * slope_y).sum(-1)
    determinant = xx * yy - xy * xy
    offset = torch.stack([yy * ex - xy * ey, xx * ey - xy * ex], dim=-1) / determinant[..., None]
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    peak = (determinant > MIN_DETERMINANT * xx * yy) & (offset.abs() <= MAX_OFFSET).all(dim=-1)
    return torch.where((inside & peak)[..., None], offset, 0.0)
