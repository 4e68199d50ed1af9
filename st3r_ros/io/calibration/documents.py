# SPDX-License-Identifier: Apache-2.0
"""Calibration files as text, and the documents of YAML, JSON or OpenCV's XML in them."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import yaml

from st3r_ros.errors import CalibrationError
from st3r_ros.io.calibration.fields import Content

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# What `ros2 topic echo` prints between messages; the next separator follows without a line break.
_CHATTER = re.compile(r"^(WARNING: .*|A message was lost!!!\s*\n\s*total count change:.*\n\s*total count: *\d+)", re.MULTILINE)
_MAX_BYTES = 64 << 20


def calibration_text(path: Path, source: str) -> str:
    """The text of a file, whatever byte order mark and line ends it has.

    Raises:
        CalibrationError: it cannot be read, or is no text.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CalibrationError(f"{source} is {path.stat().st_size >> 20} MB large; this is not a calibration.")
        data = path.read_bytes()
    except OSError as error:
        raise CalibrationError(f"{source} cannot be read: {error.strerror}.") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding, errors="strict" if encoding == "utf-16" else "replace")
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{source} is not a text file: {error.reason}.") from error
    if "\0" in text:
        raise CalibrationError(f"{source} is a binary file; export the calibration as text, such as a ROS yaml.")
    return "\n".join(text.splitlines()) + "\n"


def documents(text: str, source: str) -> Iterator[Content]:
    """The documents of a file that hold keys.

    Raises:
        CalibrationError: it is neither YAML, JSON nor XML of OpenCV; only when there was no document before.
    """
    start = text.lstrip()
    if start.startswith("<"):
        yield _xml(start, source)
        return
    if start.startswith("{"):
        try:
            yield json.loads(text)
            return
        except ValueError:
            pass  # YAML may begin so, too
    found = False
    first: CalibrationError | None = None
    for part in re.split(r"^---[ \t]*$", _CHATTER.sub("", text), flags=re.MULTILINE):
        lines = [line for line in part.splitlines() if not line.startswith("%")]  # %YAML:1.0 of OpenCV
        try:
            content = yaml.load("\n".join(lines), Loader=_Loader)  # a SafeLoader
        except yaml.YAMLError as error:
            first = first or CalibrationError(f"{source} is not a YAML file: {_reason(error)}.")
            continue
        if isinstance(content, dict):
            found = True
            yield content
    if not found and first is not None:
        raise first


class _Loader(yaml.SafeLoader):
    """Takes the values of tags that it does not know, such as !!opencv-matrix, as they are."""


def _untagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("tag:yaml.org,2002:", _untagged)
_Loader.add_multi_constructor("!", _untagged)


def _reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if "\\t" in str(error) and mark is not None:
        return f"line {mark.line + 1} has a tab instead of spaces"
    return " ".join(str(error).split())


def _xml(text: str, source: str) -> Content:
    """The document of OpenCV's FileStorage in XML."""
    if "<opencv_storage" not in text:
        raise CalibrationError(
            f"{source} is XML, but not written by OpenCV; export the calibration as a ROS yaml or in OpenCV's format."
        )
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        root = storage.root()
        return {key: _value(root.getNode(key)) for key in root.keys()}  # noqa: SIM118  (no dict)
    except cv2.error as error:
        raise CalibrationError(f"{source} is not XML that OpenCV can read: {' '.join(str(error).split())}.") from error


def _value(node: Any) -> Any:
    if node.isMap() and not node.getNode("data").empty():
        matrix = node.mat()
        return None if matrix is None else {"rows": matrix.shape[0], "cols": matrix.shape[1], "data": matrix.reshape(-1).tolist()}
    if node.isInt() or node.isReal():
        return node.real()
    return node.string() if node.isString() else None
