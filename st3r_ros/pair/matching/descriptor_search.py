# SPDX-License-Identifier: Apache-2.0
"""A small search for the most similar descriptor around known pixels, coarse to fine (MASt3R-SLAM paper), batched."""

from __future__ import annotations

import torch

from st3r_ros.pair.matching.sampling import rows_at


def similarity(rows: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Dot products (B, n, k) float32 of descriptors (B, n, k, d) with `queries` (B, n, d)."""
    return (rows * queries[:, :, None]).sum(-1, dtype=torch.float32)


def search_around(
    desc: torch.Tensor, queries: torch.Tensor, pixels: torch.Tensor, *, radius: int = 3, max_dilation: int = 5
) -> torch.Tensor:
    """Pixels (B, n, 2) int64 of maps `desc` (B, H, W, d) whose descriptors are most similar to `queries` (B, n, d).

    From `pixels` (B, n, 2) int64 inside the image, the best of (2 radius + 1)^2 pixels that are `max_dilation` apart becomes the
    centre for the next smaller distance, down to neighbouring pixels. Equal similarity does not move a pixel.
    """
    height, width = desc.shape[1:3]
    x, y = pixels.unbind(-1)
    best = similarity(rows_at(desc, x, y)[:, :, None], queries)[..., 0]
    steps = torch.arange(-radius, radius + 1, device=desc.device)
    for dilation in range(max_dilation, 0, -1):
        columns, center_y = (x[..., None] + steps * dilation).clamp(0, width - 1), y
        for step in range(-radius, radius + 1):
            row = (center_y + step * dilation).clamp(0, height - 1)
            found = similarity(rows_at(desc, columns, row[..., None].expand_as(columns)), queries).max(dim=-1)
            better = found.values > best
            best = torch.where(better, found.values, best)
            x = torch.where(better, columns.gather(-1, found.indices[..., None])[..., 0], x)
            y = torch.where(better, row, y)
    return torch.stack([x, y], dim=-1)
