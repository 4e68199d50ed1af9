# SPDX-License-Identifier: Apache-2.0
"""A plain folder of images, and what lies in it beside them.

Capture times come from the file names when every one of them is a time: a number of seconds with a decimal point
(`1305031102.175304.png`), or a whole number of milli-, micro- or nanoseconds since 1970 (`1403636579763555584.png`). Other names
are put in natural order (`2.png` before `10.png`), and frame i was taken at i / fps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from st3r_ros.errors import FrameError, InputError
from st3r_ros.io.image_file import HEIC_SUFFIXES, IMAGE_SUFFIXES, image_suffixes, why_no_heic
from st3r_ros.io.layouts.recording import (
    DEFAULT_FPS,
    Layout,
    Recording,
    Request,
    calibration,
    frame_stamp,
    image_entry,
    natural,
    steady,
)
from st3r_ros.io.stamps import parse_time

RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")
OTHER_SUFFIXES = (".avif", ".gif", ".jp2", ".j2k", ".jxl", ".exr", ".hdr", ".pfm", ".psd", ".svg")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mts", ".insv", ".bag", ".zip", ".tar", ".tgz", ".7z")

_TIME = re.compile(r"\d+\.\d+|\d{13}|\d{16}|\d{18,19}")
_NO_COLOUR = re.compile(r"(?<![a-z])(depth|disparity|disp|mask|normal|semantic|segmentation|confidence)s?(?![a-z])", re.I)
_NAMED = 3


def images_in(folder: Path) -> list[Path]:
    """The colour images of a folder (not of its subfolders), in natural order; depth images and masks beside them are left out.

    Raises:
        InputError: there are none; the message says what there is instead.
    """
    files = _readable(folder)
    beside = _beside_colour(files)
    images = [file for file in files if file not in beside]
    if not images:
        found = left_out(folder, ())
        there_is = f" It holds {'; '.join(found)}." if found else ""
        raise InputError(f"The folder '{folder}' holds no images ({', '.join(image_suffixes())}).{there_is}")
    return images


def has_images(folder: Path) -> bool:
    """Whether there is an image in a folder that can be read."""
    return any(_visible(file, image_suffixes()) for file in folder.iterdir())


def holds_no_colour(folder: Path) -> bool:
    """Whether a folder is by its name one of depth images, masks or the like."""
    return bool(_NO_COLOUR.search(folder.name.replace("_", "-")))


def stamp_in(name: str) -> int | None:
    """The capture time in nanoseconds that the name of a file is, None where it is no time."""
    stem = Path(name).stem
    try:
        return parse_time(stem) if _TIME.fullmatch(stem) else None
    except FrameError:
        return None  # a number too large to be a time


def stamped(files: list[Path], fps: float | None) -> tuple[list[tuple[int, Path]], str]:
    """The files with their stamps in nanoseconds, in order, and what to call those stamps. fps: None for those in the names."""
    if fps is None:
        named = [(stamp_ns, file) for file in files if (stamp_ns := stamp_in(file.name)) is not None]
        if len(named) == len(files):
            return sorted(named), "file names"
    rate = fps or DEFAULT_FPS
    return [(frame_stamp(i, rate), file) for i, file in enumerate(files)], steady(rate)


def left_out(folder: Path, used: Iterable[Path]) -> tuple[str, ...]:
    """A phrase for each kind of thing in a folder that is not among the images used."""
    taken = set(used)
    files = [file for file in sorted(folder.iterdir(), key=lambda f: natural(f.name)) if not file.name.startswith(".")]
    readable = [file for file in files if _visible(file, image_suffixes()) and file not in taken]
    beside = _beside_colour(_readable(folder))
    heic = "HEIC images" + (f", {why_no_heic()}" if why_no_heic() else "")
    kinds = {
        "depth images or masks": [file for file in readable if file in beside],
        "other images": [file for file in readable if file not in beside],
        heic: [file for file in files if file.suffix.lower() in HEIC_SUFFIXES and file not in taken and file not in readable],
        "raw images, which must be converted to JPEG or PNG": [file for file in files if file.suffix.lower() in RAW_SUFFIXES],
        "files of other formats": [
            file for file in files if file.suffix.lower() in OTHER_SUFFIXES and file not in readable and file not in taken
        ],
        "videos, bags or archives": [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES],
        "subfolders with images": [file for file in files if file.is_dir() and _holds_images(file)],
    }
    return tuple(f"{kind} ({len(found)}: {_listed(found)})" for kind, found in kinds.items() if found)


def find_cameras(root: Path) -> dict[str, Path]:
    """The folder itself, if there are images in it."""
    return {"": root} if has_images(root) else {}


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """The images of the folder, with the calibration of a `camera.yaml` among them."""
    files, stamps_from = stamped(images_in(root), request.fps)
    camera, calibration_from = calibration(request, root)
    return Recording([image_entry(stamp_ns, file) for stamp_ns, file in files], stamps_from, camera, calibration_from)


LAYOUT = Layout("a folder of images", "folder", find_cameras, read)


def _visible(file: Path, suffixes: tuple[str, ...]) -> bool:
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


def _readable(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if _visible(file, image_suffixes()))
    return sorted(files, key=lambda file: natural(file.name))


def _holds_images(folder: Path) -> bool:
    try:
        return any(_visible(file, (*IMAGE_SUFFIXES, *HEIC_SUFFIXES)) for file in folder.iterdir())
    except OSError:
        return False


def _beside_colour(files: list[Path]) -> set[Path]:
    """Those that are by their names depth images or masks of others: `1.depth.png` beside `1.color.png`."""
    colour = [file for file in files if not _NO_COLOUR.search(file.stem.replace("_", "-"))]
    numbers = {tuple(re.findall(r"\d+", file.stem)) for file in colour} - {()}
    return {file for file in files if tuple(re.findall(r"\d+", file.stem)) in numbers} - set(colour)


def _listed(found: list[Path]) -> str:
    return ", ".join(file.name for file in found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
