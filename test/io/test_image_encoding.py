# SPDX-License-Identifier: Apache-2.0
import array

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_images import encoded, picture, properties

from st3r_ros.errors import EncodingError
from st3r_ros.io import image_encoding
from st3r_ros.io.encodings import ENCODINGS, find_encoding
from st3r_ros.io.picture import Picture, ToneRange

RGB = picture(3, width=24, height=16)
GREY = RGB[..., :1]
ALPHA = np.full_like(GREY, 9)

# encoding -> the array that a driver stores, and what it must become
COLOURS = {
    "rgb8": (RGB, RGB),
    "bgr8": (RGB[..., ::-1], RGB),
    "8UC3": (RGB[..., ::-1], RGB),
    "rgba8": (np.dstack([RGB, ALPHA]), RGB),
    "bgra8": (np.dstack([RGB[..., ::-1], ALPHA]), RGB),
    "8UC4": (np.dstack([RGB[..., ::-1], ALPHA]), RGB),
    "mono8": (GREY, np.repeat(GREY, 3, axis=2)),
    "8UC1": (GREY, np.repeat(GREY, 3, axis=2)),
    "RGB8": (RGB, RGB),
    "rgb8; compressed": (RGB, RGB),
    "Y800": (GREY, np.repeat(GREY, 3, axis=2)),
}
OPAQUE = np.full_like(GREY, 255)
WIDE = {  # the same picture in more than 8 bit
    "rgb16": RGB,
    "bgr16": RGB[..., ::-1],
    "rgba16": np.dstack([RGB, OPAQUE]),
    "bgra16": np.dstack([RGB[..., ::-1], OPAQUE]),
    "16UC3": RGB[..., ::-1],
    "16uc4": np.dstack([RGB[..., ::-1], OPAQUE]),
    "32FC3": RGB[..., ::-1].astype(np.float32),
}


def decode_image(data, **message) -> np.ndarray:
    """As of a stream of one image."""
    return ToneRange().to_rgb(image_encoding.decode_image(data, **message))


def decode_compressed(data, format: str = "") -> np.ndarray:
    return ToneRange().to_rgb(image_encoding.decode_compressed(data, format))


def rows_of(pixels: np.ndarray, padding: int, big_endian: bool = False) -> tuple[bytes, int]:
    """The bytes of an image with padded rows, and its step."""
    pixels = np.ascontiguousarray(pixels)
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    row = stored.reshape(len(stored), -1).view(np.uint8)
    padded = np.full((row.shape[0], row.shape[1] + padding), 0xAB, dtype=np.uint8)
    padded[:, : row.shape[1]] = row
    return padded.tobytes(), padded.shape[1]


@pytest.mark.parametrize("encoding", COLOURS)
@properties
@given(padding=st.integers(0, 9), big_endian=st.booleans())
def test_colours_survive_padding_and_byte_order(encoding, padding, big_endian):
    stored, expected = COLOURS[encoding]
    data, step = rows_of(stored, padding, big_endian)
    image = decode_image(data, height=16, width=24, encoding=encoding, step=step, is_bigendian=big_endian)
    np.testing.assert_array_equal(image, expected)
    assert image.flags.c_contiguous and image.flags.owndata and image.dtype == np.uint8


@pytest.mark.parametrize(
    "wrap", [bytes, bytearray, memoryview, lambda data: array.array("B", data), lambda data: np.frombuffer(data, np.uint8)]
)
def test_every_kind_of_buffer_is_read_and_none_is_shared(wrap):
    data, step = rows_of(RGB, 0)
    image = decode_image(wrap(data), height=16, width=24, encoding="rgb8", step=step)
    np.testing.assert_array_equal(image, RGB)
    image[:] = 0
    np.testing.assert_array_equal(np.frombuffer(data, np.uint8).reshape(RGB.shape), RGB)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_the_colour_that_was_mosaicked(pattern, bits):
    color = {"r": 200, "g": 120, "b": 40}
    tile = np.array([color[letter] for letter in pattern], dtype=np.uint16).reshape(2, 2)
    mosaic = np.tile(tile, (8, 8))
    stored = mosaic.astype(np.uint8) if bits == 8 else mosaic << 4
    data, step = rows_of(stored, 4)
    for name in (f"bayer_{pattern}{bits}", f"Bayer{pattern[:2].upper()}{bits}"):
        decoded = image_encoding.decode_image(data, height=16, width=16, encoding=name, step=step)
        expected = np.broadcast_to((200, 120, 40), (8, 8, 3)) * (1 if bits == 8 else 16)
        np.testing.assert_array_equal(decoded.values[4:-4, 4:-4], expected)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", WIDE)
def test_wide_colours_look_like_the_same_in_8_bit(encoding, big_endian):
    stored = WIDE[encoding] if encoding == "32FC3" else WIDE[encoding].astype(np.uint16) * 16
    data, step = rows_of(stored, 6, big_endian)
    image = decode_image(data, height=16, width=24, encoding=encoding, step=step, is_bigendian=big_endian)
    reference = ToneRange().to_rgb(Picture(RGB.astype(np.uint16) * 16))
    assert np.abs(image.astype(int) - reference).max() <= 1
    slope, offset = np.polyfit(RGB.ravel().astype(float), image.ravel().astype(float), 1)  # one line for all colours
    assert slope > 0.5 and np.abs(slope * RGB.astype(float) + offset - image).max() < 2


def planar(name: str, image: np.ndarray, stride: int) -> bytes:
    """An image as the planes of an encoding."""
    height, width = image.shape[:2]
    tight = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    small = tight[height:].reshape(2, height // 2, width // 2)
    luma = tight[:height]
    if name in ("nv24", "nv42"):
        yuv = cv2.cvtColor(image, cv2.COLOR_RGB2YUV)
        luma, small = yuv[..., 0], yuv[..., 1:].transpose(2, 0, 1)
    if name in ("nv16", "nv61"):
        small = small.repeat(2, axis=1)
    if name in ("nv21", "nv61", "nv42", "yv12"):
        small = small[::-1]
    if name in ("i420", "yv12"):
        padded = np.pad(small, ((0, 0), (0, 0), (0, (stride - width) // 2)))
        return np.pad(luma, ((0, 0), (0, stride - width))).tobytes() + padded.tobytes()
    colours = small.transpose(1, 2, 0).reshape(small.shape[1], -1)
    padding = (stride - width) * colours.shape[1] // width
    return np.pad(luma, ((0, 0), (0, stride - width))).tobytes() + np.pad(colours, ((0, 0), (0, padding))).tobytes()


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize("name", ["nv12", "nv21", "nv16", "nv61", "nv24", "nv42", "i420", "yv12"])
def test_planes_of_luma_and_colours_give_the_picture_back(name, padding):
    data = planar(name, RGB, 24 + padding)
    image = decode_image(data, height=16, width=24, encoding=name, step=24 + padding)
    assert np.abs(image.astype(int) - RGB).mean() < 8  # with the colours swapped, 60
    if not padding:  # some drivers count the bytes of a whole pixel into the step
        np.testing.assert_array_equal(decode_image(data, height=16, width=24, encoding=name.upper(), step=36), image)


def test_vyuy_is_uyvy_with_its_colours_swapped():
    uyvy = np.random.default_rng(0).integers(0, 256, (16, 24, 2), np.uint8)
    vyuy = uyvy.copy()
    vyuy[:, 0::2, 0], vyuy[:, 1::2, 0] = uyvy[:, 1::2, 0], uyvy[:, 0::2, 0]
    images = [decode_image(x.tobytes(), height=16, width=24, encoding=e, step=48) for x, e in ((uyvy, "uyvy"), (vyuy, "vyuy"))]
    np.testing.assert_array_equal(*images)


def test_alpha_tells_what_can_be_used():
    alpha = np.full((16, 24), 255, np.uint8)
    alpha[4:8] = 127
    data, step = rows_of(np.dstack([RGB, alpha]), 4)
    decoded = image_encoding.decode_image(data, height=16, width=24, encoding="rgba8", step=step)
    np.testing.assert_array_equal(decoded.usable, alpha > 127)
    np.testing.assert_array_equal(decoded.values, RGB)


@pytest.mark.parametrize(
    ("encoding", "luma", "chroma"), [("yuv422", 1, 0), ("uyvy", 1, 0), ("yuv422_yuy2", 0, 1), ("yuyv", 0, 1)]
)
def test_yuv_layouts_give_the_colour_back(encoding, luma, chroma):
    color = np.full((8, 12, 3), (180, 90, 60), dtype=np.uint8)
    yuv = cv2.cvtColor(color, cv2.COLOR_RGB2YUV)[0, 0].astype(float)
    y, u, v = 16 + yuv[0] * 219 / 255, 128 + (yuv[1] - 128) * 1.02, 128 + (yuv[2] - 128) * 0.8
    stored = np.empty((8, 12, 2), dtype=np.uint8)
    stored[..., luma] = round(y)
    stored[:, 0::2, chroma], stored[:, 1::2, chroma] = round(u), round(v)
    data, step = rows_of(stored, 2)
    image = decode_image(data, height=8, width=12, encoding=encoding, step=step)
    assert np.abs(image.astype(int) - color).max() <= 12


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize(("encoding", "scale"), [("mono16", 1), ("16UC1", 3), ("32FC1", 0.001)])
def test_wide_channels_become_visible_grey_in_the_same_order(encoding, scale, big_endian):
    values = (np.arange(16)[:, None] * 40 + np.arange(24) + 100) * scale
    stored = values.astype(np.float32 if encoding == "32FC1" else np.uint16)
    stored[3, 5] = 0
    if encoding == "32FC1":
        stored[4, 5], stored[5, 5] = np.nan, np.inf
    data, step = rows_of(stored, 6, big_endian)
    image = decode_image(data, height=16, width=24, encoding=encoding, step=step, is_bigendian=big_endian)
    assert (image[3, 5] == 0).all() and (image[..., 0] == image[..., 2]).all()
    if encoding == "32FC1":
        assert (image[4:6, 5] == 0).all()
    column = image[:, 10, 0].astype(int)
    assert (np.diff(column) >= 0).all() and column[0] < 40 and column[-1] > 215


def test_an_image_without_any_measurement_is_black():
    data, step = rows_of(np.full((4, 4), np.nan, dtype=np.float32), 0)
    assert not decode_image(data, height=4, width=4, encoding="32FC1", step=step).any()


def test_every_listed_encoding_is_known():
    assert [name for name in ENCODINGS if find_encoding(name) is None] == []
    colours = {f"{order}{bits}" for order in ("rgb", "rgba", "bgr", "bgra", "mono") for bits in (8, 16)}
    assert colours | {"uyvy", "yuyv", "yuv422", "yuv422_yuy2", "nv21", "nv24"} <= set(ENCODINGS)


@pytest.mark.parametrize("encoding", ENCODINGS)
@properties
@given(st.data())
def test_bad_messages_are_refused_never_crash(encoding, data):
    width, height = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    step, size = data.draw(st.integers(0, 80)), data.draw(st.integers(0, 800))
    try:
        image = decode_image(bytes(size), height=height, width=width, encoding=encoding, step=step)
    except EncodingError as error:
        assert str(error).startswith("The image")
    else:
        assert image.shape == (height, width, 3) and size >= min(step, width) * height


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "foo"}, "encoding 'foo', which is not known; set the driver to rgb8.*pixel_format"),
        ({"encoding": "8UC2"}, "'8UC2', two channels per pixel"),
        ({"encoding": "MJPEG"}, "'MJPEG', a compressed format"),
        ({"encoding": "bayer_rggb10p"}, "packed bits"),
        ({"encoding": "nv12", "step": 24, "data": bytes(500)}, "500 bytes of data, but 24x16 pixels of nv12.*take 576"),
        ({"encoding": "nv21", "height": 15}, "24x15.*even sizes"),
        ({"encoding": "nv12", "step": 20}, "step of 20 bytes.*luma of 24"),
        ({"data": bytes(1151)}, "1151 bytes.*16 rows of 72 bytes take 1152"),
        ({"step": 71}, "step of 71 bytes.*takes 72"),
        ({"height": 0}, "24x0"),
        ({"width": 40000, "step": 120000}, "40000x16.*32767"),
        ({"encoding": "yuv422", "width": 23}, "even width"),
    ],
)
def test_reasons_name_the_numbers(change, reason):
    message = {"data": bytes(1152), "height": 16, "width": 24, "encoding": "rgb8", "step": 72, **change}
    with pytest.raises(EncodingError, match=reason):
        decode_image(**message)


@pytest.mark.parametrize(
    ("suffix", "name"), [(".png", "png"), (".jpg", "jpeg"), (".png", "rgb8; png compressed bgr8"), (".jpg", "")]
)
def test_compressed_images_come_back_in_rgb(suffix, name):
    image = decode_compressed(array.array("B", encoded(RGB, suffix)), name)
    assert np.abs(image.astype(int) - RGB).max() <= (0 if suffix == ".png" else 24)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@properties
@given(kept=st.floats(0, 0.99))
def test_compressed_images_that_were_cut_short_are_refused(suffix, kept):
    whole = encoded(RGB, suffix)
    with pytest.raises(EncodingError):
        decode_compressed(whole[: int(kept * len(whole))], suffix)


def test_compressed_depth_and_junk_are_refused():
    with pytest.raises(EncodingError, match="depth image"):
        decode_compressed(encoded(RGB), "32FC1; compressedDepth png")
    with pytest.raises(EncodingError, match="no image"):
        decode_compressed(b"hello" * 20, "jpeg")
