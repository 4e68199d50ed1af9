# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import normalize

from st3r_ros.pair.matching.cycles import grid_pixels
from st3r_ros.pair.matching.reciprocal import fast_reciprocal
from st3r_ros.pair.matching.subpixel import refine_matches, subpixel_offsets
from st3r_ros.types import Matches

SHAPE = (40, 56)
WAVELENGTH = 6.0


def smooth_map(shift: torch.Tensor) -> torch.Tensor:
    """Descriptors (H, W, 24) that are a smooth function of the pixel plus `shift` (2,)."""
    generator = torch.Generator().manual_seed(0)
    frequency, phase = torch.randn(2, 24, generator=generator) / WAVELENGTH, 6.283 * torch.rand(24, generator=generator)
    pixels = grid_pixels(SHAPE, 1, shift.device).view(*SHAPE, 2) + shift
    return normalize(torch.cos(pixels @ frequency + phase), dim=-1)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.4), (-0.25, 0.1), (5.45, 3.2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_peak_is_nearer_to_the_truth_than_the_pixel(shift, dtype):
    move = torch.tensor(shift)
    desc0, desc1 = smooth_map(torch.zeros(2)).to(dtype), smooth_map(move).to(dtype)
    matches = fast_reciprocal(desc0, desc1, subsample=2)
    refined = refine_matches(desc0, desc1, matches)
    assert torch.equal(refined.pixels1, matches.pixels1.float())
    inner = ((matches.pixels0 > 0) & (matches.pixels0 < torch.tensor([SHAPE[1] - 1, SHAPE[0] - 1]))).all(dim=1)
    error = torch.linalg.vector_norm(refined.pixels0 - (matches.pixels1 + move), dim=1)
    before = torch.linalg.vector_norm(matches.pixels0 - (matches.pixels1 + move), dim=1)
    assert len(error[inner]) > 200
    assert error[inner].median() < 0.03
    assert error[inner].mean() <= 0.3 * before[inner].mean() + 0.01


def test_a_batch_is_what_its_items_are():
    desc = torch.stack([smooth_map(torch.tensor([0.2, 0.1])), smooth_map(torch.tensor([-0.4, 0.3]))])
    pixels = torch.stack([grid_pixels(SHAPE, 3, desc.device), grid_pixels(SHAPE, 3, desc.device).flip(0)])
    x, y = pixels.unbind(-1)
    queries = smooth_map(torch.zeros(2))[y, x]
    both = subpixel_offsets(desc, queries, pixels)
    for item in range(2):
        alone = subpixel_offsets(desc[item, None], queries[item, None], pixels[item, None])
        torch.testing.assert_close(both[item], alone[0], rtol=0.0, atol=1e-4)
    assert both.abs().max() <= 1.0


def test_without_a_peak_inside_nothing_moves():
    flat = normalize(torch.ones(*SHAPE, 24), dim=-1)
    pixels = grid_pixels(SHAPE, 1, flat.device)
    assert (refine_matches(flat, flat, Matches(pixels, pixels)).pixels0 == pixels).all()
    desc = smooth_map(torch.zeros(2))
    refined = refine_matches(desc, smooth_map(torch.tensor([0.3, 0.3])), Matches(pixels, pixels))
    border = (pixels[:, 0] == 0) | (pixels[:, 1] == 0) | (pixels[:, 0] == SHAPE[1] - 1) | (pixels[:, 1] == SHAPE[0] - 1)
    assert (refined.pixels0 == pixels)[border].all()
    assert (refined.pixels0 != pixels)[~border].any(dim=1).float().mean() > 0.9


def test_no_matches_stay_none():
    none = torch.zeros(0, 2, dtype=torch.int64)
    desc = smooth_map(torch.zeros(2))
    assert len(refine_matches(desc, desc, Matches(none, none))) == 0
