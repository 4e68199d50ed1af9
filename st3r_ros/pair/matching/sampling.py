# SPDX-License-Identifier: Apache-2.0
"""Values of batched maps at pixels: at their centres, and between them with the derivative."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad


def rows_at(values: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Values (B, ..., c) of maps (B, H, W, c) at columns `x` and rows `y` (B, ...) int64, which lie inside the image."""
    batch, height, width, channels = values.shape
    first = torch.arange(batch, device=values.device).view(batch, *[1] * (x.dim() - 1)) * (height * width)
    index = first + y * width + x
    return values.reshape(-1, channels).index_select(0, index.flatten()).view(*index.shape, channels)


@dataclass(frozen=True, eq=False)
class Samples:
    """Values (B, n, c) between pixel centres and their derivatives by x and by y, (B, n, c) per pixel."""

    value: torch.Tensor
    dx: torch.Tensor
    dy: torch.Tensor

    def updated(self, other: Samples, where: torch.Tensor) -> Samples:
        """These samples, replaced by those of `other` at `where` (B, n)."""
        pairs = ((other.value, self.value), (other.dx, self.dx), (other.dy, self.dy))
        return Samples(*(torch.where(where[..., None], new, old) for new, old in pairs))


class BilinearMap:
    """Bilinear interpolation of maps (B, H, W, c) float32, as one polynomial per cell: a single read per sample."""

    def __init__(self, values: torch.Tensor) -> None:
        self._height, self._width = values.shape[1:3]
        padded = pad(values.movedim(-1, 1), (0, 1, 0, 1), mode="replicate").movedim(1, -1)
        corner, right, below = padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1]
        across = padded[:, 1:, 1:] - right - below + corner
        self._cells = torch.cat([corner, right - corner, below - corner, across], dim=-1)

    def sample(self, pixels: torch.Tensor) -> Samples:
        """Samples at `pixels` (B, n, 2) float32; outside the image, the polynomials of the outermost cells are extrapolated."""
        x, y = pixels.unbind(-1)
        column = x.floor().long().clamp(0, max(self._width - 2, 0))
        row = y.floor().long().clamp(0, max(self._height - 2, 0))
        corner, right, below, across = rows_at(self._cells, column, row).chunk(4, dim=-1)
        u, v = (x - column)[..., None], (y - row)[..., None]
        dx, dy = right + across * v, below + across * u
        return Samples(corner + right * u + dy * v, dx, dy)
