# SPDX-License-Identifier: Apache-2.0
"""Base of all readers of images: selection of frames, handling of unreadable ones."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from st3r_ros.errors import CalibrationError, FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import Calibration, CameraChoice, Size
from st3r_ros.io.picture import Picture, ToneRange
from st3r_ros.types import Frame, Trajectory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SkippedFrame:
    """A frame that could not be read, or a part of the source that is lost.

    index: the id it would have had. source: file, message or line; the name of the sequence for a part of it. reason: a sentence.
    is_frame: False where the source itself is damaged or breaks off: that is no frame, and does not count as one.
    """

    index: int
    source: str
    reason: str
    is_frame: bool = True


@dataclass(frozen=True, eq=False)
class StampedImage:
    """A decoded image and its capture time."""

    stamp_ns: int
    image: Picture


@dataclass(frozen=True)
class Entry:
    """One image of a sequence, not yet read. `load` raises FrameError when it cannot be.

    camera: of this image, where it is not that of the sequence. stamp_ns: where it is known before the image is read.
    file: of the image, where it has one of its own.
    """

    source: str
    load: Callable[[], StampedImage]
    camera: Camera | None = None
    stamp_ns: int | None = None
    file: Path | None = None


@dataclass(frozen=True)
class Selection:
    """The selected frames of a stream: each `every`-th from the first on, at most `max_frames` of them (None: all).

    Raises:
        InputError: a number below 1.
    """

    every: int = 1
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"every is {self.every}; it must be at least 1 (1 takes each frame).")
        if self.max_frames is not None and self.max_frames < 1:
            raise InputError(f"max_frames is {self.max_frames}; it must be at least 1.")

    def take(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The selected ones of a stream."""
        stop = None if self.max_frames is None else (self.max_frames - 1) * self.every + 1
        return islice(entries, 0, stop, self.every)

    def indices(self, total: int) -> range:
        """Those of `total` frames that are selected."""
        return range(0, total, self.every)[: self.max_frames]

    def count(self, total: int | None) -> int | None:
        """How many of `total` are selected; of an unknown number at most `max_frames`."""
        return self.max_frames if total is None else len(self.indices(total))


class ImageSequence(ABC):
    """Frames of a folder, a file or a device, in order. Iterating again starts again.

    Images are RGB, not undistorted; one `ToneRange` brings all of them to 8 bit. An image that cannot be read is skipped and
    noted in `skipped`, which starts empty at each iteration; ids count the selected frames, skipped ones included. Where a stream
    breaks off it ends, and that is noted too. A frame of another size than the sequence's carries no camera.

    name: what a person calls it. kind: folder, tum, euroc, kitti, ..., video, stream, bag or webcam. length: how many frames it
    will yield if each can be read, None if unknown. camera: of the images, None when uncalibrated. truth: T_world_cam where it is
    known, else None. origin: a sentence on what was found, "" where the name says it. notes: sentences on what is left out.
    size: width and height of most images, None where the first one that is read decides.
    truth_notes: those of the notes that are about the true poses.
    source: what opens it again, `Frame.source` of images without a file of their own.

    camera, when made: a calibration that tells no size is for that of the first image.

    Raises:
        CalibrationError: the calibration cannot be used.

    Iterating raises:
        InputError: not one image could be read.
        CalibrationError: the camera is for another image size.
    """

    kind: str

    def __init__(
        self,
        name: str,
        *,
        camera: Camera | Calibration | None,
        selection: Selection,
        total: int | None,
        images: str = "",
        size: Size | None = None,
    ) -> None:
        """images: what tells whether they are rectified, in place of the name. size: of most of them, where it is known."""
        self.name = self.source = name
        self.size = size
        self._cameras = CameraChoice(images or name)
        if camera is not None:
            self._cameras.add(Calibration.of(camera) if isinstance(camera, Camera) else camera)
        early = size is not None and isinstance(camera, Calibration)
        self.camera = self._cameras.camera(*size) if early and size else self._cameras.expected()
        self.truth: Trajectory | None = None
        self.truth_notes: tuple[str, ...] = ()
        self.origin = ""
        self.notes: tuple[str, ...] = tuple(self._cameras.notes)
        self.skipped: list[SkippedFrame] = []
        self.length = selection.count(total)
        self._selection = selection
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End this iteration and later ones, also one that waits for an image. From any thread, or a signal's handler."""
        self._stopped.set()

    @abstractmethod
    def _entries(self) -> Iterable[Entry]:
        """All images, in order; what `every` leaves out is not loaded. Raises FrameError where the stream breaks off."""

    def _selected(self) -> Iterator[Entry]:
        count = 0
        try:
            for entry in self._selection.take(self._entries()):
                yield entry
                count += 1
        except FrameError as error:
            self.skipped.append(SkippedFrame(count, self.name, str(error), is_frame=False))

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        size, begun, settled = self.size, False, False
        tones = ToneRange()
        for index, entry in enumerate(self._selected()):
            if self._stopped.is_set():
                return
            try:
                loaded = entry.load()
                image = tones.to_rgb(loaded.image)
            except FrameError as error:
                self.skipped.append(SkippedFrame(index, entry.source, str(error)))
                continue
            begun, its_size = True, (image.shape[1], image.shape[0])
            size = size or its_size
            if size == its_size and not settled:
                self._settle_camera(entry.source, image)
                settled = True
            camera = self._camera_of(entry, image) if size == its_size else None
            source = self.source if entry.file is None else str(entry.file.resolve())
            yield Frame(index, loaded.stamp_ns, image, camera, source=source, mask=loaded.image.usable)
        if not begun and not self._stopped.is_set():
            first = f" The first reason: {self.skipped[0].reason}" if self.skipped else ""
            raise InputError(f"Not one image of '{self.name}' could be read ({len(self.skipped)} tried).{first}")

    def _camera_of(self, entry: Entry, image: np.ndarray) -> Camera | None:
        """The camera of an image of the sequence's size."""
        return entry.camera or self.camera

    def _settle_camera(self, source: str, image: np.ndarray) -> None:
        """Takes the calibration for the size of the images. Raises CalibrationError where it is for another one."""
        height, width = image.shape[:2]
        try:
            self.camera = self._cameras.camera(width, height)
        except CalibrationError as error:
            raise CalibrationError(f"{error} (The first image of that size in '{self.name}' is '{source}'.)") from error
        late = [note for note in self._cameras.notes if note not in self.notes]
        for note in late:
            logger.warning(note)
        self.notes = (*self.notes, *late)
