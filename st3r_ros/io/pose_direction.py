# SPDX-License-Identifier: Apache-2.0
"""Whether the comments of a file say that its poses are T_cam_world, the inverse of T_world_cam."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from st3r_ros.errors import InputError
from st3r_ros.io.pose_columns import POSITIONS_ONLY, PoseColumns

_CAMERA, _WORLD = r"(?:(?:cam|camera|imu)\d*|c|body|b|i)", "(?:world|w)"
_FILLERS = {"the", "a", "frame", "coordinate", "coordinates", "system"}


def _motion(a: str, b: str) -> re.Pattern[str]:
    """T_a_b between underscores: T_a_b, Tab, b_to_a, b2a, a_from_b, perhaps with `not` or `inverse of` before it."""
    return re.compile(rf"(?<=_)(not_|inverse_(?:of_)?|inverted_)?(t_?{a}_?{b}|{b}_?(?:to|2)_?{a}|{a}_?from_?{b})(?=_)")


_PATTERNS = ((True, _motion(_CAMERA, _WORLD)), (False, _motion(_WORLD, _CAMERA)))


def with_direction(columns: PoseColumns, heading: Iterable[str]) -> PoseColumns:
    """The columns, with the direction of the poses that the lines above them tell.

    Raises:
        InputError: they are positions, and those of the world in the camera: without rotations they tell nothing.
    """
    said: dict[bool, str] = {}
    for line in heading:
        words = "_".join(word for word in re.findall(r"[a-z0-9]+", line.lower()) if word not in _FILLERS)
        for inverse, pattern in _PATTERNS:
            for found in pattern.finditer(f"_{words}_"):
                said.setdefault(inverse != bool(found[1]), found[0])
    if len(said) == 2:
        note = f"its comments name {said[False]} and {said[True]}; the poses are taken as T_world_cam"
        return replace(columns, notes=(*columns.notes, note))
    if True not in said:
        return columns
    if columns.kind == POSITIONS_ONLY:
        raise InputError(f"its comments say {said[True]}, and positions that are to be inverted need rotations.")
    note = f"its comments say {said[True]}, so the poses are T_cam_world, and their inverses are taken"
    return replace(columns, inverse=True, kind=f"{columns.kind}, inverted", notes=(*columns.notes, note))
