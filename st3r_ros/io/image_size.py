# SPDX-License-Identifier: Apache-2.0
"""The size of images before they are decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from st3r_ros.errors import FrameError
from st3r_ros.io.calibration import Size
from st3r_ros.io.image_file import read_size, size_in_header

_HEADER_BYTES = 1 << 16
_SAMPLES = 100


def encoded_size(data: bytes | memoryview) -> Size | None:
    """Width and height of a JPEG, PNG or another image that can be decoded, from its first bytes; None if they do not suffice."""
    try:
        return size_in_header(bytes(data[:_HEADER_BYTES]))
    except FrameError:  # decoding the image will say why
        return None


def size_of_message(message: Any) -> Size | None:
    """The size of the image of a message, None when it is unknown before decoding (packets of some videos)."""
    if hasattr(message, "width"):
        return (int(message.width), int(message.height)) if message.width > 0 and message.height > 0 else None
    return encoded_size(memoryview(message.data)) if hasattr(message, "format") else None


def commonest_size(sizes: Iterable[Size | None]) -> Size | None:
    """The size that most images have, of several the first one; None where none is known."""
    counts = Counter(size for size in sizes if size is not None)
    return counts.most_common(1)[0][0] if counts else None


def size_of_files(files: Sequence[Path]) -> Size | None:
    """The size that most of some image files have, judged by 100 of them at most; None where none can be read."""
    sampled = files[:: max(1, -(-len(files) // _SAMPLES))]
    return commonest_size(_size_of(file) for file in sampled)


def _size_of(file: Path) -> Size | None:
    try:
        return read_size(file)
    except FrameError:
        return None
