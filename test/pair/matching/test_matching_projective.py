# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from matching_scene import TwoViews, two_views

from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair.matching.cycles import grid_pixels
from st3r_ros.pair.matching.matches import image_shape, values_at
from st3r_ros.pair.matching.projective import projective_matches, seeds_from
from st3r_ros.types import Matches

MOTIONS = {
    "none": SE3.identity(),
    "right": SE3.exp(np.array([0.4, 0.0, 0.0, 0.0, 0.03, 0.0])),
    "turned": SE3.exp(np.array([-0.5, 0.1, 0.2, 0.05, -0.25, 0.2])),
    "forward": SE3.exp(np.array([0.05, 0.0, 0.6, 0.0, 0.05, 0.0])),
}


@pytest.fixture(scope="module", params=MOTIONS)
def views(request, room) -> TwoViews:
    return two_views(room, MOTIONS[request.param])


@pytest.fixture(scope="module")
def turned(room) -> TwoViews:
    return two_views(room, MOTIONS["turned"])


def errors(pixels0: torch.Tensor, truth0: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(pixels0 - truth0.flatten(0, 1), dim=-1)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e4])
def test_a_rigid_motion_is_found_and_what_is_hidden_is_left_out(unit, views):
    matches = projective_matches(views.X_0_0[None] * unit, views.X_0_1[None] * unit)
    seen, hidden = views.seen.flatten(), views.hidden.flatten()
    error = errors(matches.pixels0[0], views.truth0)[seen]
    assert seen.float().mean() > 0.3
    assert matches.valid[0, seen].float().mean() > 0.99
    assert error.median() < 0.02
    assert error.quantile(0.99) < 0.2
    assert matches.valid[0, hidden].float().sum() <= 0.01 * hidden.sum()


def test_the_noise_of_single_pixels_averages_out(turned):
    """Rays of image 0 that are each off by about a pixel."""
    pixel = torch.linalg.vector_norm(torch.diff(torch.nn.functional.normalize(turned.X_0_0, dim=-1), dim=1), dim=-1).median()
    noise = torch.randn(turned.X_0_0.shape, generator=torch.Generator().manual_seed(0))
    X_0_0 = turned.X_0_0 + pixel * noise * torch.linalg.vector_norm(turned.X_0_0, dim=-1, keepdim=True)
    matches = projective_matches(X_0_0[None], turned.X_0_1[None])
    seen = turned.seen.flatten()
    assert errors(matches.pixels0[0], turned.truth0)[seen].median() < 0.3
    assert matches.valid[0, seen].float().mean() > 0.98


def test_descriptors_correct_what_the_pointmaps_have_wrong(turned):
    """A pointmap turned by one degree is off by more than two pixels; the descriptors near by bring the matches back."""
    R = torch.tensor(SE3.exp(np.array([0.0, 0.0, 0.0, 0.01, 0.015, 0.0])).rotation, dtype=torch.float32)
    desc0, desc1 = turned.descriptors(0.5)
    seen = turned.seen.flatten()
    X_0_1 = turned.X_0_1 @ R.T
    wrong = projective_matches(turned.X_0_0[None], X_0_1[None])
    right = projective_matches(turned.X_0_0[None], X_0_1[None], desc0[None], desc1[None])
    assert errors(wrong.pixels0[0], turned.truth0)[seen].median() > 2.0
    error = errors(right.pixels0[0], turned.truth0)[seen & right.valid[0]]
    assert error.median() < 0.1
    assert error.quantile(0.95) < 0.5
    assert right.valid[0, seen].float().mean() > 0.9


@pytest.mark.parametrize("subsample", [2, 3, 8])
def test_pairs_and_pixels_do_not_depend_on_each_other(subsample, room, turned):
    other = two_views(room, MOTIONS["right"])
    arguments = []
    for views in (turned, other):
        arguments.append((views.X_0_0, views.X_0_1, *views.descriptors(0.5)))
    together = projective_matches(*(torch.stack(maps) for maps in zip(*arguments, strict=True)), subsample=subsample)
    assert torch.equal(together.pixels1, grid_pixels(image_shape(turned.X_0_1), subsample, together.pixels1.device))
    for pair, maps in enumerate(arguments):
        alone = projective_matches(*(m[None] for m in maps), subsample=1)
        everywhere = alone.pixels0.view(*image_shape(maps[1]), 2)
        assert torch.equal(together.pixels0[pair], values_at(everywhere, together.pixels1))
        valid = values_at(alone.valid.view(image_shape(maps[1])), together.pixels1)
        assert torch.equal(together.valid[pair], valid)
        compact = together.of_pair(pair)
        assert torch.equal(compact.pixels0, together.pixels0[pair][valid])
        assert torch.equal(compact.pixels1, together.pixels1[valid].float())


def test_wrong_seeds_do_no_harm_and_missing_ones_neither(turned):
    X = turned.X_0_0[None], turned.X_0_1[None]
    plain = projective_matches(*X, subsample=2)
    random = 200 * torch.rand(1, len(plain.pixels1), 2, generator=torch.Generator().manual_seed(0)) - 50
    random[0, ::2] = torch.nan
    seeded = projective_matches(*X, subsample=2, seeds=random)
    both = plain.valid & seeded.valid
    assert both.sum() > 0.99 * plain.valid.sum()
    assert (seeded.pixels0 - plain.pixels0)[both].abs().max() < 0.05


def test_seeds_choose_between_places_of_the_same_direction(turned):
    """An image whose right half repeats the rays of the left one: the match stays in the half it was in before."""
    twice = torch.cat([turned.X_0_0, turned.X_0_0], dim=1)[None]
    width = turned.X_0_0.shape[1]
    last = projective_matches(turned.X_0_0[None], turned.X_0_1[None], subsample=4)
    matches = Matches(*(pixels.float() for pixels in (last.pixels0[0], last.pixels1)))
    moved = Matches(matches.pixels0 + torch.tensor([float(width), 0.0]), matches.pixels1)
    for previous, half in ((matches, 0), (moved, 1)):
        seeds = seeds_from(previous, image_shape(turned.X_0_1), 4)[None]
        found = projective_matches(twice, turned.X_0_1[None], subsample=4, seeds=seeds)
        column = found.pixels0[found.valid][:, 0]
        assert (torch.div(column + 0.5, width, rounding_mode="floor") == half).float().mean() > 0.98


@pytest.mark.parametrize("subsample", [1, 3, 4, 7])
def test_seeds_belong_to_the_pixels_that_are_looked_up(subsample):
    shape = (20, 33)
    pixels1 = grid_pixels(shape, subsample, torch.device("cpu"))
    pixels0 = torch.rand(len(pixels1), 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(seeds_from(Matches(pixels0, pixels1), shape, subsample), pixels0)
    assert torch.equal(seeds_from(Matches(pixels0, pixels1.float() + 0.3), shape, subsample), pixels0)
    half = seeds_from(Matches(pixels0[::2], pixels1[::2]), shape, subsample)
    assert torch.equal(half[::2], pixels0[::2])
    assert half[1::2].isnan().all()
    assert seeds_from(Matches(pixels0, pixels1), shape, 64).shape == (0, 2)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_pixels_without_a_point_have_no_match(bad, turned):
    X_0_0, X_0_1 = turned.X_0_0.clone(), turned.X_0_1.clone()
    X_0_1[10:20] = bad
    X_0_0[:, 40:60] = bad
    matches = projective_matches(X_0_0[None], X_0_1[None])
    valid = matches.valid.view(image_shape(X_0_1))
    assert not valid[10:20].any()
    column = matches.pixels0[matches.valid][:, 0]
    assert not ((column > 39.5) & (column < 59.5)).any()
    assert valid.float().mean() > 0.2
    assert matches.pixels0.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2)])
def test_small_images(shape):
    X = torch.cat([torch.rand(*shape, 2, generator=torch.Generator().manual_seed(2)), torch.ones(*shape, 1)], dim=-1)[None]
    desc = torch.nn.functional.normalize(torch.rand(1, *shape, 24), dim=-1)
    matches = projective_matches(X, X, desc, desc)
    assert matches.pixels0.shape == (1, shape[0] * shape[1], 2)
    assert matches.pixels0.isfinite().all()
    assert projective_matches(X, X, subsample=64).valid.shape == (1, 0)
