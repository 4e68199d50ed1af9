# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_images import encoded, picture, properties

from st3r_ros.errors import FrameError
from st3r_ros.io.image_file import IMAGE_SUFFIXES, check_whole, read_image

IMAGE = picture(2)


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGE_SUFFIXES if suffix != ".pgm"])
def test_every_format_comes_back_in_rgb(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encoded(IMAGE, suffix))
    image = read_image(path)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.abs(image.astype(int) - IMAGE).max() <= (24 if suffix in (".jpg", ".jpeg", ".webp") else 0)


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGE_SUFFIXES if suffix != ".pgm"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.8, 0.97])
def test_a_file_that_was_cut_short_is_never_half_a_picture(tmp_path, suffix, kept):
    path, whole = tmp_path / f"image{suffix}", encoded(IMAGE, suffix)
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(FrameError, match=f"image{suffix}"):
        read_image(path)


@properties
@given(st.data())
def test_a_png_with_a_wrong_byte_is_damaged(data):
    whole = bytearray(encoded(IMAGE))
    at = data.draw(st.integers(8, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError):
        check_whole(bytes(whole))


def test_a_jpeg_with_a_thumbnail_and_a_tail_is_whole_until_its_scan_is_cut():
    thumbnail, whole = encoded(picture(0, 8, 8), ".jpg"), encoded(IMAGE, ".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    photo = whole[:2] + segment + whole[2:]
    check_whole(photo)
    check_whole(photo + b"\x00" * 100 + b"\xff\xda tail of a phone")
    with pytest.raises(FrameError, match="cut short"):
        check_whole(photo[:-40])


def test_text_empty_and_missing_files_say_what_they_are(tmp_path):
    (tmp_path / "text.jpg").write_text("This is not an image.\n")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, reason in (("text.jpg", "no image"), ("empty.png", "is empty"), ("none.png", "No such file"), (".", "directory")):
        with pytest.raises(FrameError, match=reason):
            read_image(tmp_path / name)
