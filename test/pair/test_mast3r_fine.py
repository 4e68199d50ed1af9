# SPDX-License-Identifier: Apache-2.0
import copy

import numpy as np
import pytest
import torch
from small_networks import make_network

from procedural_weights import image
from st3r_ros.pair.mast3r.model import MASt3RPairModel
from st3r_ros.pair.mast3r.reconstruction import match_full_resolution
from st3r_ros.types import Matches


@pytest.fixture(scope="module")
def model() -> MASt3RPairModel:
    """Its views have the same weights, so that equal windows have equal descriptors."""
    network = copy.deepcopy(make_network("mast3r"))
    network.dec_blocks2.load_state_dict(network.dec_blocks.state_dict())
    network.downstream_head2.load_state_dict(network.downstream_head1.state_dict())
    return MASt3RPairModel(network)


@pytest.mark.parametrize("shape", [(112, 144), (160, 96), (40, 130)], ids=str)
def test_an_image_is_matched_with_itself_pixel_by_pixel(model, shape):
    """The coarse matches lead to pairs of equal windows, which match exactly, and come back at their place in the full image."""
    picture = image("fine", *shape)
    y, x = np.mgrid[4 : shape[0] : 8, 4 : shape[1] : 8]
    pixels = torch.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1)).float()
    found = match_full_resolution(model, picture, picture, Matches(pixels, pixels), subsample=4)
    torch.testing.assert_close(found.pixels0, found.pixels1)
    assert (found.pixels0 >= -0.5).all() and (found.pixels0[:, 0] < shape[1]).all() and (found.pixels0[:, 1] < shape[0]).all()
    cells = {(int(x) // 16, int(y) // 16) for x, y in found.pixels0.tolist()}
    assert len(cells) > 0.8 * (shape[0] // 16) * (shape[1] // 16)


def test_without_coarse_matches_nothing_is_matched(model):
    none = Matches(torch.zeros(0, 2), torch.zeros(0, 2))
    assert len(match_full_resolution(model, image("a", 64, 96), image("b", 64, 96), none)) == 0
