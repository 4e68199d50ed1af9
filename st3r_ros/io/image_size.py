# SPDX-License-Identifier: Apache-2.0
"""The size of an image, told before it is decoded."""

from __future__ import annotations

import io
from typing import Any

from st3r_ros.io.calibration import Size

_HEADER_BYTES = 1 << 16


def encoded_size(data: bytes | memoryview) -> Size | None:
    """Width and height of a JPEG, PNG or another image that Pillow knows, by its first bytes; None where they do not tell."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(bytes(data[:_HEADER_BYTES]))) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # the one that decodes the image will say why
        return None


def size_of_message(message: Any) -> Size | None:
    """The size of the image of a message, None where it cannot be told before decoding (packets of some videos)."""
    if hasattr(message, "width"):
        return (int(message.width), int(message.height)) if message.width > 0 and message.height > 0 else None
    return encoded_size(memoryview(message.data)) if hasattr(message, "format") else None
