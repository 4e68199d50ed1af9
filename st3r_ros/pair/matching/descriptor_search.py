# SPDX-License-Identifier: Apache-2.0
"""A small search for the most similar descriptor around known pixels, coarse to fine (MASt3R-SLAM paper), batched."""

from __future__ import annotations

import torch

from st3r_ros.pair.matching.sampling import rows_at

# Descriptor channels read at once.
BLOCK_CPU = 2**22
BLOCK_GPU = 2**26


def search_around(
    desc: torch.Tensor, queries: torch.Tensor, pixels: torch.Tensor, *, radius: int = 3, max_dilation: int = 5
) -> torch.Tensor:
    """Pixels (B, n, 2) int64 of maps `desc` (B, H, W, d) whose descriptors are most similar to `queries` (B, n, d).

    From `pixels` (B, n, 2) int64 inside the image, the best of (2 radius + 1)^2 pixels that are `max_dilation` apart becomes the
    centre for the next smaller distance, down to neighbouring pixels. Equal similarity does not move a pixel.
    """
    height, width = desc.shape[1:3]
    x, y = pixels.unbind(-1)
    best = _similarity(desc, queries, x[..., None], y[..., None])[..., 0]
    side = 2 * radius + 1
    block = BLOCK_GPU if desc.is_cuda else BLOCK_CPU
    steps = torch.arange(side * side, device=desc.device).split(max(1, block // max(queries.numel(), 1)))
    for dilation in range(max_dilation, 0, -1):
        center_x, center_y = x, y
        for step in steps:
            columns = (center_x[..., None] + dilation * (step % side - radius)).clamp(0, width - 1)
            rows = (center_y[..., None] + dilation * (step // side - radius)).clamp(0, height - 1)
            found = _similarity(desc, queries, columns, rows).max(dim=-1)
            better, place = found.values > best, found.indices[..., None]
            best = torch.where(better, found.values, best)
            x = torch.where(better, columns.gather(-1, place)[..., 0], x)
            y = torch.where(better, rows.gather(-1, place)[..., 0], y)
    return torch.stack([x, y], dim=-1)


def _similarity(desc: torch.Tensor, queries: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Dot products (B, n, k) float32 of the descriptors at columns `x` and rows `y` (B, n, k) with `queries` (B, n, d)."""
    return (rows_at(desc, x, y) * queries[:, :, None]).sum(-1, dtype=torch.float32)
