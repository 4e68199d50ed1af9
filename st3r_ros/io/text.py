# SPDX-License-Identifier: Apache-2.0
"""Text files as people and their programs write them: UTF-8 or UTF-16 with a byte order mark, older encodings, any line ends."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from st3r_ros.errors import InputError

_COMMENT = re.compile(r"#|%|//")
_LINE_END = re.compile(r"\r\n|\r|\n")


def read_text(path: Path) -> str:
    """The content of a text file.

    Raises:
        InputError: the file cannot be read or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0" if wide else data.decode("latin-1")  # numbers and names of columns are the same in all of these
    if "\0" in text:
        raise InputError(f"'{path}' is not a text file.")
    return text


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers from 1.

    Raises:
        InputError: the file cannot be read or is no text.
    """
    lines = ((number, line.strip()) for number, line in enumerate(_LINE_END.split(read_text(path)), start=1))
    return [(number, line) for number, line in lines if line]


def content_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are neither empty nor comments, with their numbers from 1.

    Raises:
        InputError: the file cannot be read or is no text.
    """
    return [(number, line) for number, line in numbered_lines(path) if not is_comment(line)]


def is_comment(line: str) -> bool:
    """Whether a line is marked as a comment."""
    return bool(_COMMENT.match(line))


def without_mark(line: str) -> str:
    """A comment without its marks."""
    return line.lstrip("#%/ ")
