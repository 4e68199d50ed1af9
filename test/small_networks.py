# SPDX-License-Identifier: Apache-2.0
"""Networks of a few blocks with random weights, for tests."""

import functools

import torch

from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.network import PairNetwork

TRUNK = {
    "enc_embed_dim": 32,
    "enc_depth": 2,
    "enc_num_heads": 2,
    "dec_embed_dim": 32,
    "dec_depth": 4,
    "dec_num_heads": 2,
    "image_size": (64, 64),
}
CONFIGS = {
    "mast3r": NetworkConfig(**TRUNK),
    "one confidence": NetworkConfig(**TRUNK, two_confs=False),
    "dpt": NetworkConfig(**TRUNK, head="dpt", desc_dim=0),
    "linear": NetworkConfig(**TRUNK, head="linear", desc_dim=0),
}


@functools.cache
def make_network(name: str) -> PairNetwork:
    """The network `name` of CONFIGS; shared, so nothing may change it."""
    return PairNetwork(CONFIGS[name]).eval().requires_grad_(False)


def make_images(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(count, 3, height, width) in [-1, 1]."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
