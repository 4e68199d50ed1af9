# SPDX-License-Identifier: Apache-2.0
import itertools
from collections.abc import Sequence

import pytest
import torch

from st3r_ros.pair.matching.coarse_to_fine import CropWindow, WindowPair, coarse_to_fine, covering_pairs, overlapping_windows
from st3r_ros.types import Matches

SHAPE0, SHAPE1 = (1500, 2000), (1800, 1200)
SHIFT = torch.tensor([-150, 180])


def true_matches(step: int = 23) -> Matches:
    """Pixels of image 0 and the same shifted in image 1, where they are in both."""
    y, x = torch.meshgrid(torch.arange(0, SHAPE0[0], step), torch.arange(0, SHAPE0[1], step), indexing="ij")
    pixels0 = torch.stack([x.flatten(), y.flatten()], dim=1)
    pixels1 = pixels0 + SHIFT
    inside = ((pixels1 >= 0) & (pixels1 < torch.tensor([SHAPE1[1], SHAPE1[0]]))).all(dim=1)
    return Matches(pixels0[inside], pixels1[inside])


def held(pairs: Sequence[WindowPair], matches: Matches) -> torch.Tensor:
    """Which matches are inside some pair of windows."""
    inside = torch.zeros(len(matches), dtype=torch.bool)
    for window0, window1 in pairs:
        inside |= window0.contains(matches.pixels0) & window1.contains(matches.pixels1)
    return inside


@pytest.mark.parametrize(
    "shape", [(384, 512), (385, 512), (384, 1300), (3000, 4000), (4000, 3000), (100, 20000), (1, 1), (16, 700)]
)
def test_windows_cover_the_image_and_overlap_by_half(shape):
    windows = overlapping_windows(shape, (384, 512))
    upright = shape[0] > shape[1]
    covered = torch.zeros(shape, dtype=torch.bool)
    for w in windows:
        assert (w.height, w.width) == (min(shape[0], 512 if upright else 384), min(shape[1], 384 if upright else 512))
        assert 0 <= w.x <= shape[1] - w.width
        assert 0 <= w.y <= shape[0] - w.height
        covered[w.y : w.y + w.height, w.x : w.x + w.width] = True
    assert covered.all()
    for positions, size in (
        (sorted({w.x for w in windows}), windows[0].width),
        (sorted({w.y for w in windows}), windows[0].height),
    ):
        assert all(b - a <= (size + 1) // 2 for a, b in itertools.pairwise(positions))


@pytest.mark.parametrize("coverage", [0.5, 0.9, 1.0])
def test_the_chosen_pairs_hold_enough_of_the_matches(coverage):
    matches = true_matches()
    windows = overlapping_windows(SHAPE0, (384, 512)), overlapping_windows(SHAPE1, (384, 512))
    pairs = covering_pairs(*windows, matches, coverage=coverage, max_pairs=1000)
    assert held(pairs, matches).float().mean() >= coverage
    assert held(pairs[:-1], matches).float().mean() < coverage
    assert len(set(pairs)) == len(pairs)
    first = held(pairs[:1], matches).sum()
    assert all(held([pair], matches).sum() <= first for pair in pairs)


def test_the_number_of_pairs_is_bounded():
    windows = overlapping_windows(SHAPE0, (384, 512)), overlapping_windows(SHAPE1, (384, 512))
    assert len(covering_pairs(*windows, true_matches(), max_pairs=3)) == 3


def exact_windows(pairs: Sequence[WindowPair]) -> list[Matches]:
    """What a perfect matcher finds in pairs of windows; the later a pair, the less it trusts itself."""
    matches = true_matches(5)
    found = []
    for rank, (window0, window1) in enumerate(pairs):
        inside = window0.contains(matches.pixels0) & window1.contains(matches.pixels1)
        pixels0 = matches.pixels0[inside] - torch.tensor([window0.x, window0.y])
        pixels1 = matches.pixels1[inside] - torch.tensor([window1.x, window1.y])
        found.append(Matches(pixels0, pixels1, torch.full((len(pixels0),), 1.0 / (1 + rank))))
    return found


def test_fine_matches_are_put_together_in_full_resolution():
    truth = true_matches(5)
    found = coarse_to_fine(true_matches(), SHAPE0, SHAPE1, exact_windows)
    assert torch.equal(found.pixels0 + SHIFT, found.pixels1)
    assert len(found) >= 0.85 * len(truth)
    assert len(found.pixels0.unique(dim=0)) == len(found)
    first = exact_windows(
        covering_pairs(overlapping_windows(SHAPE0, (384, 512)), overlapping_windows(SHAPE1, (384, 512)), true_matches())
    )[0]
    assert (found.weight == 1.0).sum() == len(first)


def test_the_windows_that_match_are_those_of_the_coarse_matches():
    asked: list[WindowPair] = []

    def match_windows(pairs: Sequence[WindowPair]) -> list[Matches]:
        asked.extend(pairs)
        return [Matches(torch.tensor([[1.25, 2.5]]), torch.tensor([[3.0, 4.0]]), torch.ones(1)) for _ in pairs]

    here = Matches(torch.tensor([[1990.0, 1490.0]]), torch.tensor([[3.4, 2.6]]))
    found = coarse_to_fine(here, SHAPE0, SHAPE1, match_windows)
    assert asked == [(CropWindow(1488, 1116, 512, 384), CropWindow(0, 0, 384, 512))]
    assert found.pixels0.tolist() == [[1489.25, 1118.5]]
    assert found.pixels1.tolist() == [[3.0, 4.0]]


def test_without_coarse_matches_nothing_is_matched():
    none = torch.zeros(0, 2, dtype=torch.int64)
    found = coarse_to_fine(Matches(none, none), SHAPE0, SHAPE1, lambda pairs: pytest.fail("nothing to match"))
    assert len(found) == 0
    assert len(found.weight) == 0
