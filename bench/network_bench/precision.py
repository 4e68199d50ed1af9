# SPDX-License-Identifier: Apache-2.0
"""What half precision costs in accuracy: outputs against those of float32, and whether descriptors still find the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch

from golden_checks.procedural import procedural_image
from network_bench.timing import DTYPES
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput
from st3r_ros.network.preprocess import normalize
from st3r_ros.pair.matching.nearest import nearest

HALVES = ("bf16", "fp16")
QUERY_STEP = 4  # every fourth pixel of both directions looks for its neighbour


@dataclass(frozen=True)
class PrecisionError:
    """relative_l2: of an output of one view. median_relative: half of its pixels (vectors as a whole) are off by less."""

    dtype: str
    width: int
    height: int
    output: str
    relative_l2: float
    median_relative: float

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        return (
            f"{self.output:<12}{size:>9}  {self.dtype:<6} relative L2 {self.relative_l2:9.2e}  median {self.median_relative:9.2e}"
        )


@dataclass(frozen=True)
class NeighbourAgreement:
    """Shares of the pixels of image 0 that find the same nearest descriptor in image 1 as in float32.

    same: of all of them. same_of_reciprocal: of those whose neighbour's neighbour, in float32, they are.
    """

    dtype: str
    width: int
    height: int
    same: float
    same_of_reciprocal: float

    def __str__(self) -> str:
        head = f"{'neighbours':<12}{f'{self.width}x{self.height}':>9}  {self.dtype:<6}"
        return f"{head} same {self.same:.2%}, of reciprocal ones {self.same_of_reciprocal:.2%}"


def precision_errors(
    load: Callable[[torch.dtype], PairNetwork], width: int, height: int, halves: tuple[str, ...] = HALVES
) -> Iterator[PrecisionError | NeighbourAgreement]:
    """Outputs of one pair in each precision against float32. load: gives the network in a precision."""
    exact = _outputs(load(torch.float32), width, height)
    for dtype in halves:
        rough = _outputs(load(DTYPES[dtype]), width, height)
        for view in ("view0", "view1"):
            for field in fields(getattr(exact, view)):
                true, found = (getattr(getattr(output, view), field.name) for output in (exact, rough))
                if true is not None:
                    yield _error(dtype, width, height, f"{field.name} {view[-1]}", true, found)
        if exact.view0.desc is not None:
            yield _agreement(dtype, width, height, exact, rough)


@torch.inference_mode()
def _outputs(network: PairNetwork, width: int, height: int) -> PairOutput:
    images = (torch.from_numpy(procedural_image(name, height, width))[None].to(network.device) for name in ("a", "b"))
    return network(*(normalize(image, network.dtype) for image in images))


def _error(dtype: str, width: int, height: int, name: str, true: torch.Tensor, found: torch.Tensor) -> PrecisionError:
    true, found = (values.double().reshape(*true.shape[:3], -1) for values in (true, found))
    off, size = (found - true).norm(dim=-1), true.norm(dim=-1)
    return PrecisionError(dtype, width, height, name, (off.norm() / size.norm()).item(), (off / size).median().item())


def _agreement(dtype: str, width: int, height: int, exact: PairOutput, rough: PairOutput) -> NeighbourAgreement:
    pixels = torch.arange(width * height).view(height, width)[::QUERY_STEP, ::QUERY_STEP].flatten()
    exact0, exact1, rough0, rough1 = (
        view.desc[0].flatten(0, 1) for output in (exact, rough) for view in (output.view0, output.view1) if view.desc is not None
    )
    pixels = pixels.to(exact0.device)
    neighbours = nearest(exact0[pixels], exact1).index
    reciprocal = nearest(exact1[neighbours], exact0).index == pixels
    same = (nearest(rough0[pixels], rough1).index == neighbours).double()
    return NeighbourAgreement(dtype, width, height, same.mean().item(), same[reciprocal].mean().item())
