# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations of the network's stages, counted by running them without data (a multiply-add is two)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.network import PairNetwork


@dataclass(frozen=True)
class StageFlops:
    """Operations of one image (encode), one pair in one order (decode) and one view of it (the heads)."""

    encode: float
    decode: float
    geometry: float
    descriptors: float

    @property
    def tracked_frame(self) -> float:
        """A new image against a keyframe whose tokens are kept, with both heads of both views."""
        return self.encode + self.decode + 2 * (self.geometry + self.descriptors)

    @property
    def symmetric_pair(self) -> float:
        """Two new images in both orders."""
        return 2 * self.tracked_frame


def stage_flops(config: NetworkConfig, width: int, height: int) -> StageFlops:
    """What the stages cost for images of one size, as this package computes them."""
    with torch.device("meta"), torch.no_grad():
        network = PairNetwork(config)
        image = torch.empty(1, 3, height, width)
        grid = network.grid(image)
        tokens = network.encode(image)
        layers = network.decode(tokens, tokens, grid, grid).view0

        def head(*, pointmaps: bool = False, descriptors: bool = False) -> None:
            part = network.image_part(0, tokens, grid, pointmaps=pointmaps)
            network.head(0, layers, grid, part, pointmaps=pointmaps, descriptors=descriptors)

        return StageFlops(
            encode=count(lambda: network.encode(image)),
            decode=count(lambda: network.decode(tokens, tokens, grid, grid)),
            geometry=count(lambda: head(pointmaps=True)),
            descriptors=count(lambda: head(descriptors=True)) if config.desc_dim else 0.0,
        )


def count(run: Callable[[], object]) -> float:
    """The operations of whatever torch does in a function."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())
