# SPDX-License-Identifier: Apache-2.0
import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from st3r_ros.errors import FrameError, InputError
from st3r_ros.io.masks import Masks, fitted, mask_of
from st3r_ros.io.picture import Picture
from st3r_ros.sequences import open_sequence
from st3r_ros.types import Frame

USABLE = np.ones((24, 32), bool)
USABLE[:6, :20] = False
IMAGE = np.zeros((24, 32, 3), np.uint8)


def write(path, mask=USABLE, white: int = 255):
    path.parent.mkdir(exist_ok=True, parents=True)
    cv2.imwrite(str(path), mask.astype(np.uint8) * white)
    return path


@pytest.mark.parametrize(
    "values",
    [
        USABLE[..., None].astype(np.uint8) * 255,
        USABLE[..., None].astype(np.uint8) * 128,
        USABLE[..., None].astype(np.uint8),
        USABLE[..., None].astype(np.uint16) * 65535,
        USABLE[..., None].astype(np.uint16) * 255,
        USABLE[..., None].astype(np.float32),
        USABLE[..., None] * np.array([0, 200, 0], np.uint8),
    ],
)
def test_black_is_masked_however_it_is_written(values):
    np.testing.assert_array_equal(mask_of(Picture(values)), USABLE)


def test_noise_of_jpeg_on_black_is_black():
    assert not mask_of(Picture(np.random.default_rng(0).integers(0, 9, (24, 32, 1), np.uint8))).any()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpg.png", "deeper/a.png"])
def test_a_mask_is_found_by_the_name_of_its_image(tmp_path, name):
    write(tmp_path / "masks" / name)
    write(tmp_path / "masks" / "other.png", ~USABLE)
    frame = Frame(0, 0, IMAGE, source="/somewhere/deeper/a.jpg")
    found = Masks(tmp_path / "masks").apply(frame).mask
    assert found is not None and (found != USABLE).mean() < 0.02


def test_images_of_recordings_are_found_by_their_stamps_and_one_file_is_for_all(tmp_path):
    write(tmp_path / "masks" / "1700000000.066666667.png")
    frame = Frame(0, 1_700_000_000_066_666_667, IMAGE, source="/data/drive.mcap?topic=/camera/image_raw")
    np.testing.assert_array_equal(Masks(tmp_path / "masks").apply(frame).mask, USABLE)
    static = Masks(write(tmp_path / "mask.png"))
    masked = static.apply(Frame(0, 0, IMAGE, mask=np.flipud(USABLE)))
    np.testing.assert_array_equal(masked.mask, USABLE & np.flipud(USABLE))


def test_a_missing_mask_is_said_once(tmp_path, caplog):
    write(tmp_path / "masks" / "a.png")
    masks = Masks(tmp_path / "masks")
    with caplog.at_level(logging.WARNING):
        frames = [masks.apply(Frame(i, i, IMAGE, source=f"/x/{name}.png")) for i, name in enumerate("bca")]
    assert [frame.mask is None for frame in frames] == [True, True, False]
    assert len(caplog.records) == 1 and "no mask for b.png" in caplog.text


def test_a_mask_that_leaves_nothing_is_said_once(tmp_path, caplog):
    labels = Masks(write(tmp_path / "mask.png", white=20))
    with caplog.at_level(logging.WARNING):
        frames = [labels.apply(Frame(i, i, IMAGE, source="/x/b.png")) for i in range(2)]
    assert not any(frame.mask.any() for frame in frames)
    assert len(caplog.records) == 1 and "mask for b.png" in caplog.text and "dark everywhere" in caplog.text


def test_a_mask_of_another_size_is_fitted_and_of_another_shape_refused(tmp_path):
    large = np.repeat(np.repeat(USABLE, 3, axis=0), 3, axis=1)
    np.testing.assert_array_equal(fitted(large, 32, 24), USABLE)
    with pytest.raises(FrameError, match="mask is 24x32 pixels, but the image is 32x24"):
        fitted(USABLE.T, 32, 24)
    with pytest.raises(InputError, match="no file or folder of masks"):
        Masks(tmp_path / "none")
    with pytest.raises(InputError, match="contains no masks"):
        Masks(tmp_path)


@pytest.mark.parametrize("stored", [True, False])
def test_the_mask_of_a_turned_image_is_turned_if_need_be(tmp_path, stored):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "images" / "a.jpg", exif=exif)
    upright = np.rot90(USABLE, -1)
    write(tmp_path / "masks" / "a.png", USABLE if stored else upright)
    (frame,) = open_sequence(str(tmp_path / "images"))
    assert frame.image.shape == (32, 24, 3)
    np.testing.assert_array_equal(Masks(tmp_path / "masks").apply(frame).mask, upright)


def test_transparent_pixels_of_a_folder_are_masked(tmp_path):
    rgba = np.dstack([IMAGE, USABLE.astype(np.uint8) * 255])
    cv2.imwrite(str(tmp_path / "a.png"), rgba)
    (frame,) = open_sequence(str(tmp_path))
    np.testing.assert_array_equal(frame.mask, USABLE)
