# SPDX-License-Identifier: Apache-2.0
"""Decoded images of any bit depth, and their conversion to 8 bits for the models.

Cameras put 10, 12 or 14 bits into 16, thermal cameras use a small part of 14: the upper byte of such pixels shows nothing. So the
range of values in use, from the 1st to the 99th percentile with a margin, is spread linearly over 0..255. The range belongs to
the stream, not to the image, or brightness would flicker. Raw messages, compressed ones and files all follow this rule.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np

logger = logging.getLogger(__name__)

MARGIN = 0.1
"""Margin on both sides of the range in use, as a share of it, so that small changes of the light have no effect."""
LEAST_USE = 0.5
"""The range shrinks with images that use less than this share of it."""
SHRINK_RATE = 0.02
"""Share of the difference by which the range shrinks per such image: too slow to disturb tracking."""
LEAST_SPAN = 8
"""Minimum number of integer levels mapped to 0..255; fewer are noise."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image before its levels are brought to 8 bit.

    values: (H, W, 1) grey or (H, W, 3) RGB of any numeric type; uint8 is ready.
    usable: (H, W) bool, False where a pixel is transparent; None where all can be used.
    all_transparent: whether the image has transparency that would leave nothing; `usable` is None then.
    """

    values: np.ndarray
    usable: np.ndarray | None = None
    all_transparent: bool = False

    @staticmethod
    def with_alpha(values: np.ndarray, alpha: np.ndarray) -> Picture:
        """From values (H, W, C) and their opacity (H, W), whole numbers of which the largest is opaque."""
        usable = alpha > np.iinfo(alpha.dtype).max // 2
        if usable.all():
            return Picture(values)
        if not usable.any():
            return Picture(values, all_transparent=True)
        return Picture(values, usable)


class ToneRange:
    """The range of values that a stream uses. It begins with that of the first image, widens at once when a later one needs it,
    and shrinks slowly when less than half of it is used.

    One stream has one `ToneRange`; it is not thread-safe. Images of 8 bit pass through unchanged.
    """

    def __init__(self) -> None:
        self._range: tuple[float, float] | None = None
        self._said_transparent = False

    def to_rgb(self, picture: Picture) -> np.ndarray:
        """The (H, W, 3) uint8 RGB image. Values that are not finite, and zeros of a grey image, mean "not measured": they do not
        count for the range and become black."""
        if picture.all_transparent and not self._said_transparent:
            self._said_transparent = True
            logger.warning("An image is completely transparent: its transparency is not a mask and is ignored.")
        values = picture.values
        if values.dtype == np.uint8:
            return _rgb(values)
        measured = np.isfinite(values)
        if values.shape[2] == 1:
            measured &= values != 0
        if picture.usable is not None:
            counted = measured & picture.usable[..., None]
            self._follow(values, counted if counted.any() else measured)
        else:
            self._follow(values, measured)
        return _rgb(self._spread(values, measured))

    def _follow(self, values: np.ndarray, counted: np.ndarray) -> None:
        """Lets the range follow the values that are `counted`."""
        sample = values[::4, ::4][counted[::4, ::4]]
        if not sample.size:
            sample = values[counted]
        if not sample.size:
            return
        low, high = (float(level) for level in np.percentile(sample.astype(np.float64), (1, 99)))
        if np.issubdtype(values.dtype, np.integer) and high - low < LEAST_SPAN:
            high = low + LEAST_SPAN
        margin = MARGIN * (high - low)
        if self._range is None:
            self._range = low - margin, high + margin
            return
        begin, end = self._range
        begin, end = (low - margin if low < begin else begin), (high + margin if high > end else end)
        if high - low < LEAST_USE * (end - begin):
            begin += SHRINK_RATE * max(0.0, low - margin - begin)
            end -= SHRINK_RATE * max(0.0, end - high - margin)
        self._range = begin, end

    def _spread(self, values: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """The values (H, W, C) as uint8."""
        if self._range is None:
            return np.zeros(values.shape, np.uint8)
        begin, end = self._range
        gain = 255.0 / max(end - begin, 1e-300)
        if values.dtype == np.uint16:
            levels = np.clip((np.arange(65536) - begin) * gain + 0.5, 0, 255).astype(np.uint8)
            if values.shape[2] == 1:
                levels[0] = 0
            return levels[values]
        known = np.where(measured, values, begin).astype(np.float64)
        return np.where(measured, np.clip((known - begin) * gain + 0.5, 0, 255), 0).astype(np.uint8)


def _rgb(values: np.ndarray) -> np.ndarray:
    if values.shape[2] == 1:
        return cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(values)
