# SPDX-License-Identifier: Apache-2.0
"""Finds similar keyframes by global descriptors: candidates for loops and relocalization."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.errors import St3rError

FIRST_CAPACITY = 64
TYPICAL_QUANTILE = 0.25
MIN_TYPICAL = 8


class DescriptorError(St3rError):
    """A place descriptor cannot be compared with those of the map."""


@dataclass(frozen=True)
class SimilarPlace:
    """A keyframe similar to the query.

    similarity: dot product of the two descriptors. lift: by how much that exceeds what is typical for the query and this map,
    which tells a place that is recognized from one where everything looks alike; its scale depends on the model too.
    """

    id: int
    similarity: float
    lift: float


class PlaceIndex:
    """The global descriptors of keyframes, kept as one matrix; a query is one product with it. Works with any pair model.

    The first descriptor decides the length of all. Descriptors are copied to the CPU.
    """

    def __init__(self) -> None:
        self._ids = np.zeros(FIRST_CAPACITY, np.int64)
        self._descriptors = torch.zeros(FIRST_CAPACITY, 0)
        self._row: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, id: int) -> bool:
        return id in self._row

    def add(self, id: int, descriptor: torch.Tensor) -> None:
        """Adds a keyframe, or gives it another descriptor: (D,) of any floating type, on any device.

        Raises:
            DescriptorError: the descriptor is of another length than those before, or not finite.
        """
        checked = self._checked(descriptor)
        if not self._row:
            self._descriptors = torch.zeros(len(self._ids), len(checked))
        row = self._row.setdefault(id, len(self._row))
        if row == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._descriptors = torch.cat([self._descriptors, torch.zeros_like(self._descriptors)])
        self._ids[row] = id
        self._descriptors[row] = checked

    def remove(self, id: int) -> None:
        """Removes a keyframe, if it exists."""
        row = self._row.pop(id, None)
        if row is None:
            return
        last = len(self._row)
        if row < last:  # the last row moves into the gap
            self._ids[row], self._descriptors[row] = self._ids[last], self._descriptors[last]
            self._row[int(self._ids[row])] = row

    def query(
        self,
        descriptor: torch.Tensor,
        top: int,
        *,
        exclude: Collection[int] = (),
        min_similarity: float = -1.0,
        min_lift: float = -2.0,
    ) -> list[SimilarPlace]:
        """At most `top` keyframes, the most similar first, the older of equals first.

        exclude: ids that are no answer, such as the neighbours in time, which look alike anyway; nor do they count as typical.
        What is typical is the lower quartile of the similarities, so that a map of which most shows the same place has a lift
        too; below MIN_TYPICAL keyframes nothing is, and the lift is the similarity.

        Raises:
            DescriptorError: the descriptor is of another length than the map's, or not finite.
        """
        checked = self._checked(descriptor)
        ids = self._ids[: len(self)]
        similarity = (self._descriptors[: len(self)] @ checked).numpy() if len(self) else np.zeros(0, np.float32)
        allowed = ~np.isin(ids, np.fromiter(exclude, np.int64))
        ids, similarity = ids[allowed], similarity[allowed]
        typical = float(np.quantile(similarity, TYPICAL_QUANTILE)) if len(ids) >= MIN_TYPICAL else 0.0
        good = (similarity >= min_similarity) & (similarity - typical >= min_lift)
        ids, similarity = ids[good], similarity[good]
        best = np.lexsort((ids, -similarity))[:top]
        return [SimilarPlace(int(ids[k]), float(similarity[k]), float(similarity[k]) - typical) for k in best]

    def _checked(self, descriptor: torch.Tensor) -> torch.Tensor:
        """The descriptor as float32 on the CPU."""
        expected = self._descriptors.shape[1]
        if descriptor.ndim != 1 or (self._row and len(descriptor) != expected):
            raise DescriptorError(
                f"A place descriptor has the shape {tuple(descriptor.shape)}, but those of the map have ({expected},); "
                "the map was made with another pair model or checkpoint: use that one."
                if self._row
                else f"A place descriptor has the shape {tuple(descriptor.shape)}; it must be a vector."
            )
        checked = descriptor.detach().to("cpu", torch.float32)
        if not bool(checked.isfinite().all()):
            raise DescriptorError(
                "A place descriptor holds numbers that are not finite; the pair model cannot describe this image."
            )
        return checked
