# SPDX-License-Identifier: Apache-2.0
import torch

from st3r_ros.types import Matches

PIXELS0, PIXELS1 = torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([[7, 8], [9, 10], [11, 12]])


def rows(matches: Matches) -> list[tuple[list[int], list[int], float]]:
    return list(zip(matches.pixels0.tolist(), matches.pixels1.tolist(), matches.weight.tolist(), strict=True))


def test_matches_have_weight_1_unless_it_is_given():
    matches = Matches(PIXELS0, PIXELS1)
    assert len(matches) == 3
    assert matches.weight.dtype == torch.float32
    assert matches.weight.tolist() == [1.0, 1.0, 1.0]
    assert matches.possible == 0


def test_swapped_matches_exchange_the_images_and_keep_the_rest():
    matches = Matches(PIXELS0, PIXELS1, torch.tensor([0.25, 0.5, 1.0]), 12).swapped()
    assert rows(matches) == [([7, 8], [1, 2], 0.25), ([9, 10], [3, 4], 0.5), ([11, 12], [5, 6], 1.0)]
    assert matches.possible == 12


def test_matches_are_chosen_by_mask_or_by_index():
    matches = Matches(PIXELS0, PIXELS1, torch.tensor([0.25, 0.5, 1.0]), 12)
    by_mask = matches.chosen(torch.tensor([True, False, True]))
    assert rows(by_mask) == [([1, 2], [7, 8], 0.25), ([5, 6], [11, 12], 1.0)]
    by_index = matches.chosen(torch.tensor([2, 0]))
    assert rows(by_index) == list(reversed(rows(by_mask)))
    assert by_mask.possible == by_index.possible == 12
    assert len(matches.chosen(torch.zeros(3, dtype=torch.bool))) == 0


def test_matches_move_to_a_device():
    matches = Matches(PIXELS0, PIXELS1, possible=4).to("cpu")
    assert rows(matches) == rows(Matches(PIXELS0, PIXELS1))
    assert matches.possible == 4
