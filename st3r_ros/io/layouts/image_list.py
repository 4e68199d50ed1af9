# SPDX-License-Identifier: Apache-2.0
"""Text files that list images with their times, a line each: `rgb.txt`, `data.csv`, `associations.txt`."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from st3r_ros.errors import FrameError, InputError
from st3r_ros.io.layouts.recording import frame_stamp, image_entry, steady
from st3r_ros.io.sequence import Entry, StampedImage
from st3r_ros.io.stamps import parse_time
from st3r_ros.io.text import content_lines


def read_list(path: Path, folder: Path, column: int | None = None) -> list[Entry]:
    """The images of a list, in its order; a line that is wrong becomes an image that cannot be read.

    Lines hold `stamp file`, separated by spaces, tabs or a comma; stamps as `parse_time` knows them. folder: of the files.
    column: of the stamp, where lines hold several pairs; None where they hold one, whose file may have spaces in its name.

    Raises:
        InputError: the file cannot be read, or lists nothing.
    """
    lines = content_lines(path)
    if lines and not any(character.isdigit() for character in lines[0][1].split(",")[0]):
        lines = lines[1:]  # a heading that is no comment
    if not lines:
        raise InputError(f"'{path}' lists no images (lines of: stamp file).")
    return [_entry(f"{path.name} line {number}", line, folder, column) for number, line in lines]


def split_line(line: str, column: int | None = None) -> tuple[int, str]:
    """The stamp in nanoseconds and the file of a line; column: as `read_list`.

    Raises:
        FrameError: the line does not hold both.
    """
    words = [word.strip() for word in line.split(",")] if "," in line else line.split(maxsplit=1 if column is None else -1)
    at = column or 0
    if len(words) < at + 2 or not words[at + 1]:
        raise FrameError(f"The line {line!r} does not consist of a stamp and a file.")
    return parse_time(words[at]), words[at + 1]


def renumbered(images: list[Entry], fps: float) -> tuple[list[Entry], str]:
    """The images with stamps at a steady rate instead of their own, and what to call those stamps."""
    stamps = (frame_stamp(i, fps) for i in range(len(images)))
    again = [dataclasses.replace(e, load=partial(_restamped, e, t), stamp_ns=t) for e, t in zip(images, stamps, strict=True)]
    return again, steady(fps)


def _restamped(entry: Entry, stamp_ns: int) -> StampedImage:
    return dataclasses.replace(entry.load(), stamp_ns=stamp_ns)


def _entry(source: str, line: str, folder: Path, column: int | None) -> Entry:
    try:
        stamp_ns, name = split_line(line, column)
    except FrameError as error:
        return Entry(source, partial(_refuse, str(error)))
    return image_entry(stamp_ns, folder / name, root=folder)


def _refuse(reason: str) -> StampedImage:
    raise FrameError(reason)
