# SPDX-License-Identifier: Apache-2.0
"""Opens every source of images: folders and data sets, videos, bags, webcams, streams, the simulator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from st3r_ros.errors import ConfigError, InputError
from st3r_ros.io.address import is_address, parse_address
from st3r_ros.io.calibration import RECTIFIED, with_rectified
from st3r_ros.io.sequence import Selection, SkippedFrame
from st3r_ros.types import Frame, Trajectory

if TYPE_CHECKING:
    from st3r_ros.geometry.camera import Camera
    from st3r_ros.io.calibration import Calibration

SIMULATOR = "sim:"

_LISTS = (".txt", ".csv", ".yaml", ".yml", ".json", ".bin")


class FrameSequence(Protocol):
    """Frames in order; iterating again starts again. What the readers in `io/sequence.py` and the simulator have in common."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def kind(self) -> str:
        """folder, tum, euroc, kitti, ..., video, stream, bag, webcam or sim."""
        ...

    @property
    def origin(self) -> str:
        """A sentence on what was found at the source, "" where the name says it."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Notes about the calibration and about files that are not used."""
        ...

    @property
    def length(self) -> int | None:
        """How many frames it will yield if each can be read; None if unknown."""
        ...

    @property
    def camera(self) -> Camera | None:
        """The camera of the images, None when uncalibrated."""
        ...

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of most images, None where it is not known before they are read."""
        ...

    @property
    def truth(self) -> Trajectory | None:
        """T_world_cam where it is known."""
        ...

    @property
    def truth_notes(self) -> Sequence[str]:
        """What of the true poses is not used, and why; they are among the notes."""
        ...

    @property
    def skipped(self) -> Sequence[SkippedFrame]:
        """The frames of this iteration that could not be read, and the damage of the source, so far."""
        ...

    def stop(self) -> None:
        """End the iteration, also one that waits for an image. From any thread, or a signal's handler."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """The frames.

        Raises:
            InputError: not one image could be read.
            CalibrationError: the camera is for another image size.
        """
        ...


def open_sequence(
    source: str, camera: Camera | Calibration | None = None, every: int = 1, max_frames: int | None = None
) -> FrameSequence:
    """The frames of a source.

    source: an image folder, a folder of a data set (TUM, EuRoC, KITTI ...), a video file, a bag of ROS 2 (folder, .mcap, .db3) or
    ROS 1 (.bag), the index of a webcam, the address of a stream, or a simulated world such as `sim:room` (docs/command.md
    lists them). Options follow a question mark: `folder?fps=10`, `bag?topic=/camera/image_raw`, `sim:room?seed=3&frames=200`,
    `sim:rooms?length=60&frames=600`, `sim:room?kidnap=jump`.
    `rectified` (auto, yes or no) says whether images are rectified, for every source but streams and the simulator.
    camera: used instead of the calibration that comes with the source. every: take each n-th frame. max_frames: stop after them.

    Raises:
        InputError: the source does not exist, holds no images, or has an option that it does not know.
        CalibrationError: the calibration that comes with the source cannot be used.
    """
    selection = Selection(every, max_frames)
    if source.startswith(SIMULATOR):
        return _open_simulator(source, camera, selection)
    if is_address(source) and not Path(source).exists():
        from st3r_ros.io.live import StreamSequence

        return StreamSequence(parse_address(source), camera, selection)
    location, options = _split(source)
    path = Path(location).expanduser()
    if location.isdecimal() and not path.exists():
        from st3r_ros.io.live import WebcamSequence

        taken = _take_options(source, options, {"rectified": _rectified})
        return WebcamSequence(int(location), with_rectified(camera, **taken), selection)
    if not location or not path.exists():
        raise InputError(f"There is no file, folder or webcam '{location}'.")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise InputError(f"'{path}' is not readable for this user; change its permissions.")
    return _open_path(source, path, options, camera, selection)


def _open_simulator(source: str, camera: Camera | Calibration | None, selection: Selection) -> FrameSequence:
    import dataclasses

    from st3r_ros.config import SimulationConfig
    from st3r_ros.sim.sequence import SimulatedSequence

    if camera is not None:
        raise InputError(f"'{source}' has its own camera; omit the calibration.")
    location, options = _split(source)
    defaults = {item.name: item.default for item in dataclasses.fields(SimulationConfig) if item.name != "world"}
    known: dict[str, Callable[[str], Any]] = {name: type(value) for name, value in defaults.items()}
    try:
        config = SimulationConfig(world=location.removeprefix(SIMULATOR), **_take_options(source, options, known))
    except ConfigError as error:
        raise InputError(f"'{source}' cannot be simulated: {error}") from error
    return SimulatedSequence(config, selected=selection.indices(config.frames))


def _open_path(
    source: str, path: Path, options: dict[str, str], camera: Camera | Calibration | None, selection: Selection
) -> FrameSequence:
    from st3r_ros.io.bag import BagSequence, is_bag

    if is_bag(path):
        known: dict[str, Callable[[str], Any]] = {"topic": str, "camera_info": str, "rectified": _rectified}
        return BagSequence(path, camera, selection, **_take_options(source, options, known))
    if path.is_dir():
        from st3r_ros.io.layouts.open import open_folder

        of_folder: dict[str, Callable[[str], Any]] = {"fps": float, "camera": str, "rectified": _rectified}
        return open_folder(path, camera, selection, **_take_options(source, options, of_folder))
    taken = _take_options(source, options, {"rectified": _rectified})
    from st3r_ros.io.image_file import image_suffixes
    from st3r_ros.io.video import VideoSequence

    if path.suffix.lower() in image_suffixes():
        raise InputError(f"'{path}' is a single image; give the folder of the sequence.")
    if path.suffix.lower() in _LISTS:
        raise InputError(f"'{path}' is not a video; for a data set, give the folder: '{path.parent}'.")
    return VideoSequence(path, with_rectified(camera, **taken), selection)


def _split(source: str) -> tuple[str, dict[str, str]]:
    """The location and the options of a source; a path that exists as it is written has no options."""
    location, mark, query = source.partition("?")
    if not mark or Path(source).expanduser().exists():
        return source, {}
    options: dict[str, str] = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if not equals or key in options:
            raise InputError(f"The options '{query}' of '{source}' must have the form key=value&key=value, each key once.")
        options[key] = value
    return location, options


def _take_options(source: str, options: dict[str, str], known: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The options by name, converted to their types."""
    taken = {}
    for key, text in options.items():
        if key not in known:
            allowed = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InputError(f"'{source}' has the unknown option '{key}'; {allowed}.")
        try:
            taken[key] = known[key](text)
        except ValueError:
            raise InputError(f"The option {key} of '{source}' is '{text}', which is not a number.") from None
    return taken


def _rectified(text: str) -> str:
    if text not in RECTIFIED:
        raise InputError(f"The option rectified is '{text}'; it must be one of {', '.join(RECTIFIED)}.")
    return text
