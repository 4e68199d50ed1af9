# SPDX-License-Identifier: Apache-2.0
"""The entries of parsed calibration files, checked one by one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.io.calibration.calibration import Size

Content = Mapping[str, Any]
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


def first_key(content: Content, *keys: str) -> str | None:
    """The first of the keys that has a value."""
    return next((key for key in keys if content.get(key) is not None), None)


def required(content: Content, key: str) -> Any:
    """The value of a key.

    Raises:
        CalibrationError: the key is missing or has no value.
    """
    if content.get(key) is None:
        raise CalibrationError(f"the key {key} is missing.")
    return content[key]


def image_size(content: Content, width: str = "image_width", height: str = "image_height") -> Size | None:
    """The size of the images, None when both keys are missing or 0.

    Raises:
        CalibrationError: one is missing or is no number of pixels.
    """
    if (content.get(width), content.get(height)) in ((None, None), (0, 0)):
        return None
    return _pixels(required(content, width), width), _pixels(required(content, height), height)


def numbers(content: Content, key: str, count: int | None = None, *, finite: bool = True) -> np.ndarray:
    """The numbers of a key, flat, float64: a list, a list of rows, a {rows, cols, data}, or text.

    Raises:
        CalibrationError: there are none, or not `count`, or something among them is no number.
    """
    value = required(content, key)
    wanted = count
    if isinstance(value, Mapping):
        rows, columns = value.get("rows"), value.get("cols")
        wanted = rows * columns if count is None and isinstance(rows, int) and isinstance(columns, int) else count
        value = value.get("data")
    items = flat(value)
    if items is None:
        raise CalibrationError(f"{key} has no list 'data'; a ROS calibration writes {key}: {{rows, cols, data: [...]}}.")
    array = np.array([number(item, key) for item in items], dtype=np.float64)
    if wanted is not None and len(array) != wanted:
        hint = "; are decimals written with a comma?" if len(array) == 2 * wanted else ""
        raise CalibrationError(f"{key} has {len(array)} values; it must have {wanted}{hint}.")
    if finite and not np.isfinite(array).all():
        raise CalibrationError(f"{key} contains a value that is not finite: {str(value)[:200]}.")
    return array


def number(item: Any, key: str) -> float:
    """A number; text, too, because YAML 1.1 reads 1e-5 as text.

    Raises:
        CalibrationError: it is none.
    """
    try:
        if isinstance(item, bool):
            raise TypeError("a truth value")
        return float(item)
    except (TypeError, ValueError):
        comma = isinstance(item, str) and _DECIMAL_COMMA.search(item)
        hint = "; write it with a decimal point" if comma else ""
        raise CalibrationError(f"{key} contains something that is not a number: {str(item)[:100]!r}{hint}.") from None


def is_set(value: Any) -> bool:
    """Whether the value of a flag is a yes, in YAML, JSON or OpenCV's FileStorage, which has numbers only."""
    return str(value).strip().lower() in ("1", "1.0", "true", "yes", "on")


def flat(value: Any) -> list[Any] | None:
    """The items of lists in lists; of text, its words; None for anything else."""
    if isinstance(value, str):
        return value.replace("[", " ").replace("]", " ").replace(";", " ").split() or None
    if not isinstance(value, Sequence):
        return None
    items: list[Any] = []
    for item in value:
        inner = flat(item) if isinstance(item, str | list | tuple) else None
        items += [item] if inner is None else inner
    return items


def matrix_from(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """The K of focal lengths and principal point."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def calibrated(K: np.ndarray) -> np.ndarray | None:
    """A matrix, None where its focal length is 0, which means that nothing is known."""
    return K if K[0, 0] != 0.0 else None


def _pixels(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise CalibrationError(f"{key} is {value!r}; it must be a whole number of pixels.")
    try:
        pixels = float(value)
    except ValueError:
        pixels = math.nan
    if not (pixels.is_integer() and pixels >= 1):
        raise CalibrationError(f"{key} is {value!r}; it must be a whole number of pixels.")
    return int(pixels)
