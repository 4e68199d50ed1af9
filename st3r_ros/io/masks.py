# SPDX-License-Identifier: Apache-2.0
"""Masks of images: black where pixels are neither to be matched nor mapped (a robot's own arm, the bonnet of a car, people)."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import cv2
import numpy as np

from st3r_ros.errors import FrameError, InputError
from st3r_ros.io.image_file import IMAGE_SUFFIXES, image_suffixes, read_picture, turned_like
from st3r_ros.io.picture import Picture
from st3r_ros.io.stamps import format_stamp
from st3r_ros.types import Frame

logger = logging.getLogger(__name__)

ASPECT_TOLERANCE = 0.01


def mask_of(picture: Picture) -> np.ndarray:
    """The mask (H, W) bool of a picture: True where its brightest channel is at least half of what its type holds.

    16-bit pictures with values up to 255 are read as 8-bit; of values that are 0 and 1 only, 1 is True.
    """
    levels = picture.values.max(axis=2)
    largest = levels.max()
    if largest <= 1:
        return levels > 0.5
    if levels.dtype == np.uint16 and largest <= 255:
        levels = levels.astype(np.uint8)
    middle = np.iinfo(levels.dtype).max / 2 if levels.dtype.kind in "iu" else largest / 2
    return levels >= middle


def fitted(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """A mask at the size of its image, by nearest pixels.

    Raises:
        FrameError: it has another shape.
    """
    h, w = mask.shape
    if abs(w * height / (h * width) - 1.0) > ASPECT_TOLERANCE:
        raise FrameError(f"The mask is {w}x{h} pixels, but the image is {width}x{height}; they must have the same shape.")
    if (w, h) == (width, height):
        return mask
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


class Masks:
    """Masks from a folder, with the names of the images (`a.png` or `a.jpg.png` for `a.jpg`), or their stamps where images come
    from no files (`1700000000.066666667.png`, or in nanoseconds); or one file, the mask of every image.

    An image without a mask is used whole. The first such image is said, and the first mask that leaves nothing of its image.

    Raises:
        InputError: no such file or folder, or no images in it.
        FrameError: the one mask cannot be read.
    """

    def __init__(self, place: Path | str) -> None:
        self._place = Path(place)
        self._said: set[str] = set()
        self._static: np.ndarray | None = None
        self._files: dict[str, Path] = {}
        if self._place.is_dir():
            files = (file for file in self._place.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
            self._files = {str(file.relative_to(self._place)): file for file in files}
            if not self._files:
                raise InputError(f"The folder '{place}' contains no masks ({', '.join(IMAGE_SUFFIXES)}).")
        elif self._place.is_file():
            self._static = mask_of(read_picture(self._place))
        else:
            raise InputError(f"There is no file or folder of masks '{place}'.")

    def apply(self, frame: Frame) -> Frame:
        """The frame with its mask, within what it has already.

        Raises:
            FrameError: the mask cannot be read, or has not the shape of the image.
        """
        mask = self._static
        if mask is None:
            file = self._find(frame)
            if file is None:
                self._say(frame, "There is no mask for {} in '{}': images without a mask are used completely.")
                return frame
            mask = mask_of(read_picture(file))
        height, width = frame.image.shape[:2]
        if mask.shape == (width, height) != (height, width):
            mask = turned_like(Path(frame.source), mask)
        mask = fitted(mask, width, height)
        if not mask.any():
            self._say(frame, "The mask for {} in '{}' is dark everywhere: nothing of the image is used.")
        return dataclasses.replace(frame, mask=mask if frame.mask is None else mask & frame.mask)

    def _find(self, frame: Frame) -> Path | None:
        """By the longest end of the image's path that a mask has too."""
        source = Path(frame.source)
        if source.suffix.lower() in image_suffixes():
            parts = source.parts
            names = [Path(*parts[first:]) for first in range(max(1, len(parts) - 4), len(parts))]
        else:
            names = [Path(format_stamp(frame.stamp_ns) + ".png"), Path(f"{frame.stamp_ns}.png")]
        for name in names:
            for candidate in (str(name), f"{name}.png", *(str(name.with_suffix(suffix)) for suffix in IMAGE_SUFFIXES)):
                if candidate in self._files:
                    return self._files[candidate]
        return None

    def _say(self, frame: Frame, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            name = Path(frame.source).name if frame.source else format_stamp(frame.stamp_ns)
            logger.warning(sentence.format(name, self._place))
