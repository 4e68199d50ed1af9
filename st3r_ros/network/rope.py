# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding over the patch grid of an image (RoFormer, Su et al., in the two-dimensional form of CroCo v2)."""

from __future__ import annotations

import torch


def rotate(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rotates the channels of every token by its position.

    x: (B, n, ..., D) queries or keys. table: (n, 2, D) from `rope_table` (or shaped to broadcast over the dots).
    The first half of D rotates with the row, the second with the column; in each half, channel i pairs with channel i + D/4.
    """
    cos, sin = table.unbind(-2)
    a, b = x.unflatten(-1, (2, 2, -1)).unbind(-2)
    partner = torch.stack((-b, a), dim=-2).flatten(-3)
    return x * cos + partner * sin


def rope_table(
    rows: int, columns: int, dim: int, base: float = 100.0, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> torch.Tensor:
    """(rows * columns, 2, dim) cosines and sines for the tokens of a grid in row-major order. dim: channels of one head."""
    pair = torch.arange(dim // 4, dtype=torch.float64)
    frequency = base ** (-4.0 * pair / dim)
    angles = [torch.arange(length, dtype=torch.float64)[:, None] * frequency for length in (rows, columns)]
    by_row = angles[0].repeat(1, 2)[:, None].expand(-1, columns, -1)
    by_column = angles[1].repeat(1, 2)[None].expand(rows, -1, -1)
    angle = torch.cat((by_row, by_column), dim=-1).flatten(0, 1)
    return torch.stack((angle.cos(), angle.sin()), dim=1).to(device=device, dtype=dtype)
