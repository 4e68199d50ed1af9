# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest
import torch

from st3r_ros.errors import CheckpointError
from st3r_ros.network.retrieval import RetrievalHead, Whitening, global_descriptors, pool_tokens

CHANNELS = 16


def tokens(seed: int = 0, images: int = 3, count: int = 40, channels: int = CHANNELS) -> torch.Tensor:
    return torch.randn(images, count, channels, generator=torch.Generator().manual_seed(seed))


def whitening(dim: int = 8, seed: int = 1) -> Whitening:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.rand(CHANNELS, generator=generator) / CHANNELS
    return Whitening(mean, torch.randn(dim, CHANNELS, generator=generator))


HEADS = [RetrievalHead(), RetrievalHead(power=1.0), RetrievalHead(4.5, whitening())]


@pytest.mark.parametrize("head", HEADS)
def test_descriptors_are_unit_vectors_and_every_image_has_its_own(head):
    x = tokens()
    found = global_descriptors(x, head)
    assert found.shape == (3, 8 if head.whitening else CHANNELS)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found[1], global_descriptors(x[1:2], head)[0])


@pytest.mark.parametrize("head", HEADS)
def test_neither_the_order_of_the_tokens_nor_their_common_length_matters(head):
    x = tokens()
    shuffled = x[:, torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(2))]
    torch.testing.assert_close(global_descriptors(shuffled, head), global_descriptors(x, head))
    torch.testing.assert_close(global_descriptors(7.0 * x, head), global_descriptors(x, head), rtol=1e-4, atol=1e-5)


def test_the_power_leads_from_the_mean_to_the_maximum():
    x = tokens().abs()
    x = x / x.norm(dim=-1, keepdim=True)
    pooled = [pool_tokens(x, power) for power in (1.0, 2.0, 3.0, 6.0, 10.0)]
    torch.testing.assert_close(pooled[0], x.mean(dim=1))
    for less, more in itertools.pairwise(pooled):
        assert (less <= more + 1e-6).all() and (more <= x.amax(dim=1) + 1e-6).all()


def test_long_tokens_count_more():
    strong, weak = torch.zeros(1, 1, CHANNELS), torch.zeros(1, 1, CHANNELS)
    strong[..., 0], weak[..., 1] = 3.0, 1.0
    pooled = pool_tokens(torch.cat([strong, weak], dim=1), 1.0)[0]
    torch.testing.assert_close(pooled[:2], torch.tensor([9.0 / 4.0, 1.0 / 4.0]), rtol=1e-5, atol=0.0)


def test_images_that_share_tokens_are_more_alike_than_images_that_do_not():
    a, b = tokens(3, 1), tokens(4, 1)
    half = torch.cat([a[:, :20], b[:, :20]], dim=1)
    for head in HEADS:
        A, B, both = (global_descriptors(x, head)[0] for x in (a, b, half))
        assert A @ both > A @ B and B @ both > A @ B


def test_whitened_descriptors_are_the_projected_ones():
    head = RetrievalHead(3.0, whitening())
    pooled = pool_tokens(tokens())
    projected = (pooled / pooled.norm(dim=1, keepdim=True) - head.whitening.mean) @ head.whitening.projection.T
    expected = projected / projected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(global_descriptors(tokens(), head), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_tokens_of_half_precision_are_pooled_in_full_precision(dtype):
    x = tokens().to(dtype)
    found = global_descriptors(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, global_descriptors(x.float()))


def test_an_image_of_nothing_has_a_finite_descriptor():
    for head in HEADS:
        assert global_descriptors(torch.zeros(1, 5, CHANNELS), head).isfinite().all()


def test_a_head_for_another_network_is_refused():
    with pytest.raises(CheckpointError, match="tokens of 16 channels, but the network's have 24"):
        global_descriptors(tokens(channels=24), RetrievalHead(3.0, whitening()))
