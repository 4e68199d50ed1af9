# SPDX-License-Identifier: Apache-2.0
"""Which numbers of a line are the pose, and what the form of lines without a header tells of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.errors import InputError
from st3r_ros.io.stamps import NANOSECONDS

POSITIONS_ONLY = "positions only"
ACCEPTED = (
    "Accepted are lines of TUM (stamp tx ty tz qx qy qz qw), EuRoC (ns, position, qw qx qy qz) or KITTI (12 numbers of a 3x4 "
    "matrix), and a header that names the columns, such as timestamp,tx,ty,tz,qx,qy,qz,qw"
)
_EPOCH_NS = 10**17  # a stamp of nanoseconds since 1973 is at least this
_LAST_ROW = (0.0, 0.0, 0.0, 1.0)
_ORDER_ASSUMED = (
    "the first quaternion is 1 0 0 0, which the assumed order x y z w makes a half turn; if w comes first, say so in the first "
    "line: # timestamp tx ty tz qw qx qy qz"
)


@dataclass(frozen=True)
class PoseColumns:
    """Where a pose stands in a line of numbers.

    count: values in a line. more: whether a line may have more or fewer, as long as it has the named ones.
    stamp: of the stamp in one number, of seconds and nanoseconds, or () where lines have none. unit_ns: nanoseconds in the
    stamp's unit, 0 where its size tells it. position, quaternion_xyzw: () where a matrix holds both, or no rotation is known.
    matrix: of the 12 numbers of a 3x4 matrix, row by row. last_row: of those below it, which must be 0 0 0 1, () without them.
    metres: in a unit of the position. inverse: whether the poses are T_cam_world. of_body: whether the poses are a body's, by
    their format. kind: what the form is called. notes: sentences on what is not read or not certain.
    """

    kind: str
    count: int
    stamp: tuple[int, ...] = (0,)
    position: tuple[int, ...] = (1, 2, 3)
    quaternion_xyzw: tuple[int, ...] = ()
    matrix: tuple[int, ...] = ()
    last_row: tuple[int, ...] = ()
    unit_ns: int = 0
    metres: float = 1.0
    more: bool = False
    inverse: bool = False
    of_body: bool = False
    notes: tuple[str, ...] = ()

    @property
    def last(self) -> int:
        """The last column that is used."""
        return max((*self.stamp, *self.position, *self.quaternion_xyzw, *self.matrix, *self.last_row))


TUM_COLUMNS = PoseColumns("TUM's columns", 8, quaternion_xyzw=(4, 5, 6, 7))


def columns_by_form(rows: Sequence[Sequence[str]], separator: str | None, *, w_first: bool | None = None) -> PoseColumns:
    """The columns of lines without a header.

    rows: their cells. separator: of those, None for spaces. w_first: whether the quaternion begins with w, None if unknown.

    Raises:
        InputError: the lines have no form that has one meaning.
    """
    count = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    first = next((row for row in rows if len(row) == count), [])
    found = _matrix(count, rows) or _quaternion(count, first, separator, w_first)
    if found is None and count == 4 and _increases(rows):
        found = PoseColumns(POSITIONS_ONLY, 4)
    if found is not None:
        return found
    if count < 4 or not any(map(_is_number, first)):
        return TUM_COLUMNS  # so that a sentence says what the lines lack
    raise InputError(f"its lines hold {count} values, like '{' '.join(first)[:80]}', and no header names them. {ACCEPTED}.")


def _matrix(count: int, rows: Sequence[Sequence[str]]) -> PoseColumns | None:
    """A matrix, of 4x4 or without its last row, and perhaps a stamp before it."""
    if count not in (12, 13, 16, 17):
        return None
    stamp = (0,) if count in (13, 17) else ()
    at = np.arange(len(stamp), count)
    if len(at) == 12:
        return PoseColumns("a 3x4 matrix in each line", count, stamp, position=(), matrix=tuple(at.tolist()))
    by_rows = at.reshape(4, 4)
    matrices = [row for row in rows if len(row) == count]
    of_rows, of_columns = (sum(_is_last_row(row, M[3]) for row in matrices) for M in (by_rows, by_rows.T))
    if stamp and 2 * max(of_rows, of_columns) <= len(matrices):
        return None
    M, order = (by_rows.T, ", column by column") if of_columns > of_rows else (by_rows, "")
    matrix, last_row = tuple(M[:3].ravel().tolist()), tuple(M[3].tolist())
    return PoseColumns(f"a 4x4 matrix in each line{order}", count, stamp, position=(), matrix=matrix, last_row=last_row)


def _is_last_row(row: Sequence[str], at: np.ndarray) -> bool:
    return _numbers([row[i] for i in at]) == _LAST_ROW


def _quaternion(count: int, first: Sequence[str], separator: str | None, w_first: bool | None) -> PoseColumns | None:
    if count == 10 and not _is_number(first[2]):
        return PoseColumns("the columns of 'ros2 topic echo --csv'", 10, (0, 1), (3, 4, 5), (6, 7, 8, 9), unit_ns=NANOSECONDS)
    euroc = separator not in (None, "\t") and count in (8, 17) and _is_number(first[0]) and float(first[0]) >= _EPOCH_NS
    if count in (8, 17) and (w_first or (euroc and w_first is None)):
        return PoseColumns("EuRoC's columns, qw before qx", count, quaternion_xyzw=(5, 6, 7, 4), of_body=euroc)
    with_id = count == 9 and first[8].isdigit()  # of RTAB-Map
    if count != 8 and not with_id:
        return None
    doubtful = w_first is None and np.allclose(np.abs(_numbers(first[4:8]) or _LAST_ROW), (1.0, 0.0, 0.0, 0.0), atol=1e-3)
    return replace(TUM_COLUMNS, count=count, notes=(_ORDER_ASSUMED,) if doubtful else ())


def _increases(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first numbers can be stamps; those of matrices cannot."""
    stamps = [float(row[0]) for row in rows if len(row) == 4 and _is_number(row[0])]
    return bool(np.all(np.diff(stamps) >= 0)) and stamps[-1] > stamps[0]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(cells: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(cell) for cell in cells) if all(map(_is_number, cells)) else ()
