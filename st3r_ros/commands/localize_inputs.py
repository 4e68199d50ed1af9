# SPDX-License-Identifier: Apache-2.0
"""The images of `st3r localize`: queries and references, with their cameras and masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from st3r_ros.errors import FrameError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.bag import is_bag
from st3r_ros.io.calibration import Calibration, CameraChoice
from st3r_ros.io.image_file import image_suffixes, read_image, read_picture
from st3r_ros.io.layouts.folder import images_in, stamp_in
from st3r_ros.io.layouts.open import is_plain_folder, open_folder
from st3r_ros.io.masks import Masks
from st3r_ros.io.picture import ToneRange
from st3r_ros.io.stamps import format_stamp
from st3r_ros.sequences import open_sequence
from st3r_ros.types import Frame


@dataclass(frozen=True, eq=False)
class Query:
    """An image to localize. stamp_ns: capture time, None when unknown."""

    name: str
    stamp_ns: int | None
    frame: Frame


class Queries:
    """The images to localize: one file, a folder of images, or any other input of `st3r map`.

    camera: of the images, None for their own calibration; otherwise: for images without a calibration.
    calibration: where it is from, for people. newest: the last image. skipped: a sentence for each unusable image so far.
    length: number of images, None if unknown. notes: sentences on the calibration and on what is left out.
    """

    def __init__(
        self, source: str, camera: Calibration | None, otherwise: Calibration | None = None, masks: Masks | None = None
    ) -> None:
        self._masks = masks
        self.calibration = "the input's own calibration" if camera is None else _lowered(camera.source)
        self.newest: Frame | None = None
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self.length: int | None
        self._files: list[Path] = []
        path = Path(source)
        if path.is_file() and _is_image(path):
            self._files, self._camera = [path], None
            with suppress(FrameError):  # said when the image is to be localized
                self._camera = _camera_of(self._instead(camera, otherwise), path, read_image(path), self.notes)
        elif path.is_dir() and not is_bag(path) and is_plain_folder(path):
            self._files = images_in(path)
            folder = open_folder(path, camera)
            if folder.camera is None and otherwise is not None:
                folder = open_folder(path, self._instead(None, otherwise))
            self._camera = folder.camera
            self.notes += folder.notes
        if self._files:
            self.length = len(self._files)
            return
        self._sequence = open_sequence(source, camera=camera)
        if self._sequence.camera is None and otherwise is not None:
            self._sequence = open_sequence(source, camera=self._instead(None, otherwise))
        self.length = self._sequence.length
        self.notes += self._sequence.notes

    def _instead(self, camera: Calibration | None, otherwise: Calibration | None) -> Calibration | None:
        """The calibration where the images have none of their own."""
        if camera is None and otherwise is not None:
            self.calibration = _lowered(otherwise.source)
        return camera or otherwise

    def __iter__(self) -> Iterator[Query]:
        for query in self._unmasked():
            self.newest = query.frame
            try:
                yield query if self._masks is None else replace(query, frame=self._masks.apply(query.frame))
            except FrameError as error:
                self.skipped.append(f"{query.name}: {error}")

    def _unmasked(self) -> Iterator[Query]:
        if not self._files:
            for frame in self._sequence:
                yield Query(format_stamp(frame.stamp_ns), frame.stamp_ns, frame)
            self.skipped += [f"{item.source}: {item.reason}" for item in self._sequence.skipped]
            return
        for number, file in enumerate(self._files):
            try:
                frame = _frame(number, file, self._camera)
            except FrameError as error:
                self.skipped.append(str(error))
                continue
            yield Query(file.name, stamp_in(file.name), frame)


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in image_suffixes() and not file.name.startswith(".")


def reference_frame(number: int, path: str, calibration: Calibration | None, notes: list[str]) -> Frame:
    frame = _frame(number, Path(path))
    return replace(frame, camera=_camera_of(calibration, Path(path), frame.image, notes))


def _frame(number: int, file: Path, camera: Camera | None = None) -> Frame:
    """The image of a file, which is no part of a stream."""
    picture = read_picture(file)
    return Frame(number, number, ToneRange().to_rgb(picture), camera, source=str(file), mask=picture.usable)


def _camera_of(calibration: Calibration | None, path: Path, image: np.ndarray, notes: list[str]) -> Camera | None:
    """The camera of an image file. What is to be said of it is added to the notes."""
    choice = CameraChoice(path.stem)
    if calibration is not None:
        choice.add(calibration)
    height, width = image.shape[:2]
    camera = choice.camera(width, height)
    notes += choice.notes
    return camera


def named_references(paths: tuple[str, ...], frames: list[Frame]) -> Iterator[tuple[str, Frame]]:
    """The references by file name, or by path when names are equal."""
    names = [Path(path).name for path in paths]
    for path, name, frame in zip(paths, names, frames, strict=True):
        yield (name if names.count(name) == 1 else path), frame
