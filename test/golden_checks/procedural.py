# SPDX-License-Identifier: Apache-2.0
"""Networks whose weights are a function of their names, so that the recorded outputs need no weight file."""

from __future__ import annotations

import numpy as np
import torch

import procedural_weights
from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.network import PairNetwork, laid_out

SETS = {
    "full_mast3r": NetworkConfig(),
    "tiny_mast3r": NetworkConfig(64, 4, 4, 48, 12, 3),
    "tiny_dust3r_dpt": NetworkConfig(48, 3, 3, 32, 10, 2, head="dpt", desc_dim=0),
    "tiny_dust3r_linear": NetworkConfig(48, 3, 3, 32, 4, 2, head="linear", desc_dim=0),
}


def weight(set_name: str, key: str, shape: torch.Size) -> torch.Tensor:
    """The dense float32 parameter `key` of a set."""
    return torch.from_numpy(procedural_weights.tensor(set_name, key, tuple(shape)))


def procedural_network(set_name: str) -> PairNetwork:
    """The network of a set (a key of `SETS`), float32 on the CPU, for inference. Needs one copy of the weights in memory."""
    with torch.device("meta"):
        network = PairNetwork(SETS[set_name])
    weights = {key: laid_out(weight(set_name, key, parameter.shape)) for key, parameter in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def procedural_image(name: str, height: int, width: int) -> np.ndarray:
    """An (height, width, 3) uint8 RGB image of blobs and noise; another name is another image."""
    return procedural_weights.image(name, height, width)
