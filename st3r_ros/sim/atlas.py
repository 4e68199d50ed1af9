# SPDX-License-Identifier: Apache-2.0
"""All textures of a scene in one image with a mipmap pyramid, so that one `cv2.remap` samples a whole image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

LEVELS = 5

_PAD = 12  # pixels of repeated border around each texture, enough for all levels but the coarsest


@dataclass(frozen=True, eq=False)
class Atlas:
    """Level 0 at the top, each further level, half as large, below the one before: level l starts at row 2 height (1 - 2^-l).

    image: (2 height, W, 3) uint8. height: rows of level 0. boxes: (textures, 4) float32, x y width height in level 0.
    """

    image: np.ndarray
    height: int
    boxes: np.ndarray

    @staticmethod
    def pack(textures: Sequence[np.ndarray]) -> Atlas:
        """Lay out textures (h, w, 3) uint8 on shelves, the highest first, and build the smaller levels."""
        sizes = np.array([texture.shape[:2] for texture in textures]) + 2 * _PAD
        width = int(max(sizes[:, 1].max(), 1.1 * np.sqrt(sizes.prod(1).sum())))
        corners = np.zeros_like(sizes)
        x = y = shelf = 0
        for index in np.argsort(-sizes[:, 0], kind="stable"):
            h, w = sizes[index]
            if x + w > width:
                x, y, shelf = 0, y + shelf, 0
            corners[index] = x, y
            x, shelf = x + w, max(shelf, h)
        grain = 2 ** (LEVELS - 1)
        height, width = (int(-(-side // grain) * grain) for side in (y + shelf, width))
        image = np.zeros((2 * height, width, 3), dtype=np.uint8)
        for texture, (h, w), (x, y) in zip(textures, sizes, corners, strict=True):
            image[y : y + h, x : x + w] = cv2.copyMakeBorder(texture, *(_PAD,) * 4, cv2.BORDER_REPLICATE)
        _build_levels(image, height)
        return Atlas(image, height, np.hstack([corners + _PAD, (sizes - 2 * _PAD)[:, ::-1]]).astype(np.float32))

    def sample(self, x: np.ndarray, y: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Bilinear lookups (H, W, 3) uint8.

        x, y: (H, W) float32, texels of level 0, the first one covering 0 to 1. level: (H, W) float32; its floor is taken.
        """
        scale = np.exp2(-np.floor(np.clip(level, 0.0, LEVELS - 1)))
        below = 2.0 * self.height
        return cv2.remap(self.image, x * scale - 0.5, (y - below) * scale + (below - 0.5), cv2.INTER_LINEAR)


def _build_levels(image: np.ndarray, height: int) -> None:
    level, row = image[:height], height
    for _ in range(1, LEVELS):
        level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
        image[row : row + level.shape[0], : level.shape[1]] = level
        row += level.shape[0]
