# SPDX-License-Identifier: Apache-2.0
"""Masks of images at another size."""

from __future__ import annotations

import cv2
import numpy as np


def resized_mask(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """A mask (H, W) bool at another size: True where all of the pixels are that a new one is made of."""
    if mask.shape == (height, width):
        return mask
    levels = mask.astype(np.uint8) * 255
    interpolation = cv2.INTER_AREA if width < mask.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(levels, (width, height), interpolation=interpolation) == 255
