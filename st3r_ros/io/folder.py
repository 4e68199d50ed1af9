# SPDX-License-Identifier: Apache-2.0
"""A folder of images.

Capture times come from the file names when every one of them is a time: a number of seconds with a decimal point
(`1305031102.175304.png`) or of nanoseconds of 18 or 19 digits (`1403636579763555584.png`). Other names are put in natural
order (`2.png` before `10.png`), and frame i was taken at i / fps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import find_camera
from st3r_ros.io.image_file import IMAGE_SUFFIXES, read_image
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage
from st3r_ros.io.stamps import NANOSECONDS, parse_stamp

DEFAULT_FPS = 30.0

_SECONDS, _NANOSECONDS = re.compile(r"\d+\.\d+"), re.compile(r"\d{18,19}")


class FolderSequence(ImageSequence):
    """The images of a folder (not of its subfolders); a `camera.yaml` among them is used if no camera is given.

    fps: assumed where the names tell no times.

    Raises:
        InputError: no such folder, no images in it, or fps is not positive.
        CalibrationError: `camera.yaml` cannot be used.
    """

    kind = "folder"

    def __init__(
        self,
        path: Path | str,
        camera: Camera | None = None,
        selection: Selection | None = None,
        fps: float = DEFAULT_FPS,
    ) -> None:
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"There is no folder '{path}'.")
        if not 0 < fps < 1e6:
            raise InputError(f"fps is {fps}; it must be a positive number of frames per second.")
        files = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")]
        if not files:
            raise InputError(f"The folder '{path}' holds no images ({', '.join(IMAGE_SUFFIXES)}).")
        self._stamped = _stamped(files, fps)
        super().__init__(
            path.resolve().name, camera=camera or find_camera(path), selection=selection or Selection(), total=len(files)
        )

    def _entries(self) -> Iterator[Entry]:
        for stamp_ns, file in self._stamped:
            yield Entry(file.name, partial(_load, stamp_ns, file))


def _load(stamp_ns: int, file: Path) -> StampedImage:
    return StampedImage(stamp_ns, read_image(file))


def _stamped(files: list[Path], fps: float) -> list[tuple[int, Path]]:
    """The files with their stamps in nanoseconds, in order."""
    try:
        if all(_SECONDS.fullmatch(file.stem) for file in files):
            return sorted((parse_stamp(file.stem), file) for file in files)
    except FrameError:
        pass  # a number too large to be a time
    if all(_NANOSECONDS.fullmatch(file.stem) for file in files):
        return sorted((int(file.stem), file) for file in files)
    ordered = sorted(files, key=lambda file: _natural(file.name))
    return [(round(i * NANOSECONDS / fps), file) for i, file in enumerate(ordered)]


def _natural(name: str) -> list[str | int]:
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
