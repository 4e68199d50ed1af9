# SPDX-License-Identifier: Apache-2.0
"""The images of an export: their names, their sizes, and where a pixel of the map lies in them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from st3r_ros.io.image_file import HEIC_SUFFIXES, IMAGE_SUFFIXES
from st3r_ros.types import Keyframe

SOURCES_FILE = "keyframes.csv"


@dataclass(frozen=True)
class Original:
    """The image that a keyframe was made from, at full resolution and without lens distortion, as the bytes of a file.

    size: width and height.
    """

    size: tuple[int, int]
    data: bytes
    suffix: str = ".jpg"


OriginalImages = Callable[[Sequence[Keyframe]], Iterator[tuple[Keyframe, Original]]]
"""Gives the originals of all the keyframes, in any order."""


@dataclass(frozen=True, eq=False)
class ExportedImage:
    """An image of an export. size: width and height. A pixel of the map lies at `(pixel + 0.5 + offset) * scale - 0.5` in it."""

    name: str
    size: tuple[int, int]
    scale: np.ndarray = field(default_factory=lambda: np.ones(2))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(2))

    @staticmethod
    def at_full_resolution(name: str, size: tuple[int, int], working_size: tuple[int, int]) -> ExportedImage:
        """From the rule of the pair models: the whole image is scaled, and cropped at most in one direction, about its centre."""
        full, working = np.array(size), np.array(working_size)
        resized = np.rint(full * (working / full).max())
        return ExportedImage(name, size, full / resized, (resized - working) // 2)

    def to_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of the map, as float64 pixels of this image."""
        return (pixels + 0.5 + self.offset) * self.scale - 0.5

    def to_intrinsics(self, K: np.ndarray) -> np.ndarray:
        """The (3, 3) intrinsics of this image, from those of the map's."""
        matrix = np.diag([*self.scale, 1.0])
        matrix[:2, 2] = self.to_pixels(np.zeros(2))
        return matrix @ K


def working_images(keyframes: Iterable[Keyframe]) -> list[ExportedImage]:
    """The keyframes' own images under the names of the originals."""
    keyframes = list(keyframes)
    stems = exported_stems(keyframes)
    return [ExportedImage(f"{stems[k.id]}.jpg", (k.image.shape[1], k.image.shape[0])) for k in keyframes]


def exported_stems(keyframes: Sequence[Keyframe]) -> dict[int, str]:
    """The file names without suffix, by the ids of the keyframes: those of the original files; the number of the keyframe where
    there is none, and before names that come twice or have characters that other programs stumble over.
    """
    numbered = {k.id: f"{k.id:06d}" for k in keyframes}
    stems = {k.id: PurePath(k.source).stem if is_image_file(k.source) else "" for k in keyframes}
    times = Counter(stem.casefold() for stem in stems.values())
    names = {}
    for keyframe_id, stem in stems.items():
        safe = re.sub(r"[^0-9A-Za-z._-]+|^[.-]", "_", stem)
        unique = stem and safe == stem and times[stem.casefold()] == 1
        names[keyframe_id] = stem if unique else f"{numbered[keyframe_id]}_{safe}" if stem else numbered[keyframe_id]
    return names if len({name.casefold() for name in names.values()}) == len(names) else numbered


def is_image_file(source: str) -> bool:
    """Whether the source of a frame is the path of an image file."""
    return PurePath(source).suffix.lower() in (*IMAGE_SUFFIXES, *HEIC_SUFFIXES, ".avif")


def sources_table(keyframes: Iterable[Keyframe], images: Sequence[ExportedImage] | None = None) -> bytes:
    """CSV: which original each keyframe comes from. images: of the keyframes, where they are exported."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*(["image"] if images else []), "keyframe", "frame", "stamp_ns", "source"])
    for row, keyframe in enumerate(keyframes):
        name = [images[row].name] if images else []
        table.writerow([*name, keyframe.id, keyframe.frame_id, keyframe.stamp_ns, keyframe.source])
    return text.getvalue().encode(errors="surrogateescape")
