# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import torch

from st3r_ros.commands.pair_picture import SHOWN_MATCHES, draw_matches, draw_values, spread_best
from st3r_ros.types import Matches

SHAPE = (96, 128)


def decode(png: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def random_matches(count: int, shape0: tuple[int, int] = SHAPE, shape1: tuple[int, int] = SHAPE) -> Matches:
    rng = np.random.default_rng(count)
    pixels0, pixels1 = (rng.uniform(0, 1, (count, 2)) * (shape[1] - 1, shape[0] - 1) for shape in (shape0, shape1))
    return Matches(*map(torch.from_numpy, (pixels0, pixels1, rng.permutation(count).astype(np.float64))))


def test_the_shown_matches_are_good_ones_from_everywhere():
    matches = random_matches(5000)
    pixels, conf = matches.pixels0.numpy(), matches.weight.numpy()
    chosen = spread_best(pixels, conf, SHAPE)
    assert len(chosen) == len(set(chosen)) == SHOWN_MATCHES
    assert chosen[0] == conf.argmax()
    assert (np.diff(conf[chosen]) < 0).all()
    assert (np.ptp(pixels[chosen], axis=0) > (80, 60)).all()
    assert conf[chosen].min() > np.median(conf)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_matches_are_all_shown_unless_they_are_neighbours(count):
    assert sorted(spread_best(np.arange(2.0 * count).reshape(count, 2) * 20, np.ones(count), (256, 256))) == list(range(count))
    crowded = np.full((count, 2), 3.0)
    assert len(spread_best(crowded, np.ones(count), (256, 256))) == min(count, 1)


@pytest.mark.parametrize("count", [0, 200])
def test_both_images_and_the_lines_are_in_the_picture(count):
    image0, image1 = np.full((*SHAPE, 3), 40, np.uint8), np.full((128, 96, 3), 200, np.uint8)
    picture = decode(draw_matches(image0, image1, random_matches(count, SHAPE, (128, 96)), "Title"))
    area0, area1 = ((picture == level).all(axis=2).sum() for level in (40, 200))
    assert picture.shape[1] > 1000
    if count:
        assert 0.3 < area0 / area1 < 3.0
        colorful = np.ptp(picture.astype(int), axis=2) > 80
        assert colorful.sum() > 1000
    else:
        assert area0 / area1 == pytest.approx(1.0, rel=0.05)


def test_the_legend_is_beside_the_values_and_gaps_are_grey():
    values = np.linspace(1.0, 5.0, 60 * 80).reshape(60, 80)
    values[:30, :40] = np.nan
    picture = decode(draw_values(values, "Title", colors="viridis"))
    height, width = picture.shape[:2]
    assert width > 80 * 6 and height > 60 * 6
    grey = (np.abs(picture.astype(int) - (212, 212, 216)).max(axis=2) <= 1).mean()
    assert 0.1 < grey < 0.25
    assert np.ptp(picture[:, -80:].astype(int), axis=2).max() > 80  # the colour bar


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize(
    "values", [np.full((20, 30), np.nan), np.ones((20, 30)), np.zeros((20, 30)), np.full((20, 30), -3.0), np.ones((1, 1))]
)
def test_maps_without_any_contrast_are_drawn_too(values, logarithmic):
    assert decode(draw_values(values, "Title", colors="viridis", logarithmic=logarithmic)).size
