# SPDX-License-Identifier: Apache-2.0
"""The size of an encoded image, read from its header without decoding it."""

from __future__ import annotations

import io

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
