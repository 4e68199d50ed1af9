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
    """Shares of the pixels of image 0 whose nearest descriptor in image 1 is the same pixel, and at most one pixel from it."""

    dtype: str
    width: int
    height: int
    same: float
    within_one_pixel: float

    def __str__(self) -> str:
        head = f"{'neighbours':<12}{f'{self.width}x{self.height}':>9}  {self.dtype:<6}"
        return f"{head} same {self.same:.2%}, within one pixel {self.within_one_pixel:.2%}"


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
    true, found = (_neighbours(output) for output in (exact, rough))
    off = torch.maximum((true % width - found % width).abs(), (true // width - found // width).abs())
    return NeighbourAgreement(dtype, width, height, (off == 0).double().mean().item(), (off <= 1).double().mean().item())


def _neighbours(output: PairOutput) -> torch.Tensor:
    """Row-major index in image 1 of the nearest descriptor of every query pixel of image 0."""
    assert output.view0.desc is not None and output.view1.desc is not None
    queries = output.view0.desc[0, ::QUERY_STEP, ::QUERY_STEP]
    return nearest(queries.flatten(0, 1), output.view1.desc[0].flatten(0, 1)).index
