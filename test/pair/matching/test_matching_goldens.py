# SPDX-License-Identifier: Apache-2.0
"""Matches of the published fast reciprocal matching, on two synthetic descriptor maps: equal to the last pixel."""

from pathlib import Path

import numpy as np
import pytest
import torch

from st3r_ros.pair.matching.matches import pixels_at, unique_pairs
from st3r_ros.pair.matching.nearest import nearest
from st3r_ros.pair.matching.reciprocal import fast_reciprocal, one_order_matches
from st3r_ros.types import Matches

GOLDEN = Path(__file__).parents[2] / "golden" / "match_synthetic.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def assert_equal(matches: Matches, golden: dict[str, torch.Tensor], name: str) -> None:
    assert torch.equal(matches.pixels0, golden[f"{name}_xy1"])
    assert torch.equal(matches.pixels1, golden[f"{name}_xy2"])


def test_every_nearest_neighbour(golden):
    flat0, flat1 = golden["desc1"].flatten(0, 1), golden["desc2"].flatten(0, 1)
    assert torch.equal(nearest(flat0, flat1).index, golden["brute_nn1to2"])
    assert torch.equal(nearest(flat1, flat0).index, golden["brute_nn2to1"])


@pytest.mark.parametrize("subsample", [1, 3, 4, 8])
def test_matches_from_a_grid(subsample, golden):
    assert_equal(fast_reciprocal(golden["desc1"], golden["desc2"], subsample=subsample), golden, f"S{subsample}")


@pytest.mark.parametrize("tolerance", [0, 3])
def test_matches_from_given_pixels(tolerance, golden):
    starts = torch.stack([golden["init_x"], golden["init_y"]], dim=1)
    matches = fast_reciprocal(golden["desc1"], golden["desc2"], starts=starts, pixel_tolerance=tolerance)
    assert_equal(matches, golden, f"initxy_tol{tolerance}")


@pytest.mark.parametrize("tolerance", [0, 3])
def test_matches_of_one_order_and_their_confidence(tolerance, golden):
    maps = (golden[name] for name in ("desc1", "desc2", "conf1", "conf2"))
    matches = one_order_matches(*maps, subsample=4, pixel_tolerance=tolerance)
    assert_equal(matches, golden, f"nonsym_tol{tolerance}")
    assert torch.equal(matches.weight, golden[f"nonsym_tol{tolerance}_conf"])


def test_of_equal_pairs_the_first_is_kept(golden):
    index0, index1 = golden["merge_in1"].long(), golden["merge_in2"].long()
    kept = unique_pairs(index0, index1)
    assert torch.equal(kept, golden["merge_index"])
    assert_equal(Matches(pixels_at(index0[kept], 3), pixels_at(index1[kept], 3)), golden, "merge")
