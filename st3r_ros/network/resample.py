# SPDX-License-Identifier: Apache-2.0
"""Antialiased resampling like Pillow's, as two matrix products on any device.

An output pixel is a weighted sum of the input pixels around its position in the input. The window (Lanczos with three lobes or
cubic convolution with a = -0.5) is widened by the scale when the image shrinks, is cut off at the border and sums to 1. Like
Pillow, this rounds to 8 bit after the horizontal pass and again after the vertical one. (For images more than twice as tall as
wide, recent versions of Pillow swap the two passes.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL.Image import Resampling


@dataclass(frozen=True, eq=False)
class _Pass:
    """One direction of the scaling: output pixels are `weights` (out, n) float32 times the n input pixels of `span`."""

    weights: torch.Tensor
    span: slice


def resample(
    image: torch.Tensor, resized: tuple[int, int], window: Resampling, offset: tuple[int, int], out: tuple[int, int]
) -> torch.Tensor:
    """Scales an image or a batch (..., H, W, 3) uint8 to the size `resized` and computes a box of it: (..., h, w, 3) uint8.

    resized, offset, out: (x, y) pixels; size of the whole scaled image, top left pixel of the box, size of the box.
    window: LANCZOS or BICUBIC. Sums are float32: a sum within 1e-4 of a half may be rounded differently from Pillow.
    """
    height, width = image.shape[-3:-1]
    horizontal = _pass(width, resized[0], offset[0], out[0], window, image.device)
    vertical = _pass(height, resized[1], offset[1], out[1], window, image.device)
    planes = (
        image[..., vertical.span, horizontal.span, :].movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    )
    narrow = (planes @ horizontal.weights.mT).add_(0.5).floor_().clamp_(0, 255)
    return (vertical.weights @ narrow).add_(0.5).clamp_(0, 255).to(torch.uint8).movedim(-3, -1).contiguous()


@lru_cache(maxsize=16)
def _pass(size: int, resized: int, first: int, count: int, window: Resampling, device: torch.device) -> _Pass:
    """Scales a line of `size` pixels to `resized` and computes `count` of them from `first` on."""
    scale = size / resized
    shrink = max(scale, 1.0)
    radius = shrink * (3 if window is Resampling.LANCZOS else 2)
    centres = (np.arange(first, first + count) + 0.5)[:, None] * scale
    low = np.maximum(np.floor(centres - radius + 0.5), 0)
    high = np.minimum(np.floor(centres + radius + 0.5), size)
    span = slice(int(low.min()), int(high.max()))
    inputs = np.arange(span.start, span.stop)
    weights = (_lanczos if window is Resampling.LANCZOS else _cubic)((inputs + 0.5 - centres) / shrink)
    weights *= (low <= inputs) & (inputs < high)
    weights /= weights.sum(axis=1, keepdims=True)
    weights = np.rint(weights * 2**22) / 2**22  # Pillow's fixed-point weights
    return _Pass(torch.from_numpy(weights.astype(np.float32)).to(device), span)


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
