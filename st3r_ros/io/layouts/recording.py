# SPDX-License-Identifier: Apache-2.0
"""Folder layouts and recordings: the images of one camera with stamps, calibration and ground truth."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from st3r_ros.errors import CalibrationError, FrameError, GeometryError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.se3 import SE3
from st3r_ros.io.calibration import Calibration, find_calibration, with_rectified
from st3r_ros.io.image_file import read_picture, read_size
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage
from st3r_ros.io.stamps import NANOSECONDS
from st3r_ros.types import Trajectory

if TYPE_CHECKING:
    from st3r_ros.io.tum import DepthImages

DEFAULT_FPS = 30.0
GIVEN = "the given one"


@dataclass(frozen=True)
class Request:
    """What the user asks of a folder.

    fps: of the images, instead of the times that the folder gives; None for those. calibration: instead of the folder's.
    """

    fps: float | None = None
    calibration: Camera | Calibration | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """The images of one camera, in order, and what the folder tells about them.

    stamps_from, calibration_from, truth_from: where each comes from, for a person; "" where there is none.
    notes: a sentence for each thing that lies in the folder and is not used. depth: the depth images of the TUM layout.
    """

    images: Sequence[Entry]
    stamps_from: str
    camera: Camera | Calibration | None = None
    calibration_from: str = ""
    truth: Trajectory | None = None
    truth_from: str = ""
    notes: tuple[str, ...] = ()
    depth: DepthImages | None = None


@dataclass(frozen=True, eq=False)
class Truth:
    """True poses T_world_cam, None where there are none that can be used; the file they are from; notes."""

    trajectory: Trajectory | None = None
    source: str = ""
    notes: tuple[str, ...] = ()


def optional_truth(read: Callable[[], Truth]) -> Truth:
    """The true poses of `read`; where they cannot be read, a note instead. They are no reason to refuse the images."""
    try:
        return read()
    except (CalibrationError, FrameError, GeometryError, InputError) as error:
        return Truth(notes=(f"The true poses are not used: {error}",))


@dataclass(frozen=True)
class Layout:
    """One way to lay out a sequence in folders.

    title: what a person calls it. kind: the kind of the sequences. cameras: the image folder of each camera below a folder,
    empty when that folder does not have this layout; a layout of one camera calls it "". read: the recording of one of them.
    """

    title: str
    kind: str
    cameras: Callable[[Path], Mapping[str, Path]]
    read: Callable[[Path, str, Request], Recording]


class ListedSequence(ImageSequence):
    """The images of a recording.

    depth: its depth images, None where it has none that can be used. stamps_by_name: nanoseconds by the images' file names.
    """

    def __init__(self, name: str, kind: str, recording: Recording, selection: Selection, *, folder: str, rectified: str) -> None:
        """folder: of the images, whose name may tell that they are rectified. rectified: auto, yes or no."""
        camera = with_rectified(recording.camera, rectified)
        size = _first_size(recording) if isinstance(camera, Calibration) else None
        images, total = recording.images, len(recording.images)
        super().__init__(name, camera=camera, selection=selection, total=total, images=folder, size=size)
        self.kind = kind
        self.truth = recording.truth
        self.depth = recording.depth
        self.stamps_by_name = {Path(e.source).name: e.stamp_ns for e in recording.images if e.stamp_ns is not None}
        self._images = images

    def _entries(self) -> Sequence[Entry]:
        return self._images


def image_entry(stamp_ns: int, file: Path, camera: Camera | None = None, root: Path | None = None) -> Entry:
    """The entry of an image file, named below `root` where that is given. camera: of this image, None for the sequence's."""
    source = file.name if root is None else os.path.relpath(file, root)
    return Entry(source, partial(_load, stamp_ns, file), camera, stamp_ns, file)


def _load(stamp_ns: int, file: Path) -> StampedImage:
    return StampedImage(stamp_ns, read_picture(file))


def calibration(request: Request, *folders: Path) -> tuple[Camera | Calibration | None, str]:
    """The user's calibration, or that of the first `camera.yaml` in some folders, and where it comes from."""
    if request.calibration is not None:
        return request.calibration, GIVEN
    for folder in folders:
        found = find_calibration(folder)
        if found is not None:
            return found, "camera.yaml"
    return None, ""


def _first_size(recording: Recording) -> tuple[int, int] | None:
    """The size of the first image, None where that cannot be read."""
    try:
        height, width = recording.images[0].load().image.values.shape[:2]
    except FrameError:
        return None
    return width, height


def image_size(file: Path) -> tuple[int, int]:
    """Width and height of the images that begin with `file`.

    Raises:
        CalibrationError: the file is no image; a calibration that gives no size needs one.
    """
    try:
        return read_size(file)
    except FrameError as error:
        raise CalibrationError(f"The calibration gives no image size, and the first image cannot be read: {error}") from error


def frame_stamp(index: int, fps: float) -> int:
    """Nanoseconds of frame `index` at a steady rate."""
    return round(index * NANOSECONDS / fps)


def steady(fps: float) -> str:
    """What to call stamps at a steady rate."""
    return f"{fps:g} images/s assumed (?fps= changes this)"


def counted(number: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def natural(name: str) -> list[str | int]:
    """A key that sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def last_number(name: str) -> int:
    """The last number in a name that has one: frame-000012.color -> 12."""
    return int(re.findall(r"\d+", name)[-1])


def numbers_of(path: Path, count: int | None = None) -> np.ndarray:
    """All numbers of a text file, whatever separates them, float64.

    Raises:
        InputError: the file cannot be read, holds something else, or not `count` of them.
    """
    try:
        values = np.array([float(word) for word in path.read_text(encoding="utf-8").replace(",", " ").split()])
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"'{path}' contains something that is not a number: {error}.") from error
    if count is not None and len(values) != count:
        raise InputError(f"'{path}' holds {len(values)} numbers; it must hold {count}.")
    return values


def trajectory_of(poses: Mapping[int, np.ndarray | None]) -> tuple[Trajectory | None, tuple[str, ...]]:
    """The trajectory of matrices T_world_cam (4, 4) by stamp, and a note where some are none: None, not finite, no rotation."""
    good: dict[int, SE3] = {}
    for stamp_ns in sorted(poses):
        matrix = poses[stamp_ns]
        try:
            if matrix is not None:
                good[stamp_ns] = SE3.from_matrix(matrix)
        except GeometryError:
            continue
    bad = len(poses) - len(good)
    notes = (f"Left out: true poses that are not valid ({bad} of {len(poses)}).",) if bad else ()

    if not good:
        return None, notes
    positions, quaternions = zip(*((T.translation, T.quaternion_xyzw) for T in good.values()), strict=True)
    return Trajectory(np.array(list(good), dtype=np.int64), np.stack(positions), np.stack(quaternions)), notes
