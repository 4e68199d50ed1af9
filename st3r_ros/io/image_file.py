# SPDX-License-Identifier: Apache-2.0
"""Image files to pictures. A file that was cut short is an error, never a half grey picture."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, features
from PIL.TiffImagePlugin import TiffImageFile

from st3r_ros.errors import FrameError
from st3r_ros.io.decoder_lines import DecoderLines
from st3r_ros.io.picture import Picture, ToneRange
from st3r_ros.io.whole_image import check_whole

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged headers; decoding says more, with a name

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
MAX_SIDE = 32767  # OpenCV's remap, which undistorts the images, addresses no more
MAX_PIXELS = 100_000_000  # a file of few bytes can claim any number

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")  # some of Pillow's others would start programs
_ORIENTATION, _BITS_PER_SAMPLE, _EXTRA_SAMPLES = 0x0112, 258, 338  # tags of EXIF and TIFF
_SWAPPING = (5, 6, 7, 8)  # orientations that swap width and height
_PNG_DEPTH = 24  # where a PNG file has its bits per colour
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[:, ::-1],
    7: lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    8: lambda image: image.swapaxes(0, 1)[::-1],
}


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
    """Width and height of the image in a file, as `read_picture` gives it; only its header is decoded.

    Raises:
        FrameError: the file is missing or no image.
    """
    try:
        with path.open("rb") as file:
            return _size_in(file)
    except OSError as error:
        raise FrameError(f"'{path}' cannot be read: {error.strerror}.") from error
    except FrameError as error:
        raise FrameError(f"'{path}' cannot be used: {error}") from error


def size_in_header(data: bytes) -> tuple[int, int]:
    """Width and height of the image that begins with `data`, as `decode_file` gives it.

    Raises:
        FrameError: it is no image, or its header is damaged or incomplete.
    """
    return _size_in(io.BytesIO(data))


def _size_in(file: BinaryIO) -> tuple[int, int]:
    with _open(file, header_only=True) as picture:
        # Pillow decodes a whole PNG to look for EXIF data behind the pixels.
        has_exif = picture.format == "TIFF" or any("exif" in str(key) for key in picture.info)
        swapped = has_exif and picture.getexif().get(_ORIENTATION, 1) in _SWAPPING
        return picture.size[::-1] if swapped else picture.size


def read_picture(path: Path) -> Picture:
    """The picture of a file, turned upright where its EXIF data say so; its bit depth as it is stored.

    Raises:
        FrameError: the file is missing, empty, damaged, cut short, too large, an animation or no image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameError(f"'{path}' cannot be read: {error.strerror}.") from error
    if not data:
        raise FrameError(f"'{path}' is empty.")
    try:
        return decode_file(data)
    except FrameError as error:
        raise FrameError(f"'{path}' cannot be used: {error}") from error


def read_image(path: Path) -> np.ndarray:
    """The (H, W, 3) uint8 RGB image of a file that is no part of a stream: `read_picture`, in the range of tones of its own.

    Raises:
        FrameError: as `read_picture`.
    """
    return ToneRange().to_rgb(read_picture(path))


def is_plain(path: Path) -> bool:
    """Whether a file is a JPEG or PNG of 8-bit colours, upright and opaque: every program shows it as `read_picture` reads it.

    Raises:
        FrameError: the file cannot be read or is no image.
    """
    try:
        data = path.read_bytes()
        with _open(io.BytesIO(data)) as picture:
            if picture.format == "PNG" and data[_PNG_DEPTH] != 8:
                return False
            if picture.format not in ("JPEG", "PNG") or picture.mode != "RGB" or "transparency" in picture.info:
                return False
            return picture.getexif().get(_ORIENTATION, 1) == 1
    except OSError as error:
        raise FrameError(f"'{path}' cannot be read: {error.strerror}.") from error


def turned_like(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, ...) as an image file stores its own, turned as EXIF data turn that image; unchanged where there are none."""
    try:
        with _open(io.BytesIO(path.read_bytes())) as picture:
            return np.ascontiguousarray(_upright(picture, pixels))
    except (OSError, FrameError):
        return pixels


def decode_file(data: bytes) -> Picture:
    """The picture that the bytes of an image file hold.

    Raises:
        FrameError: it is none, or damaged, cut short, too large or an animation.
    """
    check_whole(data)
    with _open(io.BytesIO(data)) as picture:
        _check_size(*picture.size)
        _check_single(picture)
        if picture.format in ("JPEG", "MPO"):
            pixels = _decode_jpeg(data)
            if picture.mode in ("L", "RGB"):
                return Picture(pixels)
        wide = _decode_wide(data, picture)
        return _decode_narrow(picture) if wide is None else wide


def _decode_jpeg(data: bytes) -> np.ndarray:
    """Faster than Pillow with the same library, and tells of damage (`DecoderLines`); only the colours of CMYK differ."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise FrameError("its JPEG data cannot be decoded.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _decode_narrow(picture: Image.Image) -> Picture:
    """Of at most 8 bits a colour."""
    picture.load()
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return Picture(np.array(picture))
    if picture.mode in _WITH_ALPHA or "transparency" in picture.info:
        rgba = np.array(picture.convert("RGBA"))
        return Picture.with_alpha(np.ascontiguousarray(rgba[..., :3]), rgba[..., 3])
    return Picture(np.array(picture.convert("RGB")))


def _decode_wide(data: bytes, picture: Image.Image) -> Picture | None:
    """Of more than 8 bits a colour, which Pillow cuts off in most cases; None for others."""
    tags = picture.tag_v2 if isinstance(picture, TiffImageFile) else {}
    narrow = {"PNG": data[_PNG_DEPTH] <= 8, "TIFF": max(tags.get(_BITS_PER_SAMPLE, (1,))) <= 8, "PPM": False}
    if narrow.get(picture.format or "", True):
        return None
    picture.load()  # refuses what was cut short, which OpenCV may not
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None and picture.mode[0] in "IF":
        values = np.asarray(picture)
    if values is None:
        raise FrameError(f"its {picture.format} data of more than 8 bits a colour cannot be decoded; convert it to 8 or 16 bit.")
    if values.dtype == np.uint8:
        return None
    values = _upright(picture, values)
    if values.ndim == 2:
        return Picture(np.ascontiguousarray(values[..., None]))
    colours = np.ascontiguousarray(values[..., 2::-1] if values.shape[2] > 2 else values[..., :1])
    unspecified = tags.get(_EXTRA_SAMPLES, (None,))[0] == 0
    if values.shape[2] in (1, 3) or unspecified or values.dtype.kind == "f":
        return Picture(colours)
    return Picture.with_alpha(colours, values[..., -1])


def _upright(picture: Image.Image, pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, ...) turned as EXIF data tell; an orientation that EXIF does not define turns nothing."""
    return _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1), _UPRIGHT[1])(pixels)


def _check_single(picture: Image.Image) -> None:
    """Raises FrameError for animations, and for files of several pages of the same size."""
    count = getattr(picture, "n_frames", 1) if picture.format in ("PNG", "WEBP", "TIFF") else 1
    if count > 1 and picture.format == "TIFF":
        size = picture.size
        picture.seek(1)
        count = count if picture.size == size else 1  # else a smaller copy
        picture.seek(0)
    if count > 1:
        raise FrameError(f"it holds {count} images (an animation, or pages); save each of them as a file.")


@contextmanager
def _open(file: BinaryIO, *, header_only: bool = False) -> Iterator[Image.Image]:
    """The image with its header read, for as long as it is decoded. header_only: it is not.

    Raises FrameError when it is none or damaged, or in its decoder, which raises whatever the bytes lead it to.
    """
    lines = DecoderLines()
    try:
        with nullcontext() if header_only else lines, Image.open(file, formats=_formats()) as picture:
            yield picture
    except FrameError:
        raise
    except Image.UnidentifiedImageError as error:
        raise FrameError(f"it is no image that can be read ({', '.join(_formats())} of 8 or 16 bit).") from error
    except Exception as error:
        raise FrameError(f"it cannot be decoded: {lines.damage or error}") from error
    if lines.damage:
        raise FrameError(f"it is damaged: {lines.damage}.")


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise FrameError(
            f"it is {width}x{height} pixels; at most {MAX_SIDE} on a side, and {MAX_PIXELS // 10**6} million, can be handled."
        )
