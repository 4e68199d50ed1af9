# SPDX-License-Identifier: Apache-2.0
"""Matches of images larger than the network's (MASt3R paper, coarse-to-fine matching).

Matches of the reduced images determine which overlapping windows of the full images show the same parts of the scene; windows are
matched pair by pair at full resolution and their matches merged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from st3r_ros.pair.matching.matches import Shape, joined, merge_matches
from st3r_ros.types import Matches

COVERAGE = 0.9
MAX_PAIRS = 32


@dataclass(frozen=True)
class CropWindow:
    """A part of an image, pixels: its left and top edge, and its size."""

    x: int
    y: int
    width: int
    height: int

    def contains(self, pixels: torch.Tensor) -> torch.Tensor:
        """Which of `pixels` (n, 2) are inside, (n,) bool."""
        x, y = pixels[:, 0] - self.x, pixels[:, 1] - self.y
        return (x >= 0) & (x <= self.width - 1) & (y >= 0) & (y <= self.height - 1)


WindowPair = tuple[CropWindow, CropWindow]
# Matches each pair of windows, in pixels of the windows.
MatchWindows = Callable[[Sequence[WindowPair]], Sequence[Matches]]


def coarse_to_fine(
    coarse: Matches,
    shape0: Shape,
    shape1: Shape,
    match_windows: MatchWindows,
    *,
    window_shape: Shape = (384, 512),
    max_pairs: int = MAX_PAIRS,
) -> Matches:
    """Full-resolution matches of two images (height, width), given `coarse` matches in full-resolution pixels.

    window_shape: height and width of the windows of a landscape image. Of duplicate matches from several windows, the most
    confident is kept. Sorted by pixel in image 0, then in image 1.
    """
    windows0, windows1 = overlapping_windows(shape0, window_shape), overlapping_windows(shape1, window_shape)
    pairs = covering_pairs(windows0, windows1, coarse, max_pairs=max_pairs)
    device = coarse.pixels0.device
    none = torch.zeros(0, 2, dtype=torch.int64, device=device)
    parts = [Matches(none, none)]
    for (window0, window1), fine in zip(pairs, match_windows(pairs) if pairs else [], strict=True):
        corner0, corner1 = none.new_tensor([window0.x, window0.y]), none.new_tensor([window1.x, window1.y])
        parts.append(replace(fine, pixels0=fine.pixels0 + corner0, pixels1=fine.pixels1 + corner1))
    matches = joined(parts)
    return merge_matches([matches.chosen(matches.weight.argsort(descending=True, stable=True))], shape0, shape1)


def overlapping_windows(shape: Shape, window_shape: Shape) -> list[CropWindow]:
    """Windows over a whole image (height, width), row by row, neighbours overlapping by at least half.

    Portrait images have portrait windows. A side shorter than that of the window is covered by windows of that length.
    """
    size = window_shape if shape[1] >= shape[0] else window_shape[::-1]
    height, width = min(shape[0], size[0]), min(shape[1], size[1])
    return [CropWindow(x, y, width, height) for y in _positions(shape[0], height) for x in _positions(shape[1], width)]


def covering_pairs(
    windows0: Sequence[CropWindow],
    windows1: Sequence[CropWindow],
    matches: Matches,
    *,
    coverage: float = COVERAGE,
    max_pairs: int = MAX_PAIRS,
) -> list[WindowPair]:
    """Pairs of windows that contain at least a share `coverage` of `matches`, or `max_pairs` pairs, chosen greedily.

    Each next pair is the one with the most matches that no earlier pair contains.
    """
    if not len(matches):
        return []
    pixels0, pixels1 = matches.pixels0.cpu(), matches.pixels1.cpu()
    inside0 = torch.stack([w.contains(pixels0) for w in windows0], dim=1).float()
    inside1 = torch.stack([w.contains(pixels1) for w in windows1], dim=1).float()
    allowed = math.floor((1.0 - coverage) * len(matches) + 1e-9)
    pairs: list[WindowPair] = []
    while len(inside0) > allowed and len(pairs) < max_pairs:
        i, j = divmod(int((inside0.T @ inside1).argmax()), len(windows1))
        pairs.append((windows0[i], windows1[j]))
        left = (inside0[:, i] * inside1[:, j]) == 0
        inside0, inside1 = inside0[left], inside1[left]
    return pairs


def _positions(size: int, window: int) -> list[int]:
    """Starts of evenly spaced windows from one end to the other, at most half a window apart."""
    steps = math.ceil((size - window) / max(window // 2, 1))
    return [round(i * (size - window) / max(steps, 1)) for i in range(steps + 1)]
