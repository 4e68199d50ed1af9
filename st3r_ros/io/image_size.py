# SPDX-License-Identifier: Apache-2.0
"""The size of an image before it is decoded."""

from __future__ import annotations

from typing import Any

from st3r_ros.errors import FrameError
from st3r_ros.io.calibration import Size
from st3r_ros.io.image_file import size_in_header

_HEADER_BYTES = 1 << 16


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
