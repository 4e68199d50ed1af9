# SPDX-License-Identifier: Apache-2.0
"""The size of images before they are decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from st3r_ros.errors import FrameError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import Calibration, Size, is_named_rectified
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


def calibrated_sizes(camera: Camera | Calibration | None, images: str) -> Collection[Size | None]:
    """The sizes that the images of a calibration may have. images: their name, which may tell whether they are rectified."""
    if camera is None:
        return ()
    calibration = Calibration.of(camera) if isinstance(camera, Camera) else camera
    return calibration.sizes(is_named_rectified(images))


def commonest_size(sizes: Iterable[Size | None], calibrated: Collection[Size | None] = ()) -> Size | None:
    """The size that most images have, of several a calibrated one, else the first one; None where none is known."""
    counts = Counter(size for size in sizes if size is not None)
    return max(counts, key=lambda size: (counts[size], size in calibrated), default=None)


def size_of_files(files: Sequence[Path], calibrated: Collection[Size | None] = ()) -> Size | None:
    """The size that most of some image files have, judged by 100 of them at most; None where none can be read.

    calibrated: the sizes of the calibration, which decide between equally many images.
    """
    sampled = files[:: max(1, -(-len(files) // _SAMPLES))]
    return commonest_size((_size_of(file) for file in sampled), calibrated)


def _size_of(file: Path) -> Size | None:
    try:
        return read_size(file)
    except FrameError:
        return None
