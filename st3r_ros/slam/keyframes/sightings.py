# SPDX-License-Identifier: Apache-2.0
"""What tracked frames see of their keyframes: kept, packed, so that frames can be adjusted together with the keyframes later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.types import Matches, packed_pixels

MATCHES_PER_FRAME = 128
MAX_FRAMES = 10_000
"""Of more frames every second one is kept: they take 1 kB each."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """Matches of a frame, with intrinsics K (3, 3), and its keyframe: pixels (N, 2) int16 in sixteenths, as those of an edge."""

    keyframe_id: int
    K: np.ndarray
    packed_frame: torch.Tensor
    packed_keyframe: torch.Tensor

    @staticmethod
    def pack(keyframe_id: int, K: np.ndarray, matches: Matches) -> Sighting:
        """Of matches of the frame (0) with the keyframe (1), at most `MATCHES_PER_FRAME`, evenly chosen."""
        count = min(len(matches), MATCHES_PER_FRAME)
        kept = matches.chosen(torch.linspace(0, len(matches) - 1, count).long())
        return Sighting(keyframe_id, K, packed_pixels(kept.pixels0), packed_pixels(kept.pixels1))


class Sightings:
    """By the place of the frame in the log of all frames."""

    def __init__(self) -> None:
        self._by_place: dict[int, Sighting] = {}
        self._of_keyframe: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._by_place)

    def __iter__(self) -> Iterator[tuple[int, Sighting]]:
        return iter(self._by_place.items())

    def of_keyframe(self, keyframe_id: int) -> list[tuple[int, Sighting]]:
        """Places, ascending, and sightings of the frames that see a keyframe."""
        return [(place, self._by_place[place]) for place in self._of_keyframe.get(keyframe_id, [])]

    def add(self, place: int, sighting: Sighting) -> None:
        """Adds that of a new frame."""
        self._by_place[place] = sighting
        self._of_keyframe.setdefault(sighting.keyframe_id, []).append(place)
        if len(self._by_place) > MAX_FRAMES:
            kept = list(self._by_place.items())[::2]
            self.__init__()  # type: ignore[misc]
            for earlier, seen in kept:
                self.add(earlier, seen)

    def drop(self, place: int) -> None:
        """Handles a frame that is now a keyframe itself."""
        dropped = self._by_place.pop(place, None)
        if dropped is not None:
            self._of_keyframe[dropped.keyframe_id].remove(place)

    def forget(self, keyframe_id: int) -> None:
        """Handles a removed keyframe."""
        for place in self._of_keyframe.pop(keyframe_id, []):
            del self._by_place[place]

    @property
    def nbytes(self) -> int:
        """Memory of the pixels."""
        return sum(s.packed_frame.nbytes + s.packed_keyframe.nbytes for s in list(self._by_place.values()))
