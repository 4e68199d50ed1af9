# SPDX-License-Identifier: Apache-2.0
"""Folder layouts and recordings: the images of one camera with stamps, calibration and ground truth."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from st3r_ros.errors import CalibrationError, FrameError, GeometryError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.calibration import Calibration, find_calibration, with_rectified
from st3r_ros.io.image_file import read_picture
from st3r_ros.io.image_size import calibrated_sizes, size_of_files
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage
from st3r_ros.io.stamps import NANOSECONDS
from st3r_ros.io.text import read_text
from st3r_ros.io.trajectory import TUM_KIND, TrajectoryFile
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
class Truth:
    """True poses T_world_cam, None where there are none that can be used.

    source: the file they are from. notes: a sentence for what of it is not used, or to be known.
    """

    trajectory: Trajectory | None = None
    source: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of_file(cls, found: TrajectoryFile, name: str, *, of_camera: bool = True) -> Truth:
        """The truth of a file of poses. of_camera: whether the poses are taken as those of the camera."""
        notes = tuple(f"True poses: {said}" for said in (*found.notes, found.left_out) if said)
        if not len(found.trajectory):
            return cls(notes=(*notes, f"There are no true poses: '{name}' holds no valid one."))
        if of_camera and found.of_body:
            notes = (*notes, f"'{name}' has {found.kind}, where poses are those of the body; they are taken as the camera's.")
        kind = "" if found.kind == TUM_KIND else f" ({found.kind})"
        return cls(found.trajectory, f"{name}{kind}", notes)


@dataclass(frozen=True, eq=False)
class Recording:
    """The images of one camera, in order, and what the folder tells about them.

    stamps_from, calibration_from: where each comes from, for a person; "" where there is none. truth: of the camera.
    notes: a sentence for each thing that lies in the folder and is not used. depth: the depth images of the TUM layout.
    """

    images: Sequence[Entry]
    stamps_from: str
    camera: Camera | Calibration | None = None
    calibration_from: str = ""
    truth: Truth = field(default_factory=Truth)
    notes: tuple[str, ...] = ()
    depth: DepthImages | None = None


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
    stamps_ns: of all images, in order; None where that of one is not known.
    """

    def __init__(self, name: str, kind: str, recording: Recording, selection: Selection, *, folder: str, rectified: str) -> None:
        """folder: of the images, whose name may tell that they are rectified. rectified: auto, yes or no."""
        camera = with_rectified(recording.camera, rectified)
        images, total = recording.images, len(recording.images)
        files = [file for entry in selection.take(images) if (file := entry.file) is not None]
        size = size_of_files(files, calibrated_sizes(camera, folder))
        super().__init__(name, camera=camera, selection=selection, total=total, images=folder, size=size)
        self.kind = kind
        self.truth = recording.truth.trajectory
        self.truth_notes = recording.truth.notes
        self.depth = recording.depth
        self.stamps_by_name = {Path(e.source).name: e.stamp_ns for e in recording.images if e.stamp_ns is not None}
        stamps = [image.stamp_ns for image in images]
        self.stamps_ns = None if None in stamps else np.array(stamps, dtype=np.int64)
        self._images = images
        self.notes = (*self.notes, *_doubts(images, self.camera))

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


def _doubts(images: Sequence[Entry], first: Camera | None) -> tuple[str, ...]:
    """What a person should know of the cameras that images have of their own; `first` was looked at already."""
    own = {image.camera: image.source for image in images if image.camera is not None and image.camera != first}
    doubts = [doubt for camera in own for doubt in Calibration.of(camera, f"The camera of '{own[camera]}'").doubts(camera)]
    more = (f"{len(doubts) - 1} more doubts of this kind, about other images' cameras, are not listed.",) if doubts[1:] else ()
    return (*doubts[:1], *more)


def image_size(files: Sequence[Path]) -> tuple[int, int]:
    """Width and height of most of the images.

    Raises:
        CalibrationError: not one of them can be read; a calibration that gives no size needs one.
    """
    size = size_of_files(files)
    if size is None:
        raise CalibrationError(f"The calibration gives no image size, and no image can be read, like '{files[0]}'.")
    return size


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
        values = np.array([float(word) for word in re.split(r"[\s,;]+", read_text(path).strip(" \r\n,;"))])
    except ValueError as error:
        raise InputError(f"'{path}' contains something that is not a number: {error}.") from error
    if count is not None and len(values) != count:
        raise InputError(f"'{path}' holds {len(values)} numbers; it must hold {count}.")
    return values


def truth_of(poses: Mapping[int, tuple[str, np.ndarray | InputError]], source: str) -> Truth:
    """The truth of single poses by stamp: the name of each, and its matrix T_world_cam (4, 4) or why it cannot be read.

    source: what to call them. What is not finite or no rotation is left out.
    """
    good: dict[int, SE3] = {}
    reasons = []
    for stamp_ns in sorted(poses):
        name, pose = poses[stamp_ns]
        try:
            if isinstance(pose, InputError):
                raise pose
            good[stamp_ns] = SE3.from_matrix(pose)
        except (GeometryError, InputError) as error:
            reasons.append(f"{name}: {error}")
    notes = (f"Left out: true poses that are not valid ({len(reasons)} of {len(poses)}); first: {reasons[0]}",) if reasons else ()
    if not good:
        return Truth(notes=notes)
    positions, quaternions = zip(*((T.translation, T.quaternion_xyzw) for T in good.values()), strict=True)
    return Truth(Trajectory(np.array(list(good), dtype=np.int64), np.stack(positions), np.stack(quaternions)), source, notes)


def read_pose(file: Path) -> np.ndarray | InputError:
    """The matrix (4, 4) of a file, or why it cannot be read."""
    try:
        return numbers_of(file, 16).reshape(4, 4)
    except InputError as error:
        return error
