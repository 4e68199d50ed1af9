# SPDX-License-Identifier: Apache-2.0
"""Matches finer than a pixel: the peak of a quadratic fitted to the descriptors' similarity around a match."""

from __future__ import annotations

import torch

from st3r_ros.pair.matching.descriptor_search import similarity
from st3r_ros.pair.matching.matches import PixelMatches, values_at
from st3r_ros.pair.matching.sampling import rows_at

MAX_OFFSET = 1.0


def refine_matches(desc0: torch.Tensor, desc1: torch.Tensor, matches: PixelMatches) -> PixelMatches:
    """Integer matches between maps (H0, W0, d) and (H1, W1, d), with pixels0 moved to where pixels1 are seen; float32."""
    offsets = subpixel_offsets(desc0[None], values_at(desc1, matches.pixels1)[None], matches.pixels0[None])
    return PixelMatches(matches.pixels0 + offsets[0], matches.pixels1.float())


def subpixel_offsets(desc: torch.Tensor, queries: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Offsets (B, n, 2) float32 from `pixels` (B, n, 2) int64 to the peak of the similarity of `desc` (B, H, W, d) to `queries`.

    queries: (B, n, d). The quadratic is the least-squares fit to the 3x3 pixels around. The offset is 0 where they are not all
    inside the image, where the fit has no maximum, or has it more than `MAX_OFFSET` pixels away.
    """
    height, width = desc.shape[1:3]
    x, y = pixels.unbind(-1)
    step = torch.arange(9, device=desc.device)
    columns = (x[..., None] + step % 3 - 1).clamp(0, width - 1)
    rows = (y[..., None] + step // 3 - 1).clamp(0, height - 1)
    f = similarity(rows_at(desc, columns, rows), queries).unflatten(-1, (3, 3))
    across, down = f.mean(-2), f.mean(-1)
    fx, fy = (across[..., 2] - across[..., 0]) / 2, (down[..., 2] - down[..., 0]) / 2
    fxx, fyy = _second_difference(across), _second_difference(down)
    fxy = (f[..., 2, 2] - f[..., 2, 0] - f[..., 0, 2] + f[..., 0, 0]) / 4
    determinant = fxx * fyy - fxy * fxy
    dx, dy = (fxy * fy - fyy * fx) / determinant, (fxy * fx - fxx * fy) / determinant
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    peak = (fxx < 0) & (determinant > 0) & (dx.abs() <= MAX_OFFSET) & (dy.abs() <= MAX_OFFSET)
    return torch.where((inside & peak)[..., None], torch.stack([dx, dy], dim=-1), 0.0)


def _second_difference(values: torch.Tensor) -> torch.Tensor:
    return values[..., 0] - 2 * values[..., 1] + values[..., 2]
