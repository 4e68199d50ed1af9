# SPDX-License-Identifier: Apache-2.0
"""Viewing directions of the pixels of an image from its pointmap, without a camera model."""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

from st3r_ros.pair.matching.cycles import grid_pixels
from st3r_ros.pair.matching.matches import image_shape
from st3r_ros.pair.matching.sampling import BilinearMap, Samples

# Directions are averaged over squares of this many pixels: they vary smoothly, the noise of a pointmap from pixel to pixel.
CELL = 4
# Coarse guesses are the centres of every n-th square.
COARSE_STEP = 4
COARSE_BLOCK = 2**24


def directions(points: torch.Tensor) -> torch.Tensor:
    """Unit vectors along `points` (..., 3); zero where there is no point."""
    length = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
    return torch.where(length.isfinite() & (length > 0), points / length, 0.0)


class RayField:
    """Smooth directions at any position in B images, from pointmaps (B, H, W, 3) in the image's own camera."""

    def __init__(self, pointmaps: torch.Tensor) -> None:
        self.height, self.width = pointmaps.shape[1:3]
        self._cell = CELL if min(self.height, self.width) >= 2 * CELL else 1
        means = avg_pool2d(directions(pointmaps).movedim(-1, 1), self._cell).movedim(1, -1)
        self._rays = directions(means)
        self._map = BilinearMap(self._rays)

    def clamp(self, pixels: torch.Tensor) -> torch.Tensor:
        """`pixels` (..., 2) clamped to the image."""
        return torch.stack([pixels[..., 0].clamp(0, self.width - 1), pixels[..., 1].clamp(0, self.height - 1)], dim=-1)

    def sample(self, pixels: torch.Tensor) -> Samples:
        """Directions at `pixels` (B, n, 2) float32."""
        found = self._map.sample((pixels - 0.5 * (self._cell - 1)) / self._cell)
        return Samples(found.value, found.dx / self._cell, found.dy / self._cell)

    def nearest(self, target: torch.Tensor) -> torch.Tensor:
        """The pixel (B, n, 2) float32 of a coarse grid whose direction is closest to each `target` (B, n, 3)."""
        shape = image_shape(self._rays[0])
        grid = grid_pixels(shape, min(COARSE_STEP, *shape), target.device)
        coarse = self._rays[:, grid[:, 1], grid[:, 0]].transpose(1, 2)
        step = max(1, COARSE_BLOCK // (len(target) * len(grid)))
        best = torch.cat([(part @ coarse).argmax(dim=-1) for part in target.split(step, dim=1)], dim=1)
        return grid[best] * self._cell + 0.5 * (self._cell - 1)
