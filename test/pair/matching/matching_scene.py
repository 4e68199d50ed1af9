# SPDX-License-Identifier: Apache-2.0
"""Two views of the simulated room as a perfect network would see them: exact pointmaps, descriptors that belong to the points."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import normalize

from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3

OCCLUDED = 0.15
SEEN = 0.01


@dataclass(frozen=True, eq=False)
class TwoViews:
    """X_0_0, X_0_1: (H, W, 3) float32. truth0: (H, W, 2) float32, where each pixel of image 1 is in image 0, in or out of it.

    seen: (H, W) bool, pixels of image 1 that image 0 shows well inside; hidden: those behind something, or well outside.
    """

    X_0_0: torch.Tensor
    X_0_1: torch.Tensor
    truth0: torch.Tensor
    seen: torch.Tensor
    hidden: torch.Tensor

    def descriptors(self, wavelength: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors (H, W, 24) that vary smoothly along the surfaces, over about `wavelength` metres."""
        generator = torch.Generator().manual_seed(0)
        frequency, phase = torch.randn(3, 24, generator=generator), 6.283 * torch.rand(24, generator=generator)
        return tuple(normalize(torch.cos(X @ frequency / wavelength + phase), dim=-1) for X in (self.X_0_0, self.X_0_1))


def two_views(room, T_0_1: SE3, step: int = 2) -> TwoViews:
    """Every `step`-th pixel of the room seen from home and from `T_0_1`."""
    K, size = room.camera.K, (room.camera.height, room.camera.width)
    rays = np.concatenate([(pixel_grid(*size[::-1]) - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((*size, 1))], axis=-1)
    X_0_0 = (rays * room.depth(SE3.identity())[..., None])[::step, ::step]
    X_0_1 = (rays * room.depth(T_0_1)[..., None])[::step, ::step] @ T_0_1.rotation.T + T_0_1.translation
    truth0 = (X_0_1[..., :2] / X_0_1[..., 2:] * K[[0, 1], [0, 1]] + K[:2, 2]) / step
    height, width = X_0_0.shape[:2]
    nearest = np.rint(truth0).astype(int)
    inside = ((nearest >= 1) & (nearest <= (width - 2, height - 2))).all(axis=-1)
    outside = ((truth0 < -1.5) | (truth0 > (width + 0.5, height + 0.5))).any(axis=-1)
    x, y = np.where(inside[..., None], nearest, 1).transpose(2, 0, 1)
    around = np.stack([X_0_0[y + dy, x + dx, 2] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    ratio = X_0_1[..., 2] / around
    seen = inside & (np.abs(ratio - 1) < SEEN).all(axis=0)
    hidden = outside | (inside & (ratio > 1 + OCCLUDED).all(axis=0))
    maps = (torch.from_numpy(a.astype(np.float32)) for a in (X_0_0, X_0_1, truth0))
    return TwoViews(*maps, torch.from_numpy(seen), torch.from_numpy(hidden))
