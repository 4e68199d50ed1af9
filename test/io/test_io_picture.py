# SPDX-License-Identifier: Apache-2.0
import logging

import numpy as np
import pytest

from st3r_ros.io.picture import Picture, ToneRange

GREY = np.random.default_rng(0).integers(0, 256, (48, 64, 1)).astype(np.uint16)


def thermal(brighter: float = 0.0) -> Picture:
    return Picture((7500.0 + 4 * GREY + brighter).astype(np.uint16))


def test_8_bit_pass_through():
    image = np.random.default_rng(1).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ToneRange().to_rgb(Picture(image)), image)
    np.testing.assert_array_equal(ToneRange().to_rgb(Picture(image[..., :1])), np.repeat(image[..., :1], 3, axis=2))


@pytest.mark.parametrize(("gain", "offset"), [(1, 0), (4, 0), (16, 0), (257, 0), (4, 7500)])
def test_whatever_the_bits_in_use_the_same_is_seen(gain, offset):
    seen = ToneRange().to_rgb(Picture((offset + gain * GREY).astype(np.uint16)))
    expected = ToneRange().to_rgb(Picture((1 + 100 * GREY).astype(np.uint16)))
    assert np.abs(seen.astype(int) - expected)[GREY[..., 0] > 0].max() <= 1
    assert np.ptp(seen[GREY[..., 0] > 0]) > 180


def test_small_changes_of_the_light_do_not_flicker():
    tones = ToneRange()
    first = tones.to_rgb(thermal())
    for change in (20, -30, 50, 0):
        tones.to_rgb(thermal(change))
    np.testing.assert_array_equal(tones.to_rgb(thermal()), first)


def test_the_range_widens_at_once_and_shrinks_slowly():
    tones = ToneRange()
    before = tones.to_rgb(thermal())
    wide = tones.to_rgb(Picture((7500 + 40 * GREY).astype(np.uint16)))
    assert 180 < np.percentile(wide, 99) < 255  # nothing is cut off
    contrast = [int(np.ptp(tones.to_rgb(thermal())[..., 0])) for _ in range(300)]
    assert contrast[0] < np.ptp(before) / 4
    assert max(np.diff(contrast)) <= 5 and contrast[-1] > 90


def test_what_is_not_measured_or_masked_does_not_count():
    depth = np.linspace(1.0, 2.0, 48 * 64, dtype=np.float32).reshape(48, 64, 1)
    expected = ToneRange().to_rgb(Picture(depth))
    holes = depth.copy()
    holes[0, :3, 0] = 0.0, np.nan, np.inf
    seen = ToneRange().to_rgb(Picture(holes))
    assert not seen[0, :3].any() and np.abs(seen.astype(int) - expected)[1:].max() <= 1
    values, usable = (7500 + 4 * GREY).astype(np.uint16), np.ones((48, 64), bool)
    values[:20], usable[:20] = 60000, False
    seen = ToneRange().to_rgb(Picture(values, usable))
    assert np.ptp(seen[20:]) > 180


def test_nothing_and_noise_stay_dark():
    assert not ToneRange().to_rgb(Picture(np.full((4, 4, 1), np.nan))).any()
    constant = ToneRange().to_rgb(Picture(np.full((16, 16, 1), 100, np.uint16)))
    assert len(np.unique(constant)) == 1 and constant.max() < 60
    assert ToneRange().to_rgb(Picture(np.full((16, 16, 3), 7, np.int32))).shape == (16, 16, 3)


def test_an_image_that_is_all_transparent_is_no_mask_and_said_once(caplog):
    values, alpha = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    tones, nothing = ToneRange(), Picture.with_alpha(values, alpha)
    assert nothing.usable is None and nothing.all_transparent
    with caplog.at_level(logging.WARNING):
        tones.to_rgb(nothing)
        tones.to_rgb(nothing)
    assert len(caplog.records) == 1
    alpha[0, 0] = 128
    assert Picture.with_alpha(values, alpha).usable.sum() == 1
    assert Picture.with_alpha(values, np.maximum(alpha, 128)).usable is None
