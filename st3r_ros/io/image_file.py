# SPDX-License-Identifier: Apache-2.0
"""Image files to RGB. A file that was cut short is an error, never a half grey picture."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, features

from st3r_ros.errors import FrameError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
MAX_SIDE = 32767  # OpenCV's remap, which undistorts the images, addresses no more
MAX_PIXELS = 100_000_000  # a file of few bytes can claim any number

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")  # some of Pillow's others would start programs
_ORIENTATION = 0x0112  # the EXIF tag
_SWAPPING = (5, 6, 7, 8)  # its values that swap width and height
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CUT_SHORT = "the {} data end too early; the file was cut short."


@cache
def image_suffixes() -> tuple[str, ...]:
    """The suffixes of the images that can be read here: HEIC with pillow-heif, AVIF where Pillow has it."""
    avif = (".avif",) if "AVIF" in _formats() else ()
    return IMAGE_SUFFIXES + avif + (() if why_no_heic() else HEIC_SUFFIXES)


@cache
def why_no_heic() -> str:
    """How to read HEIC images, "" where it works."""
    try:
        import pillow_heif
    except ImportError:
        return "to read them: pip install pillow-heif"
    pillow_heif.register_heif_opener()
    return ""


@cache
def _formats() -> tuple[str, ...]:
    heic = () if why_no_heic() else ("HEIF",)
    return _FORMATS + heic + (("AVIF",) if features.check("avif") else ())


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of the image in a file, as `read_image` gives it; only its header is read.

    Raises:
        FrameError: the file is missing or no image.
    """
    try:
        with _open(path.read_bytes()) as picture:
            swapped = picture.getexif().get(_ORIENTATION, 1) in _SWAPPING
            return picture.size[::-1] if swapped else picture.size
    except OSError as error:
        raise FrameError(f"'{path}' cannot be read: {error.strerror}.") from error
    except FrameError as error:
        raise FrameError(f"'{path}' cannot be used: {error}") from error


def read_image(path: Path) -> np.ndarray:
    """The (H, W, 3) uint8 RGB image of a file, turned upright where its EXIF data say so.

    Transparency is dropped, grey and other colours become RGB, and 16-bit numbers keep their upper 8 bit.

    Raises:
        FrameError: the file is missing, empty, damaged, cut short, too large or no image of 8 or 16 bit.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameError(f"'{path}' cannot be read: {error.strerror}.") from error
    if not data:
        raise FrameError(f"'{path}' is empty.")
    try:
        check_whole(data)
        return _decode(data)
    except FrameError as error:
        raise FrameError(f"'{path}' cannot be used: {error}") from error


def _decode(data: bytes) -> np.ndarray:
    with _open(data) as picture:
        _check_size(*picture.size)
        if picture.format in ("JPEG", "MPO") and picture.mode in ("L", "RGB"):
            return _decode_jpeg(data)
        return _to_rgb(picture)


def _decode_jpeg(data: bytes) -> np.ndarray:
    """Of the same library as Pillow's, but faster; only colours for printing come out otherwise."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise FrameError("its JPEG data cannot be decoded.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _to_rgb(picture: Image.Image) -> np.ndarray:
    picture.load()
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "RGB":
        return np.array(picture)
    if picture.mode.startswith("I"):
        return _from_16_bit(np.asarray(picture))
    if picture.mode == "F":
        raise FrameError("it holds floating point numbers; convert it to 8 or 16 bit.")
    picture.info.pop("transparency", None)  # which is dropped anyway, with a warning
    return np.array(picture.convert("RGB"))


def _from_16_bit(grey: np.ndarray) -> np.ndarray:
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 65535:
        raise FrameError(f"its grey levels reach from {low} to {high}; convert it to 8 or 16 bit.")
    return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)


def check_decodable(data: bytes) -> None:
    """Nothing, if encoded bytes are a whole image of a size that can be handled; its pixels are not decoded for that.

    Raises:
        FrameError: it is none, or too large.
    """
    check_whole(data)
    with _open(data) as picture:
        _check_size(*picture.size)


@contextmanager
def _open(data: bytes) -> Iterator[Image.Image]:
    """The image with its header read, for as long as it is decoded.

    Raises FrameError when it is none, or in its decoder, which raises whatever the bytes lead it to.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as picture:
            yield picture
    except FrameError:
        raise
    except Image.UnidentifiedImageError as error:
        raise FrameError(f"it is no image that can be read ({', '.join(_formats())} of 8 or 16 bit).") from error
    except Exception as error:
        raise FrameError(f"it cannot be decoded: {error}") from error


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise FrameError(
            f"it is {width}x{height} pixels; at most {MAX_SIDE} on a side, and {MAX_PIXELS // 10**6} million, can be handled."
        )


def check_whole(data: bytes) -> None:
    """Nothing, if a JPEG or PNG is whole; other formats are left to their decoders, which refuse what was cut short.

    The decoders of JPEG and PNG are lenient: depending on the version of OpenCV they fill the missing rows with grey.

    Raises:
        FrameError: the JPEG or PNG was cut short, or a PNG chunk does not match its checksum.
    """
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data)
    elif data.startswith(b"\xff\xd8\xff"):
        _check_jpeg(data)


def _check_png(data: bytes) -> None:
    at = len(_PNG_SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise FrameError(_CUT_SHORT.format("PNG"))
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise FrameError(_CUT_SHORT.format("PNG"))
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise FrameError(f"a PNG chunk at byte {at} does not match its checksum.")
        if kind == b"IEND":
            return
        at = end


def _check_jpeg(data: bytes) -> None:
    """Walk the header's segments to the first scan; a whole image has an end marker after it (thumbnails lie before it)."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise FrameError(f"the JPEG header is broken at byte {at}.")
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2 + length
        if marker == 0xDA:  # start of scan: inside it 0xFFD9 can only be the end of the image
            if data.find(b"\xff\xd9", at) >= 0:
                return
            break
    raise FrameError(_CUT_SHORT.format("JPEG"))
