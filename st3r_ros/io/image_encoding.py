# SPDX-License-Identifier: Apache-2.0
"""Decodes the pixels of image messages, raw and compressed. NumPy and OpenCV only; no ROS."""

from __future__ import annotations

from typing import Any

import numpy as np

from st3r_ros.errors import EncodingError, FrameError
from st3r_ros.io.encodings import Pixels, Planes, find_encoding, why_unknown
from st3r_ros.io.image_file import MAX_SIDE, decode_file
from st3r_ros.io.picture import Picture


def decode_image(data: Any, *, height: int, width: int, encoding: str, step: int, is_bigendian: bool = False) -> Picture:
    """The picture of a sensor_msgs/Image; never a view of `data`.

    data: bytes, array, memoryview or uint8 array of at least `step * height` bytes. step: bytes of a row, padding included; of a
    row of luma for the planar encodings (nv12, nv21, ...), whose colours come in further rows.
    encoding: as `find_encoding` knows it.

    Raises:
        EncodingError: unknown encoding, zero or absurd size, a step shorter than a row, or too few data.
    """
    layout = find_encoding(encoding)
    if layout is None:
        raise EncodingError(
            f"The image has the encoding {encoding[:50]!r}, {why_unknown(encoding[:50])}; set the driver to rgb8, bgr8, mono8 or "
            "another one of docs/images.md (output_encoding of v4l2_camera, pixel_format of usb_cam, format of camera_ros, "
            "PixelFormat of GenICam drivers)."
        )
    _check_size(width, height)
    buffer = memoryview(data).cast("B")
    if isinstance(layout, Planes):
        return _decode_planes(buffer, width, height, encoding, layout, step)
    return _decode_pixels(buffer, width, height, encoding, layout, step, ">" if is_bigendian else "<")


def _decode_pixels(
    buffer: memoryview, width: int, height: int, encoding: str, layout: Pixels, step: int, byte_order: str
) -> Picture:
    if layout.even_width and width % 2:
        raise EncodingError(f"The image of encoding {encoding} is {width} pixels wide; this encoding needs an even width.")
    itemsize = np.dtype(layout.dtype).itemsize
    pixel = itemsize * layout.channels
    if step < width * pixel:
        raise EncodingError(
            f"The image has a step of {step} bytes, but a row of {width} pixels of {encoding} takes {width * pixel}; "
            "correct the driver's step."
        )
    if len(buffer) < step * height:
        raise EncodingError(
            f"The image has {len(buffer)} bytes of data, but {height} rows of {step} bytes take {step * height}; "
            "it was cut short or its step or height is wrong."
        )
    strides, shape = (step, pixel, itemsize), (height, width, layout.channels)
    pixels: np.ndarray = np.ndarray(shape, dtype=byte_order + layout.dtype, buffer=buffer, strides=strides)
    return layout.to_picture(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))


def _decode_planes(buffer: memoryview, width: int, height: int, encoding: str, layout: Planes, step: int) -> Picture:
    if layout.even and (width % 2 or height % 2):
        raise EncodingError(f"The image of encoding {encoding} is {width}x{height} pixels; this encoding needs even sizes.")
    rows = int(height * layout.rows)
    # Some drivers put the bytes of a whole pixel into `step`; data of exactly the size of the image have no padding.
    stride = width if len(buffer) == rows * width else step
    if stride < width or (stride % 2 and layout.even):
        raise EncodingError(
            f"The image has a step of {step} bytes, but a row of luma of {width} pixels of {encoding} takes {width}; "
            "correct the driver's step."
        )
    if len(buffer) < rows * stride:
        raise EncodingError(
            f"The image has {len(buffer)} bytes of data, but {width}x{height} pixels of {encoding} with a step of {stride} bytes "
            f"take {rows * stride}; it was cut short, or its step or height is wrong (the height counts no rows of colours)."
        )
    return layout.to_picture(np.frombuffer(buffer[: rows * stride], np.uint8).reshape(rows, stride), width)


def decode_compressed(data: Any, format: str = "") -> Picture:
    """The picture of a sensor_msgs/CompressedImage (jpeg, png, tiff and what else `read_picture` reads).

    data: bytes, array, memoryview or uint8 array. format: the message's own words; the bytes themselves tell the format, so it
    only serves the messages and to refuse compressedDepth, which is not a picture.

    Raises:
        EncodingError: no data, a depth image, an image that was cut short or is too large, or bytes that are no image.
    """
    if "compressedDepth" in format:
        raise EncodingError(f"The image has the format {format[:100]!r}, a depth image; choose a colour image topic.")
    what = f"The compressed image of format {format[:100]!r}"
    encoded = memoryview(data).cast("B").tobytes()
    if not encoded:
        raise EncodingError(f"{what} holds no data.")
    try:
        return decode_file(encoded)
    except FrameError as error:
        raise EncodingError(f"{what} cannot be decoded: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise EncodingError(f"The image is {width}x{height} pixels; it has no pixels.")
    if max(width, height) > MAX_SIDE:
        raise EncodingError(f"The image is {width}x{height} pixels; at most {MAX_SIDE} on a side can be handled.")
