# SPDX-License-Identifier: Apache-2.0
import struct

import pytest
from PIL import Image
from sample_images import encoded, picture

from st3r_ros.io.image_file import decode_file
from st3r_ros.io.image_size import encoded_size

IMAGE = picture(2)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_size_is_in_the_first_bytes(suffix):
    data = encoded(IMAGE, suffix)
    assert encoded_size(data) == encoded_size(memoryview(data)) == encoded_size(data + bytes(1 << 17)) == (48, 32)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_size_is_that_of_the_upright_image(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGE).save(tmp_path / f"turned{suffix}", exif=exif)
    data = (tmp_path / f"turned{suffix}").read_bytes()
    assert encoded_size(data) == decode_file(data).values.shape[1::-1] == (32, 48)


def test_bytes_of_no_image_have_no_size():
    unknown_pixels = b"DDS " + struct.pack("<7I", 124, 0, 24, 32, 0, 0, 0) + bytes(44) + struct.pack("<8I", 32, *[128] * 7)
    for data in (b"", b"text", encoded(IMAGE, ".png")[:20], unknown_pixels + bytes(64)):
        assert encoded_size(data) is None
