# SPDX-License-Identifier: Apache-2.0
"""The encodings of sensor_msgs/Image that are pictures: those of sensor_msgs/image_encodings, and how else drivers spell them.

An encoding is found by its name, whatever its case. Colours without a named order (8UC3, 16UC4, ...) are taken as BGR, as OpenCV
stores them. YUV 4:2:2 and the planar kinds are colours of 8 bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from st3r_ros.io.picture import Picture

ToPicture = Callable[[np.ndarray], Picture]


@dataclass(frozen=True)
class Pixels:
    """An encoding with all of a pixel in one place: how it stores one, and what an (H, W, channels) array of them shows."""

    dtype: str
    channels: int
    to_picture: ToPicture
    even_width: bool = False


@dataclass(frozen=True)
class Planes:
    """An 8-bit encoding with a plane of luma (H rows) and colours behind it.

    rows: length of the data in rows of luma, per row of the image. to_picture: of an array (rows * H, stride) and the width.
    even: whether width and height must be even.
    """

    rows: Fraction
    to_picture: Callable[[np.ndarray, int], Picture]
    even: bool = True


def find_encoding(name: str) -> Pixels | Planes | None:
    """How images of this encoding are stored; None for one that is not known, or is no picture."""
    key = name.partition(";")[0].strip().lower()
    key = _SPELLINGS.get(key, key)
    if key in _NAMED:
        return _NAMED[key]
    bayer = _BAYER_NAME.fullmatch(key)
    if bayer:
        code = _BAYER[_BAYER_SHORT.get(bayer[1], bayer[1])]
        return Pixels("u1" if bayer[2] == "8" else "u2", 1, _by_cv2(code))
    plain = _PLAIN_NAME.fullmatch(key)
    if plain:
        return _plain(f"{plain[2].replace('s', 'i')}{int(plain[1]) // 8}", int(plain[3]))
    return None


def why_unknown(name: str) -> str:
    """What is wrong with an encoding that `find_encoding` does not know, as part of a sentence."""
    key = name.partition(";")[0].strip().lower()
    if re.fullmatch(r"\d+[usf]c2", key):
        return "two channels per pixel without a defined meaning"
    if re.search(r"jpe?g|png|h\.?26[45]|hevc|av1", key):
        return "a compressed format, which a raw image message cannot contain"
    if re.search(r"1[024](p|_?packed|_csi2p)", key):
        return "packed bits"
    return "which is not known"


# How pixels become pictures -----------------------------------------------------------------------------------------------------


def _by_cv2(code: int) -> ToPicture:
    return lambda pixels: Picture(cv2.cvtColor(np.ascontiguousarray(pixels), code))


def _reordered(*order: int) -> ToPicture:
    return lambda pixels: Picture(np.array(pixels[..., list(order)], dtype=pixels.dtype.newbyteorder("="), order="C"))


def _with_alpha(*order: int) -> ToPicture:
    def to_picture(pixels: np.ndarray) -> Picture:
        values = _reordered(*order)(pixels).values
        return Picture.with_alpha(values, pixels[..., 3]) if np.issubdtype(pixels.dtype, np.integer) else Picture(values)

    return to_picture


def _plain(dtype: str, channels: int) -> Pixels | None:
    """Numbers without an order of colours: grey, BGR or BGRA."""
    if dtype in ("f1", "u4", "u8", "i8"):
        return None
    to_picture = {1: _reordered(0), 3: _reordered(2, 1, 0), 4: _with_alpha(2, 1, 0)}.get(channels)
    return Pixels(dtype, channels, to_picture) if to_picture else None


def _vyuy(pixels: np.ndarray) -> Picture:
    """As UYVY with the two colours in the other order."""
    swapped = pixels.copy()
    swapped[:, 0::2, 0], swapped[:, 1::2, 0] = pixels[:, 1::2, 0], pixels[:, 0::2, 0]
    return _by_cv2(cv2.COLOR_YUV2RGB_UYVY)(swapped)


def _half_height(code: int) -> Callable[[np.ndarray, int], Picture]:
    """4:2:0 with interleaved colours."""
    return lambda rows, width: _by_cv2(code)(rows[:, :width])


def _full_height(code: int) -> Callable[[np.ndarray, int], Picture]:
    """4:2:2 with interleaved colours: beside its luma, a row of them is a row of YUYV (or YVYU)."""

    def to_picture(rows: np.ndarray, width: int) -> Picture:
        luma, colours = np.split(rows[:, :width], 2)
        return _by_cv2(code)(np.dstack([luma, colours]))

    return to_picture


def _full_size(*order: int) -> Callable[[np.ndarray, int], Picture]:
    """4:4:4 with interleaved colours, in rows of twice the stride."""

    def to_picture(rows: np.ndarray, width: int) -> Picture:
        height, stride = len(rows) // 3, rows.shape[1]
        colours = rows[height:].reshape(height, 2 * stride)[:, : 2 * width].reshape(height, width, 2)
        return _by_cv2(cv2.COLOR_YUV2RGB)(np.dstack([rows[:height, :width], colours[..., list(order)]]))

    return to_picture


def _three_planes(code: int) -> Callable[[np.ndarray, int], Picture]:
    """4:2:0 with a plane per colour, in rows of half the stride."""

    def to_picture(rows: np.ndarray, width: int) -> Picture:
        height, stride = len(rows) * 2 // 3, rows.shape[1]
        planes = rows[height:].reshape(-1)[: height * (stride // 2)].reshape(height, stride // 2)[:, : width // 2]
        tight = np.concatenate([rows[:height, :width].reshape(-1), planes.reshape(-1)])
        return _by_cv2(code)(tight.reshape(height * 3 // 2, width))

    return to_picture


# ROS names a Bayer pattern by its first two rows, OpenCV by the second row's second and third pixel.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_BAYER_SHORT = {"rg": "rggb", "bg": "bggr", "gb": "gbrg", "gr": "grbg"}  # as GenICam names them, by the first row
_BAYER_NAME = re.compile(r"bayer_?(rggb|bggr|gbrg|grbg|rg|bg|gb|gr)_?(8|10|12|14|16)")
_PLAIN_NAME = re.compile(r"(8|16|32|64)([usf])c([1-4])")

_NAMED: dict[str, Pixels | Planes] = {
    "mono8": Pixels("u1", 1, _reordered(0)),
    "mono16": Pixels("u2", 1, _reordered(0)),
    "rgb8": Pixels("u1", 3, _reordered(0, 1, 2)),
    "bgr8": Pixels("u1", 3, _reordered(2, 1, 0)),
    "rgba8": Pixels("u1", 4, _with_alpha(0, 1, 2)),
    "bgra8": Pixels("u1", 4, _with_alpha(2, 1, 0)),
    "rgb16": Pixels("u2", 3, _reordered(0, 1, 2)),
    "bgr16": Pixels("u2", 3, _reordered(2, 1, 0)),
    "rgba16": Pixels("u2", 4, _with_alpha(0, 1, 2)),
    "bgra16": Pixels("u2", 4, _with_alpha(2, 1, 0)),
    "uyvy": Pixels("u1", 2, _by_cv2(cv2.COLOR_YUV2RGB_UYVY), even_width=True),
    "yuyv": Pixels("u1", 2, _by_cv2(cv2.COLOR_YUV2RGB_YUY2), even_width=True),
    "yvyu": Pixels("u1", 2, _by_cv2(cv2.COLOR_YUV2RGB_YVYU), even_width=True),
    "vyuy": Pixels("u1", 2, _vyuy, even_width=True),
    "nv12": Planes(Fraction(3, 2), _half_height(cv2.COLOR_YUV2RGB_NV12)),
    "nv21": Planes(Fraction(3, 2), _half_height(cv2.COLOR_YUV2RGB_NV21)),
    "i420": Planes(Fraction(3, 2), _three_planes(cv2.COLOR_YUV2RGB_I420)),
    "yv12": Planes(Fraction(3, 2), _three_planes(cv2.COLOR_YUV2RGB_YV12)),
    "nv16": Planes(Fraction(2), _full_height(cv2.COLOR_YUV2RGB_YUY2)),
    "nv61": Planes(Fraction(2), _full_height(cv2.COLOR_YUV2RGB_YVYU)),
    "nv24": Planes(Fraction(3), _full_size(0, 1), even=False),
    "nv42": Planes(Fraction(3), _full_size(1, 0), even=False),
}

_SPELLINGS = {
    **dict.fromkeys(("grey", "gray", "y8", "y800", "grey8", "gray8", "mono"), "mono8"),
    **dict.fromkeys(("y10", "y12", "y14", "y16", "mono10", "mono12", "mono14", "grey16", "gray16"), "mono16"),
    **dict.fromkeys(("yuv422", "yuv422_uyvy"), "uyvy"),
    **dict.fromkeys(("yuv422_yuy2", "yuv422_yuyv", "yuy2"), "yuyv"),
    **dict.fromkeys(("yuv422_yvyu",), "yvyu"),
    **dict.fromkeys(("yuv420", "yuv420p", "iyuv"), "i420"),
}

ENCODINGS = (
    *_NAMED,
    *(f"bayer_{pattern}{bits}" for pattern in _BAYER for bits in (8, 16)),
    *("yuv422", "yuv422_yuy2", "8UC1", "8UC3", "8UC4", "16UC1", "16UC3", "16UC4", "16SC1", "32SC1", "32FC1", "32FC3", "64FC1"),
)
"""The names that the documentation lists; `find_encoding` knows further spellings."""
