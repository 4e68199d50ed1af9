# SPDX-License-Identifier: Apache-2.0
"""Pixels of image messages, raw and compressed, to RGB. NumPy and OpenCV only; no ROS.

Depth, thermal and other images of one wide channel (mono16, 16UC1, 32FC1) become a visible grey: their 1st to 99th percentile
is spread linearly over 0..255. Zero and non-finite values mean "no measurement"; they are left out of the percentiles and
become black.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from st3r_ros.errors import EncodingError, FrameError
from st3r_ros.io.image_file import MAX_SIDE, check_decodable


@dataclass(frozen=True)
class _Layout:
    """How an encoding stores a pixel, and how a (H, W, channels) array of it becomes (H, W, 3) uint8 RGB."""

    dtype: str
    channels: int
    to_rgb: Callable[[np.ndarray], np.ndarray]
    even_width: bool = False


def _by_cv2(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(np.ascontiguousarray(pixels), code)


def _reordered(order: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: np.ascontiguousarray((pixels[..., order] >> 8).astype(np.uint8))


def _bayer16(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor((pixels >> 8).astype(np.uint8), code)


def _stretched(pixels: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # some NaN are invalid numbers even to a cast
        values = pixels[..., 0].astype(np.float64)  # in which the range of any float32 can be computed
    measured = np.isfinite(values) & (values != 0)
    sample = values[::4, ::4][measured[::4, ::4]]
    if not sample.size:
        sample = values[measured]
    low, high = np.percentile(sample, (1, 99)) if sample.size else (0.0, 1.0)
    scaled = (np.where(measured, values, low) - low) * (255.0 / max(high - low, 1e-9))
    return cv2.cvtColor(np.where(measured, np.clip(scaled, 0, 255), 0).astype(np.uint8), cv2.COLOR_GRAY2RGB)


_GREY, _GREY16 = _Layout("u1", 1, _by_cv2(cv2.COLOR_GRAY2RGB)), _Layout("u2", 1, _stretched)
_BGR, _UYVY = _Layout("u1", 3, _by_cv2(cv2.COLOR_BGR2RGB)), _Layout("u1", 2, _by_cv2(cv2.COLOR_YUV2RGB_UYVY), even_width=True)
_BGRA, _YUYV = _Layout("u1", 4, _by_cv2(cv2.COLOR_BGRA2RGB)), _Layout("u1", 2, _by_cv2(cv2.COLOR_YUV2RGB_YUY2), even_width=True)

# ROS names a Bayer pattern by its first two rows, OpenCV by the second row's second and third pixel.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}

_LAYOUTS: dict[str, _Layout] = {
    "mono8": _GREY,
    "8UC1": _GREY,
    "mono16": _GREY16,
    "16UC1": _GREY16,
    "32FC1": _Layout("f4", 1, _stretched),
    "rgb8": _Layout("u1", 3, np.array),
    "bgr8": _BGR,
    "8UC3": _BGR,
    "rgba8": _Layout("u1", 4, _by_cv2(cv2.COLOR_RGBA2RGB)),
    "bgra8": _BGRA,
    "8UC4": _BGRA,
    "rgb16": _Layout("u2", 3, _reordered([0, 1, 2])),
    "bgr16": _Layout("u2", 3, _reordered([2, 1, 0])),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    **{f"bayer_{pattern}8": _Layout("u1", 1, _by_cv2(code)) for pattern, code in _BAYER.items()},
    **{f"bayer_{pattern}16": _Layout("u2", 1, _bayer16(code)) for pattern, code in _BAYER.items()},
}

ENCODINGS = tuple(sorted(_LAYOUTS))


def decode_image(data: Any, *, height: int, width: int, encoding: str, step: int, is_bigendian: bool = False) -> np.ndarray:
    """The (H, W, 3) uint8 RGB image of a sensor_msgs/Image; never a view of `data`.

    data: bytes, array, memoryview or uint8 array of at least `step * height` bytes. step: bytes of a row, padding included.
    encoding: one of ENCODINGS; 8UC3 and 8UC4 are taken as BGR and BGRA, as OpenCV stores them. Colours of 16 bit keep their
    upper 8 bit.

    Raises:
        EncodingError: unknown encoding, zero or absurd size, a step shorter than a row, or too few data.
    """
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise EncodingError(f"The image has the unknown encoding {encoding[:50]!r}; known are {', '.join(ENCODINGS)}.")
    _check_size(width, height)
    if layout.even_width and width % 2:
        raise EncodingError(f"The image of encoding {encoding} is {width} pixels wide; this encoding needs an even width.")
    itemsize = np.dtype(layout.dtype).itemsize
    pixel = itemsize * layout.channels
    if step < width * pixel:
        raise EncodingError(
            f"The image has a step of {step} bytes, but a row of {width} pixels of {encoding} takes {width * pixel}; "
            "correct the driver's step."
        )
    buffer = memoryview(data).cast("B")
    if len(buffer) < step * height:
        raise EncodingError(
            f"The image has {len(buffer)} bytes of data, but {height} rows of {step} bytes take {step * height}; "
            "it was cut short or its step or height is wrong."
        )
    pixels: np.ndarray = np.ndarray(
        (height, width, layout.channels),
        dtype=(">" if is_bigendian else "<") + layout.dtype,
        buffer=buffer,
        strides=(step, pixel, itemsize),
    )
    return layout.to_rgb(pixels)


def decode_compressed(data: Any, format: str = "") -> np.ndarray:
    """The (H, W, 3) uint8 RGB image of a sensor_msgs/CompressedImage (jpeg, png, tiff and what else `read_image` reads).

    data: bytes, array, memoryview or uint8 array. format: the message's own words; the bytes themselves tell the format, so it
    only serves the messages and to refuse compressedDepth, which is not a picture.

    Raises:
        EncodingError: no data, a depth image, an image that was cut short or is too large, or bytes that are no image.
    """
    if "compressedDepth" in format:
        raise EncodingError(f"The image has the format {format[:100]!r}, a depth image; choose a colour image topic.")
    buffer = np.frombuffer(memoryview(data).cast("B"), dtype=np.uint8)
    what = f"The compressed image of format {format[:100]!r}"
    if not buffer.size:
        raise EncodingError(f"{what} holds no data.")
    try:
        check_decodable(buffer.tobytes())
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except (FrameError, cv2.error) as error:
        raise EncodingError(f"{what} cannot be decoded: {error}") from error
    if image is None:
        raise EncodingError(f"{what} holds {buffer.size} bytes that are no image OpenCV can read.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise EncodingError(f"The image is {width}x{height} pixels; it has no pixels.")
    if max(width, height) > MAX_SIDE:
        raise EncodingError(f"The image is {width}x{height} pixels; at most {MAX_SIDE} on a side can be handled.")
