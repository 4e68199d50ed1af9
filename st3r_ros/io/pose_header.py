# SPDX-License-Identifier: Apache-2.0
"""The columns of a pose that the header of a file names: in the words of data sets, ROS exports, PX4 and motion capture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

from st3r_ros.errors import InputError
from st3r_ros.io.pose_columns import ACCEPTED, POSITIONS_ONLY, TUM_COLUMNS, PoseColumns
from st3r_ros.io.stamps import NANOSECONDS

_UNITS = {
    NANOSECONDS: ("s", "sec", "secs", "second", "seconds"),
    1_000_000: ("ms", "msec", "millisec", "milliseconds"),
    1_000: ("us", "usec", "microsec", "microseconds"),
    1: ("ns", "nsec", "nsecs", "nanosec", "nanosecs", "nanoseconds"),
}
_UNIT_OF = {name: unit for unit, names in _UNITS.items() for name in names}
_MATRIX = "r|rot|rotation|m|matrix"
_ANGLE = re.compile(r"(.+\.)?(roll|pitch|yaw|heading|euler.*|r[xyz]|theta)(\..+)?")
_METRES = {"mm": 1e-3, "millimeters": 1e-3, "cm": 1e-2, "centimeters": 1e-2}
_TIMES = (r"(.+\.)?header\.stamp", r"(time\.?)?stamp", r"(.+\.)?time\.?stamp", r"(.+\.)?(stamp|time)", r"ts?|(.+\.)?times?")
_BRACKETS = re.compile(r"[\[(]\s*([^\])]*?)\s*[\])]")
_NUMBERED = re.compile(r"(.+\.)?(q|quat|quaternion|orientation|rotation)\.?[0-4]")
_QUATERNION = ("[xi]", "[yj]", "[zk]", "[wrls]")
"""The parts of a quaternion, which some call i, j, k and real (or l, or s for scalar)."""
_LISTED = 6
_GROUPS = {"q": "q|quat|quaternion|rot|rotation|ori|orientation|attitude", "p": "t|p|pos|position|trans|translation|location"}


@dataclass(frozen=True)
class _Header:
    """The names of columns as one dotted word each, `field.pose.position.x`, and the units in brackets behind them."""

    text: str
    names: tuple[str, ...]
    units: tuple[str, ...] = field(default=())

    @property
    def quote(self) -> str:
        """The header for a message."""
        return repr(self.text[:200])

    def find(self, *patterns: str) -> int | None:
        """The column of the first pattern that any name has. Raises InputError where several have it."""
        for pattern in patterns:
            found = [i for i, name in enumerate(self.names) if re.fullmatch(pattern, name)]
            if len(found) > 1:
                raise InputError(f"its header names several columns alike: {self.quote}. {ACCEPTED}.")
            if found:
                return found[0]
        return None

    def find_all(self, group: str, letters: Sequence[str]) -> tuple[int, ...]:
        """The columns of x, y, z (and w) of a position (p) or quaternion (q); () unless all of them are there.

        letters: a pattern for each of them.
        """
        words = _GROUPS[group]
        columns = [
            self.find(
                rf"(?:{words})\.?{letter}",
                rf"(?:.+\.)?(?:{words})\.{letter}",
                rf"{group}\..+\.{letter}",  # EuRoC: p_RS_R_x
                *([rf"(?:.+\.)?pose\.{letter}", letter] if group == "p" else []),
            )
            for letter in letters
        ]
        return _all_of(columns)

    def find_matrix(self) -> tuple[int, ...]:
        """The columns of a rotation matrix, row by row: r11 to r33, or r00 to r22; () unless all of them are there."""
        for first in "012", "123":
            found = _all_of([self.find(rf"(?:.+\.)?(?:{_MATRIX})\.?{i}\.?{j}") for i in first for j in first])
            if found:
                return found
        return ()


def _all_of(columns: Sequence[int | None]) -> tuple[int, ...]:
    found = tuple(column for column in columns if column is not None)
    return found if len(found) == len(columns) else ()


def columns_by_header(heading: Iterable[str], count: int, separator: str | None, *, titled: bool) -> PoseColumns | None:
    """The columns that the lines above the first pose name, None where they name none.

    count: values in a line. titled: whether the last line of the heading is no comment, so it must be obeyed.

    Raises:
        InputError: a header that cannot be obeyed.
    """
    lines = list(heading)
    for at in reversed(range(len(lines))):
        header = _header(lines[at], separator)
        if len(set(header.names)) < len(header.names) and at and titled:  # OptiTrack has a line of groups above
            above = _header(lines[at - 1], separator).names
            header = replace(header, names=tuple(f"{a}.{n}".strip(".") for a, n in zip(above, header.names, strict=False)))
        columns = _named(header, count)
        whole = columns is not None and (columns.quaternion_xyzw or columns.matrix)
        certain = columns is not None and (columns.stamp or whole or (titled and at == len(lines) - 1))
        if columns is not None and certain:
            scales = [_METRES[word] for line in lines for word in re.findall(r"\w+", line.lower()) if word in _METRES]
            return replace(columns, metres=scales[0]) if scales and columns.metres == 1.0 else columns
        if titled and at == len(lines) - 1 and len(header.names) >= count:
            raise InputError(f"its header names no columns of a position: {header.quote}. {ACCEPTED}.")
    return None


def order_in(heading: Iterable[str]) -> bool | None:
    """Whether comments say that the quaternion's w comes first, None where they do not tell its order."""
    for line in heading:
        letters = " ".join(re.sub("^q_?", "", word) for word in re.findall(r"[a-z_]+", line.lower()))
        found = re.search(r"\b(w x y z|wxyz|r i j k|x y z w|xyzw|i j k r|(?:scalar|w) (?:first|last))\b", letters)
        if found:
            return found[1].endswith(("z", "k", "first"))
    return None


def _header(line: str, separator: str | None) -> _Header:
    joined = re.sub(r"\s+(?=[\[(])", "", line) if separator is None or separator not in line else line
    marks = separator if separator and separator in joined else next((m for m in ";,\t" if m in joined), None)
    cells = [cell.strip().strip('"') for cell in joined.split(marks)]
    begins = max((i + 1 for i, cell in enumerate(cells) if cell.endswith(":")), default=0)  # format: timestamp ...
    units = [next(iter(_BRACKETS.findall(cell)), "").lower() for cell in cells[begins:]]
    return _Header(line, tuple(map(_name, cells[begins:])), tuple(units))


def _name(cell: str) -> str:
    """A column's name in small words: `p_RS_R_x [m]` -> p.rs.r.x, `q[0]` -> q.0, `PosX` -> pos.x."""
    plain = _BRACKETS.sub(lambda found: f".{found[1]}" if found[1].isdigit() else "", cell)
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", ".", plain)
    return ".".join(re.findall(r"[a-z0-9]+", parted.lower()))


def _named(header: _Header, count: int) -> PoseColumns | None:
    """The columns of a header, None where it names no position."""
    if {"image.id", "camera.id"} & set(header.names):
        raise InputError("it is images.txt of COLMAP: give the folder that has it in sparse/0 and the images in images/.")
    position, quaternion = header.find_all("p", "xyz"), header.find_all("q", _QUATERNION)
    px4 = "timestamp.sample" in header.names
    if px4:
        position = position or tuple(i for n in "012" if (i := header.find(rf"position\.{n}")) is not None)
        quaternion = quaternion or tuple(i for n in "1230" if (i := header.find(rf"q\.{n}")) is not None)
    if len(position) != 3:
        return None
    if not quaternion and any(_NUMBERED.fullmatch(name) for name in header.names):
        raise InputError(f"its header numbers the parts of the quaternion ({header.quote}); name them qx, qy, qz and qw.")
    stamp, unit = _stamp(header)
    shift = int(not stamp and len(header.names) == count - 1)  # names of all but the stamp
    rotation = () if quaternion else header.find_matrix()
    matrix = tuple(i for row in range(3) for i in (*rotation[3 * row : 3 * row + 3], position[row])) if rotation else ()
    kind = "the columns of its header" if quaternion or matrix else POSITIONS_ONLY
    scale = _METRES.get(header.units[position[0]], 1.0)
    columns = PoseColumns(
        kind,
        len(header.names) + shift,
        stamp if not shift else (0,),
        () if matrix else tuple(i + shift for i in position),
        tuple(i + shift for i in quaternion),
        tuple(i + shift for i in matrix),
        unit_ns=1_000 if px4 else unit,
        metres=scale,
        more=True,
        of_body="p.rs.r.x" in header.names,
        notes=_not_read(header, {*stamp, *position}) if kind == POSITIONS_ONLY else (),
    )
    abbreviated = stamp == (0,) and header.text.rstrip().endswith(("...", "…"))  # the rest of the columns is not named
    if (columns.count < count and not abbreviated) or columns.last >= count:
        raise InputError(f"its header names {len(header.names)} columns, but its lines have {count} values: {header.quote}.")
    in_order = (columns.stamp, columns.position, columns.quaternion_xyzw) == ((0,), (1, 2, 3), (4, 5, 6, 7))
    return replace(columns, kind=TUM_COLUMNS.kind) if in_order else columns


def _not_read(header: _Header, read: Set[int]) -> tuple[str, ...]:
    """What is to be said of the columns beside those of positions, which may be of rotations."""
    others = [name for i, name in enumerate(header.names) if i not in read and name]
    listed = ", ".join(others[:_LISTED]) + (", ..." if len(others) > _LISTED else "")
    angles = "; the order and the unit of angles are not certain" if any(map(_ANGLE.fullmatch, others)) else ""
    return (f"only positions are read: its header names no qx, qy, qz and qw, but {listed}{angles}",) if others else ()


def _stamp(header: _Header) -> tuple[tuple[int, ...], int]:
    """The columns of the stamp, and the nanoseconds in its unit, 0 where that is not said."""
    for i, name in enumerate(header.names):
        whole = re.fullmatch(r"(.*?)(secs?)", name)
        if whole and not whole[1].endswith(("n", "m", "u", "nano", "milli", "micro")):
            parts = [
                j for j, other in enumerate(header.names) if re.fullmatch(re.escape(whole[1]) + r"(nsecs?|nanosecs?)", other)
            ]
            if len(parts) == 1:
                return (i, parts[0]), NANOSECONDS
    units = "|".join(_UNIT_OF)
    for pattern in (*_TIMES, rf"(?:{units})"):
        column = header.find(rf"(?:{pattern})(?:\.(?:{units}))?")
        if column is not None:
            said = header.units[column] or header.names[column].rsplit(".", 1)[-1]
            return (column,), _UNIT_OF.get(said, 0)
    return (), 0
