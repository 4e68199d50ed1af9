# SPDX-License-Identifier: Apache-2.0
"""Pairs of cameras that see the same points, and sums over these points of products of what is known of both views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

CHUNK = 1 << 16
"""Pairs of views that are multiplied at once, so that they fit the memory."""
PADDING = 1.5
"""Times as many points as the pair of cameras with the fewest, that others have which are multiplied together with it."""


@dataclass(frozen=True, eq=False)
class CameraPairs:
    """Pairs (S,) of cameras `row` and `column`, row <= column, each camera with itself included.

    groups: numbers (s, k) of the views of the first and the second camera, of s pairs each; a pair with fewer than k points is
    filled up with the number M of views. One matrix product for each pair of cameras is several times faster than one for each
    pair of views.
    """

    row: torch.Tensor
    column: torch.Tensor
    groups: list[tuple[torch.Tensor, torch.Tensor]]

    @staticmethod
    def of(camera: torch.Tensor, point: torch.Tensor, free: torch.Tensor) -> CameraPairs:
        """Of the cameras that may move, free (n,) bool, from the camera and the point (M,) of each view, sorted by point."""
        first, second = _views_of_same_point(camera, point, free)
        code = camera[first] * len(free) + camera[second]
        order = torch.argsort(code, stable=True)
        code, count = torch.unique_consecutive(code[order], return_counts=True)
        by_count = torch.argsort(count, stable=True)
        code, sizes, start = code[by_count], count[by_count].numpy(), (torch.cumsum(count, 0) - count)[by_count]
        # A last one that stands for none.
        none = torch.full((1,), len(camera))
        first, second = torch.cat([first[order], none]), torch.cat([second[order], none])
        groups, done = [], 0
        while done < len(sizes):
            most = max(PADDING * sizes[done], sizes[done] + 4)
            end = min(int(np.searchsorted(sizes, most, side="right")), done + max(CHUNK // int(most), 1))
            place = torch.arange(int(sizes[end - 1]))
            filled = place < count[by_count[done:end], None]
            at = torch.where(filled, start[done:end, None] + place, len(order))
            groups.append((first[at], second[at]))
            done = end
        return CameraPairs(code // len(free), code % len(free), groups)

    def products(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """Sums (S, a, b) of A B^T over the points of each pair: A (a, k, M) of the first camera, B (b, k, M) of the second."""
        a, b = (torch.nn.functional.pad(x, (0, 1)).permute(2, 1, 0).contiguous() for x in (A, B))
        found = [A.new_zeros(0, A.shape[0], B.shape[0])]
        for first, second in self.groups:
            left = a.index_select(0, first.flatten()).view(len(first), -1, a.shape[2])
            right = b.index_select(0, second.flatten()).view(len(first), -1, b.shape[2])
            found.append(left.mT @ right)
        return torch.cat(found)


def _views_of_same_point(camera: torch.Tensor, point: torch.Tensor, free: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers (Q,) of two views each, the camera of the first not after that of the second."""
    moving = torch.nonzero(free[camera])[:, 0]
    point, camera = point[moving], camera[moving]
    count = torch.bincount(point)
    start = torch.cumsum(count, 0) - count
    seen = count[point]
    first = torch.arange(len(point)).repeat_interleave(seen)
    rank = torch.arange(len(first)) - (torch.cumsum(seen, 0) - seen)[first]
    second = start[point][first] + rank
    ordered = camera[first] <= camera[second]
    return moving[first[ordered]], moving[second[ordered]]
