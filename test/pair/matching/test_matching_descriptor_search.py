# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import normalize

from st3r_ros.pair.matching import descriptor_search
from st3r_ros.pair.matching.cycles import grid_pixels
from st3r_ros.pair.matching.descriptor_search import search_around

SHAPE = (60, 90)


def smooth_maps() -> torch.Tensor:
    """Two maps (2, H, W, 24) of descriptors that vary slowly and never repeat near by."""
    generator = torch.Generator().manual_seed(0)
    pixels = grid_pixels(SHAPE, 1, torch.device("cpu")).view(1, *SHAPE, 2).float()
    frequency, phase = 0.04 * torch.randn(2, 1, 2, 24, generator=generator), 6.283 * torch.rand(2, 1, 1, 24, generator=generator)
    return normalize(torch.cos(pixels @ frequency + phase), dim=-1)


@pytest.mark.parametrize("block", [1, 100_000, 2**25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_pixel_is_found_from_anywhere_near(block, dtype, monkeypatch):
    monkeypatch.setattr(descriptor_search, "BLOCK_CPU", block)
    desc = smooth_maps().to(dtype)
    generator = torch.Generator().manual_seed(1)
    truth = torch.stack([torch.randint(0, size, (2, 100), generator=generator) for size in SHAPE[::-1]], dim=-1)
    start = truth + torch.randint(-25, 26, truth.shape, generator=generator)
    start = torch.stack([start[..., 0].clamp(0, SHAPE[1] - 1), start[..., 1].clamp(0, SHAPE[0] - 1)], dim=-1)
    queries = torch.stack([desc[item, truth[item, :, 1], truth[item, :, 0]] for item in range(2)])
    found = search_around(desc, queries, start)
    tolerance = 0 if dtype == torch.float32 else 1
    assert (found - truth).abs().max() <= tolerance


def test_equal_similarity_moves_nothing():
    desc = normalize(torch.ones(1, *SHAPE, 24), dim=-1)
    pixels = grid_pixels(SHAPE, 7, desc.device)[None]
    queries = desc[:, 0, 0, None].expand(-1, pixels.shape[1], -1)
    assert torch.equal(search_around(desc, queries, pixels), pixels)


def test_without_dilations_nothing_is_searched():
    desc = smooth_maps()
    pixels = grid_pixels(SHAPE, 11, desc.device).expand(2, -1, -1)
    queries = desc[:, :1, :1].flatten(1, 2).expand(-1, pixels.shape[1], -1)
    assert torch.equal(search_around(desc, queries, pixels, max_dilation=0), pixels)
    near = search_around(desc, queries, pixels, radius=1, max_dilation=1)
    assert (near - pixels).abs().max() == 1
