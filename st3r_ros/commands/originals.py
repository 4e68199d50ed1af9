# SPDX-License-Identifier: Apache-2.0
"""The images that a map was made from, found again and brought to what the map's cameras saw: full size, no lens distortion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from st3r_ros.errors import InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.undistortion import Undistorter
from st3r_ros.io.image_file import is_plain, read_picture, read_size
from st3r_ros.io.picture import ToneRange
from st3r_ros.maps.exported import Original, is_image_file
from st3r_ros.maps.pictures import encode_jpeg
from st3r_ros.sequences import open_sequence
from st3r_ros.types import Keyframe


class Originals:
    """Finds originals where the map says that they are, or, with `place`, there.

    place: a folder with the files in it or below it, or the input again (bag, video, ...), in which images are found by their
    stamps; "" for where they were.
    """

    def __init__(self, place: str = "") -> None:
        self._place = place
        self._tones = ToneRange()
        self._undistorters: dict[Camera, Undistorter] = {}

    def __call__(self, keyframes: Sequence[Keyframe]) -> Iterator[tuple[Keyframe, Original]]:
        """The originals of all keyframes.

        Raises:
            InputError: one of them is not found; nothing is yielded then where that is known before.
            FrameError: one of them cannot be read.
        """
        files, inputs = self._located(keyframes)
        for keyframe, file in files:
            yield keyframe, self._of_file(keyframe, file)
        for source, wanted in inputs.items():
            yield from self._of_input(source, wanted)

    def _located(self, keyframes: Sequence[Keyframe]) -> tuple[list[tuple[Keyframe, Path]], dict[str, list[Keyframe]]]:
        """The files of the keyframes, and the keyframes of each input that is to be opened again."""
        below = _files_below(Path(self._place)) if self._place and Path(self._place).is_dir() else {}
        files, inputs, missing = [], defaultdict(list), []
        for keyframe in keyframes:
            source = keyframe.source
            if is_image_file(source) and (below or not self._place):
                file = _closest(Path(source), below.get(Path(source).name, ())) if self._place else Path(source)
                if file is not None and file.is_file():
                    files.append((keyframe, file))
                else:
                    missing.append(source)
            elif self._place or source:
                inputs[self._place or source].append(keyframe)
            else:
                missing.append(f"the image of keyframe {keyframe.id}, whose source the map does not tell")
        if missing:
            where = f" in '{self._place}'" if self._place else ""
            raise InputError(
                f"{len(missing)} of {len(keyframes)} original images are not found{where}; the first is '{missing[0]}'. Give "
                "their folder, or the input that was mapped, with --originals."
            )
        return files, inputs

    def _of_file(self, keyframe: Keyframe, file: Path) -> Original:
        """The file itself where any program sees in it what the map's camera saw; else a JPEG."""
        if keyframe.lens is None and is_plain(file):
            return Original(read_size(file), file.read_bytes(), file.suffix)
        image = self._undistorted(self._tones.to_rgb(read_picture(file)), keyframe.lens)
        return Original((image.shape[1], image.shape[0]), encode_jpeg(image))

    def _of_input(self, source: str, wanted: list[Keyframe]) -> Iterator[tuple[Keyframe, Original]]:
        by_stamp = {keyframe.stamp_ns: keyframe for keyframe in wanted}
        for frame in open_sequence(source):
            keyframe = by_stamp.pop(frame.stamp_ns, None)
            if keyframe is not None:
                own = frame.camera if frame.camera is not None and frame.camera.has_distortion else None
                image = self._undistorted(frame.image, keyframe.lens or own)
                yield keyframe, Original((image.shape[1], image.shape[0]), encode_jpeg(image))
            if not by_stamp:
                return
        raise InputError(
            f"'{source}' has no image of the stamp {min(by_stamp) * 1e-9:.9f} s, which is in the map ({len(by_stamp)} of "
            f"{len(wanted)} are missing); give the input that was mapped with --originals."
        )

    def _undistorted(self, image: np.ndarray, lens: Camera | None) -> np.ndarray:
        if lens is None:
            return image
        lens = lens.scaled(image.shape[1], image.shape[0])
        if lens not in self._undistorters:
            self._undistorters[lens] = Undistorter(lens)
        return self._undistorters[lens].rectify(image)


def _files_below(folder: Path) -> dict[str, list[Path]]:
    files = defaultdict(list)
    for file in folder.rglob("*"):
        files[file.name].append(file)
    return files


def _closest(source: Path, candidates: Sequence[Path]) -> Path | None:
    """The candidate whose path ends most like that of the source."""

    def alike(candidate: Path) -> int:
        pairs = zip(reversed(candidate.resolve().parts), reversed(source.parts), strict=False)
        return next((count for count, (a, b) in enumerate(pairs) if a != b), len(source.parts))

    return max(candidates, key=alike, default=None)
