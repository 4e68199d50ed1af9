# SPDX-License-Identifier: Apache-2.0
"""Disturbances of the camera: a covered lens, a white wall, a jump to a place visited before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st3r_ros.errors import ConfigError

BLACK, WHITE = -1, -2
WHITE_LEVEL = 235  # grey level of a white wall

_WHITE_FRAMES = 30


@dataclass(frozen=True)
class Disturbance:
    """`count` disturbed frames from frame `first` on; later frames are undisturbed.

    shows: BLACK, WHITE, or the number of the frame that the first of them shows instead; the next ones continue from there.
    """

    first: int
    count: int
    shows: int


def disturbed(frames: int, disturbances: Sequence[Disturbance]) -> np.ndarray:
    """The content of each frame: (frames,) int64, the number of a frame of the undisturbed sequence, BLACK or WHITE.

    Raises:
        ConfigError: a disturbance is not within the sequence.
    """
    shown = np.arange(frames)
    for each in disturbances:
        last = each.first + each.count
        if min(each.first, each.count) < 0 or last > frames or each.shows < WHITE or each.shows + each.count > frames:
            raise ConfigError(f"{each} does not fit into a sequence of {frames} frames; move or shorten it.")
        shown[each.first : last] = each.shows if each.shows < 0 else np.arange(each.shows, each.shows + each.count)
    return shown


def kidnapping(kind: str, frames: int, fps: float) -> list[Disturbance]:
    """The disturbances of the setting `kidnap`: a black second or 30 frames of a white wall half-way, or a jump back.

    The camera keeps moving while it is covered. A jump comes after three fifths of the frames and leads back to the first fifth;
    from there the camera repeats its path.
    """
    half, three_fifths = frames // 2, 3 * frames // 5
    spans = {
        "black": [Disturbance(half, min(max(1, round(fps)), frames - half), BLACK)],
        "white": [Disturbance(half, min(_WHITE_FRAMES, frames - half), WHITE)],
        "jump": [Disturbance(three_fifths, frames - three_fifths, frames // 5)],
    }
    return spans.get(kind, [])
