# SPDX-License-Identifier: Apache-2.0
import io
import itertools
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_images import encoded, picture, properties

from st3r_ros.errors import FrameError
from st3r_ros.io.decoder_lines import DecoderLines
from st3r_ros.io.image_file import IMAGE_SUFFIXES, check_whole, decode_file, image_suffixes, read_image, read_size

IMAGE = picture(2)
ROUGH = Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 96, 3), dtype=np.uint8)).resize((192, 128))


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGE_SUFFIXES if suffix != ".pgm"])
def test_every_format_comes_back_in_rgb(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encoded(IMAGE, suffix))
    image = read_image(path)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.abs(image.astype(int) - IMAGE).max() <= (24 if suffix in (".jpg", ".jpeg", ".webp") else 0)


@pytest.mark.filterwarnings("ignore")  # those of the decoders
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


def stored(picture: Image.Image, file_format: str, **options) -> bytes:
    """The bytes of a file of a Pillow image."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def read(folder, data: bytes) -> np.ndarray:
    path = folder / "image"
    path.write_bytes(data)
    return read_image(path)


def damaged(whole: bytes) -> bytes:
    """A JPEG that lost bytes in the middle of its data, as after an error of a card or a transfer; its end is there."""
    at = (whole.find(b"\xff\xda") + len(whole)) // 2
    return whole[:at] + whole[at + len(whole) // 16 :]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_damaged_in_the_middle_is_refused_and_libjpeg_is_kept_from_the_terminal(tmp_path, capfd, mode, options):
    whole = stored(ROUGH.convert(mode), "JPEG", quality=90, **options)
    decode_file(whole)
    (tmp_path / "broken.jpg").write_bytes(damaged(whole))
    with pytest.raises(FrameError, match=r"broken\.jpg.*(damaged: Corrupt JPEG data|cannot be decoded)"):
        read_image(tmp_path / "broken.jpg")
    assert capfd.readouterr().err == ""


def test_a_damaged_tiff_names_what_its_library_found(tmp_path, capfd):
    whole = bytearray(stored(ROUGH, "TIFF", compression="tiff_lzw"))
    whole[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    (tmp_path / "broken.tif").write_bytes(whole)
    with pytest.raises(FrameError, match=r"broken\.tif.*cannot be decoded: (LZWDecode|tempfile)"):
        read_image(tmp_path / "broken.tif")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("padding", [b"\x00" * 5, b"\xff\x00" * 3])
def test_a_webcam_that_pads_its_jpegs_is_read(padding, capfd):
    whole = stored(ROUGH, "JPEG")
    padded = decode_file(whole[:-2] + padding + whole[-2:])
    np.testing.assert_array_equal(padded.values, decode_file(whole).values)
    assert capfd.readouterr().err == ""


def test_what_others_write_while_an_image_is_decoded_reaches_the_terminal(capfd):
    with DecoderLines() as lines:
        os.write(2, b"[INFO] [1700000000.1] [robot]: ready\nCorrupt JPEG data: bad Huffman code\nPremature end\n")
    assert capfd.readouterr().err == "[INFO] [1700000000.1] [robot]: ready\nPremature end\n"
    assert lines.damage == "Corrupt JPEG data: bad Huffman code"


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_a_turned_picture_is_put_upright(tmp_path, file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = Image.fromarray(IMAGE)
    image = read(tmp_path, stored(smooth, file_format, exif=exif, **({"lossless": True} if file_format == "WEBP" else {})))
    upright = {1: "", 2: "x", 3: "xy", 4: "y", 5: "t", 6: "tx", 7: "txy", 8: "ty"}[orientation]
    expected = IMAGE.swapaxes(0, 1) if "t" in upright else IMAGE
    expected = expected[:: -1 if "y" in upright else 1, :: -1 if "x" in upright else 1]
    assert image.shape == expected.shape and image.flags.c_contiguous
    assert np.abs(image.astype(int) - expected).max() <= (24 if file_format == "JPEG" else 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("file_format", "mode"),
    [
        *itertools.product(["PNG", "TIFF"], ["RGB", "RGBA", "L", "LA", "P", "1"]),
        ("PNG", "PA"),
        ("TIFF", "CMYK"),
    ],
)
def test_colours_of_every_kind_become_rgb_and_transparency_is_dropped(tmp_path, file_format, mode):
    picture = NOISE.quantize(16) if mode in ("P", "PA") else NOISE.convert("L" if mode == "LA" else mode.removesuffix("A"))
    expected = np.array(picture.convert("RGB"))
    options = {}
    if mode == "PA":
        options = {"transparency": bytes(range(0, 256, 16))}
    elif mode.endswith("A"):
        picture.putalpha(NOISE.getchannel("R"))
    np.testing.assert_array_equal(read(tmp_path, stored(picture, file_format, **options)), expected)


def test_a_jpeg_for_printing_and_a_grey_one_have_their_colours(tmp_path):
    smooth = Image.fromarray(IMAGE)
    for mode in ("CMYK", "L"):
        picture = smooth.convert(mode)
        difference = read(tmp_path, stored(picture, "JPEG", quality=95)) - np.array(picture.convert("RGB"), dtype=int)
        assert np.abs(difference).max() <= 24 and np.abs(difference).mean() < 3


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_16_bit_are_kept(tmp_path, suffix):
    grey = np.random.default_rng(1).integers(0, 4096, (24, 40), dtype=np.uint16)
    colour = np.random.default_rng(2).integers(0, 65536, (24, 40, 3), dtype=np.uint16)
    decoded = decode_file(cv2.imencode(suffix, grey)[1].tobytes())
    np.testing.assert_array_equal(decoded.values, grey[..., None])
    decoded = decode_file(cv2.imencode(suffix.replace("pgm", "ppm"), colour)[1].tobytes())
    np.testing.assert_array_equal(decoded.values, colour[..., ::-1])


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_with_alpha_have_a_mask(suffix):
    colour = np.random.default_rng(2).integers(0, 65536, (24, 40, 4), dtype=np.uint16)
    decoded = decode_file(cv2.imencode(suffix, colour)[1].tobytes())
    np.testing.assert_array_equal(decoded.values, colour[..., 2::-1])
    np.testing.assert_array_equal(decoded.usable, colour[..., 3] > 32767)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_16_bit_picture_is_put_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide = (IMAGE[..., 0].astype(np.uint16) << 4) + IMAGE[..., 1]
    decoded = decode_file(stored(Image.fromarray(wide), "TIFF", exif=exif))
    narrow = decode_file(stored(Image.fromarray(IMAGE), "TIFF", exif=exif)).values.astype(np.uint16)
    np.testing.assert_array_equal(decoded.values[..., 0], (narrow[..., 0] << 4) + narrow[..., 1])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_transparent_pixels_cannot_be_used(mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    alpha = np.full((24, 40), 255, np.uint8)
    alpha[:5, :30] = 20
    picture, options = NOISE.convert("RGBA"), {}
    picture.putalpha(Image.fromarray(alpha))
    if mode == "LA":
        picture = picture.convert("LA")
    elif mode == "P":
        picture = Image.fromarray((alpha > 127).astype(np.uint8))
        picture.putpalette([10, 20, 30, 40, 50, 60])
        options = {"transparency": 0}
    decoded = decode_file(stored(picture, "PNG", exif=exif, **options))
    expected = alpha > 127
    np.testing.assert_array_equal(decoded.usable, expected if orientation == 1 else np.rot90(expected, -1))
    assert decoded.values.shape == (*decoded.usable.shape, 3)


def test_floating_point_and_large_numbers_are_pictures(tmp_path):
    for dtype in (np.float32, np.int32):
        numbers = Image.fromarray(np.linspace(1, 2**23, 24 * 40).reshape(24, 40).astype(dtype))
        image = read(tmp_path, stored(numbers, "TIFF"))[..., 0].ravel()
        assert (np.diff(image.astype(int)) >= 0).all() and image[0] < 30 and image[-1] > 225


def test_animations_and_pages_are_refused(tmp_path):
    others = [Image.fromarray(picture(number)) for number in (3, 4)]
    for file_format in ("WEBP", "PNG", "TIFF"):
        with pytest.raises(FrameError, match="3 images"):
            read(tmp_path, stored(Image.fromarray(IMAGE), file_format, save_all=True, append_images=others))
    smaller = Image.fromarray(picture(3, 16, 8))
    image = read(tmp_path, stored(Image.fromarray(IMAGE), "TIFF", save_all=True, append_images=[smaller]))
    np.testing.assert_array_equal(image, IMAGE)


@pytest.mark.parametrize(("width", "height"), [(40_000, 2), (2, 40_000), (60_000, 60_000)])
def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_unpacked(tmp_path, width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND"]
    data = b"".join(struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    with pytest.raises(FrameError, match=rf"{width}x{height}|{width * height} pixels"):
        read(tmp_path, b"\x89PNG\r\n\x1a\n" + data)


@pytest.mark.filterwarnings("ignore")  # those of the decoders
@properties
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"]), st.data())
def test_wrong_bytes_give_an_image_or_a_sentence(tmp_path_factory, file_format, data):
    whole = bytearray(stored(NOISE, file_format))
    for _ in range(3):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read(tmp_path_factory.getbasetemp(), bytes(whole))
    except FrameError as error:
        assert "cannot be used" in str(error)
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.flags.c_contiguous


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_heic_images_of_phones_are_read_upright(tmp_path, orientation):
    heif = pytest.importorskip("pillow_heif", reason="HEIC images are read with the optional library pillow-heif")
    path = tmp_path / "IMG_0001.HEIC"
    stored = {1: IMAGE, 6: np.rot90(IMAGE, 1), 8: np.rot90(IMAGE, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    heif.from_pillow(Image.fromarray(np.ascontiguousarray(stored))).save(path, exif=exif.tobytes(), quality=95)
    np.testing.assert_allclose(read_image(path), IMAGE, atol=24)
    assert read_size(path) == (48, 32) and ".heic" in image_suffixes()
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FrameError, match=r"IMG_0001\.HEIC"):
        read_image(path)


def test_the_size_of_an_image_is_that_of_the_upright_one(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGE).save(tmp_path / "turned.jpg", exif=exif)
    assert read_size(tmp_path / "turned.jpg") == (32, 48) == read_image(tmp_path / "turned.jpg").shape[1::-1]
    for name, content in (("absent.jpg", None), ("text.jpg", b"text")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(FrameError, match=name):
            read_size(tmp_path / name)
