# SPDX-License-Identifier: Apache-2.0
"""The lines of a text file of poses as cells, and the lines above them that say what they mean."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from st3r_ros.io.pose_columns import PoseColumns, columns_by_form
from st3r_ros.io.pose_direction import with_direction
from st3r_ros.io.pose_header import columns_by_header, order_in
from st3r_ros.io.text import is_comment, numbered_lines, without_mark

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?(e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class PoseTable:
    """rows: line numbers and cells. heading: the lines above the first row that hold no numbers. titled: whether the last of
    them is no comment. separator: of the cells, None for spaces."""

    rows: list[tuple[int, list[str]]]
    heading: list[str]
    titled: bool
    separator: str | None


def read_table(path: Path) -> PoseTable:
    """The content of a file.

    Raises:
        InputError: it cannot be read or is no text.
    """
    lines = numbered_lines(path)
    first = next((i for i, (_, line) in enumerate(lines) if _holds_numbers(line)), len(lines))
    above = lines[:first]
    sample = next((line for _, line in lines[first:]), "")
    separator, decimal_comma = _separator_of(sample)
    words = [(number, line) for number, line in above if not is_comment(line) and _is_words(line)]
    rows = [item for item in lines if item not in words and not is_comment(item[1])]
    heading = [without_mark(line) for number, line in above if is_comment(line) or (number, line) in words]
    titled = bool(words) and bool(above) and above[-1] == words[-1]
    return PoseTable([(number, _cells(line, separator, decimal_comma)) for number, line in rows], heading, titled, separator)


def columns_of(table: PoseTable, w_first: bool | None = None) -> PoseColumns:
    """The columns of a pose in the rows. w_first: as for `load_tum`.

    Raises:
        InputError: their meaning is unknown.
    """
    rows = [cells for _, cells in table.rows]
    counts = Counter(map(len, rows)).most_common(1)
    named = columns_by_header(table.heading, counts[0][0], table.separator, titled=table.titled) if counts else None
    if named is None:
        said = order_in(table.heading)
        named = columns_by_form(rows, table.separator, w_first=w_first if said is None else said)
    return with_direction(named, table.heading)


def _separator_of(line: str) -> tuple[str | None, bool]:
    """The separator of a line of numbers, None for spaces, and whether its numbers have decimal commas."""
    words = line.split()
    if ";" in line:
        return ";", bool(re.search(r"\d,\d", line))
    if "," in line and len(words) >= 4 and all(map(_DECIMAL_COMMA.fullmatch, words)):
        return None, True
    return next(((mark, False) for mark in ",|\t" if line.count(mark) >= 3), (None, False))


def _cells(line: str, separator: str | None, decimal_comma: bool) -> list[str]:
    if decimal_comma:
        line = line.replace(",", ".")
    if separator is None:
        return [cell.rstrip(":") for cell in line.replace(",", " ").split()]
    cells = [cell.strip().strip('"') for cell in line.split(separator)]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _holds_numbers(line: str) -> bool:
    """Whether a line is one of numbers: begins with one, and has more."""
    if is_comment(line):
        return False
    cells = [cell.strip('":') for cell in re.split(r"[\s,;|]+", line) if cell]
    return bool(_NUMBER.fullmatch(cells[0])) and sum(bool(_NUMBER.fullmatch(cell)) for cell in cells) >= 3 if cells else False


def _is_words(line: str) -> bool:
    """Whether a line begins with no number, as headings do."""
    cells = [cell.strip('":') for cell in re.split(r"[\s,;|]+", line)]
    words = [cell for cell in cells if cell and not _NUMBER.fullmatch(cell)]
    return bool(words) and not _NUMBER.fullmatch(cells[0]) and len(words) >= len([c for c in cells if c]) / 2
