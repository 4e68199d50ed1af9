# SPDX-License-Identifier: Apache-2.0
"""Keyframe images as JPEG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from st3r_ros.errors import MapFileError

QUALITY = 95

_START_OF_SCAN = b"\xff\xda"


def max_jpeg_bytes(width: int, height: int) -> int:
    """An upper bound for the bytes of a JPEG file of this size."""
    return 4 * width * height + 65_536


def encode_jpeg(image: np.ndarray) -> bytes:
    """A baseline JPEG of an (H, W, 3) uint8 RGB image, without chroma subsampling."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG", quality=QUALITY, subsampling=0)
    return data.getvalue()


def decode_jpeg(data: bytes, size: tuple[int, int], path: Path) -> np.ndarray:
    """The (H, W, 3) uint8 RGB image. size: the width and height it must have. path: of the file, for messages.

    Raises:
        MapFileError: it is not a JPEG as `encode_jpeg` writes it, of another size, or damaged.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            if picture.size != size or picture.mode != "RGB":
                found = f"{picture.width}x{picture.height} {picture.mode}"
                raise ValueError(f"it is {found}, not {size[0]}x{size[1]} RGB")
            # A malicious progressive file with a thousand scans would take a thousand times as long.
            if data.count(_START_OF_SCAN) != 1:
                raise ValueError("it has more than one scan")
            return np.array(picture)
    except Exception as error:  # Pillow's decoders raise many types of errors for damaged data
        raise _damaged(path, error) from error


def encode_mask(mask: np.ndarray) -> bytes:
    """A PNG of one bit of a mask (H, W) bool."""
    data = io.BytesIO()
    Image.fromarray(mask).save(data, format="PNG")
    return data.getvalue()


def decode_mask(data: bytes, size: tuple[int, int], path: Path) -> np.ndarray:
    """The mask (H, W) bool; as `decode_jpeg`.

    Raises:
        MapFileError: it is no PNG of one bit, of another size, or damaged.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.size != size or picture.mode != "1":
                raise ValueError(f"it is {picture.width}x{picture.height} {picture.mode}, not {size[0]}x{size[1]} of one bit")
            return np.array(picture)
    except Exception as error:  # as above
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> MapFileError:
    reason = str(error).rstrip(".") or type(error).__name__
    return MapFileError(f"'{path}' is damaged: {reason}; restore the map from a copy or map again.")
