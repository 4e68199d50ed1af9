# SPDX-License-Identifier: Apache-2.0
"""Masked pixels are neither matched nor mapped, by any pair model."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from st3r_ros.geometry.resizing import resized_mask
from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair.masks import filled, is_usable, shrunk_mask, usable_matches
from st3r_ros.pair.opencv.config import OpenCVPairConfig
from st3r_ros.pair.opencv.model import OpenCVPairModel
from st3r_ros.types import Matches


def test_a_pixel_is_usable_when_all_that_it_is_made_of_is():
    mask = np.ones((40, 60), bool)
    mask[11, 13] = False
    small = resized_mask(mask, 30, 20)
    assert small.sum() == 20 * 30 - 1 and not small[5, 6]
    assert resized_mask(mask, 60, 40) is mask and not resized_mask(mask, 120, 80)[23, 27]


def test_the_margin_is_kept_inside_and_not_at_the_border_of_the_image():
    mask = np.ones((40, 60), bool)
    mask[20, 30] = False
    allowed = shrunk_mask(mask, 5) > 0
    assert not allowed[20, 25] and not allowed[15, 30] and allowed[20, 24] and allowed[0, 0]


def test_matches_need_both_pixels():
    mask = np.ones((10, 10), bool)
    mask[:, :5] = False
    pixels0 = torch.tensor([[2.0, 2.0], [7.0, 2.0], [7.4, 3.0]])
    pixels1 = torch.tensor([[7.0, 2.0], [2.0, 2.0], [8.0, 9.9]])
    kept = usable_matches(Matches(pixels0, pixels1, torch.ones(3), 100), mask, mask)
    assert kept.pixels0.tolist() == pixels0[2:].tolist() and kept.possible == 50
    assert is_usable(None, pixels0.numpy()).all()


@pytest.mark.parametrize("corner", [(10, 20), (0, 0), (30, 50)])
def test_what_is_masked_continues_its_surroundings(corner):
    """An edge of the mask would be a strong feature that moves with the camera."""
    row, column = np.mgrid[:60, :80]
    gray = (60 + row + column).astype(np.uint8)
    mask = np.ones((60, 80), bool)
    mask[corner[0] : corner[0] + 30, corner[1] : corner[1] + 30] = False
    image = filled(np.where(mask, gray, 255), mask)
    assert (image[mask] == gray[mask]).all()
    steps = [np.abs(np.diff(image.astype(int), axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 20  # of 100 and more, if it were black or left as it is
    assert image[~mask].min() >= gray.min() and image[~mask].max() <= gray.max()


def test_an_image_that_is_masked_as_a_whole_is_even():
    image = filled(np.arange(48, dtype=np.uint8).reshape(6, 8), np.zeros((6, 8), bool))
    assert len(np.unique(image)) == 1


@pytest.fixture(scope="module")
def pair(room):
    """Two views of the room, with a textured thing before both cameras that moves with them; masked in either."""
    arm = cv2.resize(np.random.default_rng(1).integers(0, 256, (24, 16, 3), np.uint8), (120, 160))
    mask = np.ones((room.camera.height, room.camera.width), bool)
    mask[-160:, 100:220] = False
    frames = []
    for number, step in enumerate(([0.0] * 6, [0.25, 0.0, 0.0, 0.0, 0.03, 0.0])):
        frame = room.frame(SE3.exp(np.array(step)), number)
        image = frame.image.copy()
        image[~mask] = arm.reshape(-1, 3)
        frames.append(dataclasses.replace(frame, image=image, mask=mask))
    return frames


def test_opencv_neither_matches_nor_maps_masked_pixels(pair):
    model = OpenCVPairModel(OpenCVPairConfig())
    features = [model.encode(frame) for frame in pair]
    prediction = model.predict(*features)
    matches, mask = prediction.matches, features[0].mask
    assert len(matches) > 100
    assert is_usable(mask, matches.pixels0.numpy()).all() and is_usable(mask, matches.pixels1.numpy()).all()
    assert not (prediction.conf0.numpy()[~mask] > 0).any() and not (prediction.conf1.numpy()[~mask] > 0).any()
    assert (prediction.conf0.numpy()[mask] > 0).mean() > 0.3
    assert prediction.parallax_deg > 2.0  # which the thing that does not move would hide


def test_opencv_describes_the_place_without_what_is_masked(pair):
    model = OpenCVPairModel(OpenCVPairConfig())
    other = pair[0].image.copy()
    other[~pair[0].mask] = np.random.default_rng(5).integers(0, 256, (int((~pair[0].mask).sum()), 3))
    first, second = (model.describe(model.encode(dataclasses.replace(pair[0], image=i))) for i in (pair[0].image, other))
    assert float(first @ second) == pytest.approx(1.0, abs=1e-5)
    unmasked = model.describe(model.encode(dataclasses.replace(pair[0], image=other, mask=None)))
    assert float(first @ unmasked) < 0.9
