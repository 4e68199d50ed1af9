# SPDX-License-Identifier: Apache-2.0
"""What half precision costs in accuracy: outputs against those of float32, and whether descriptors still find the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields

import torch
from harness import Row
from network_bench.stages import DTYPES

from golden_checks.procedural import procedural_image
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput
from st3r_ros.network.preprocess import normalize
from st3r_ros.pair.matching.nearest import nearest

HALVES = ("bf16", "fp16")
QUERY_STEP = 4  # every fourth pixel of both directions looks for its neighbour


def precision_errors(
    load: Callable[[torch.dtype], PairNetwork], width: int, height: int, halves: tuple[str, ...] = HALVES
) -> Iterator[Row]:
    """Outputs of one pair in each precision against float32. load: gives the network in a precision.

    PrecisionError: relative_l2 of an output of one view; median_relative: half of its pixels are off by less, as vectors.
    NeighbourAgreement: shares of the pixels of image 0 that find the same nearest descriptor in image 1 as in float32; same: of
    all of them; same_of_reciprocal: of those whose neighbour's neighbour, in float32, they are.
    """
    exact, size = _outputs(load(torch.float32), width, height), {"width": width, "height": height}
    for dtype in halves:
        rough = _outputs(load(DTYPES[dtype]), width, height)
        for view in ("view0", "view1"):
            for field in fields(getattr(exact, view)):
                true, found = (getattr(getattr(output, view), field.name) for output in (exact, rough))
                if true is not None:
                    what = {"kind": "PrecisionError", **size, "dtype": dtype, "output": f"{field.name} {view[-1]}"}
                    yield {**what, **_error(true, found)}
        if exact.view0.desc is not None:
            yield {"kind": "NeighbourAgreement", **size, "dtype": dtype, **_agreement(width, height, exact, rough)}


def line(row: Row) -> str:
    """What is printed of either."""
    head = f"{row.get('output', 'neighbours'):<12}{'{width}x{height}'.format(**row):>9}  {row['dtype']:<6}"
    if row["kind"] == "PrecisionError":
        return f"{head} relative L2 {row['relative_l2']:9.2e}  median {row['median_relative']:9.2e}"
    return f"{head} same {row['same']:.2%}, of reciprocal ones {row['same_of_reciprocal']:.2%}"


@torch.inference_mode()
def _outputs(network: PairNetwork, width: int, height: int) -> PairOutput:
    images = (torch.from_numpy(procedural_image(name, height, width))[None].to(network.device) for name in ("a", "b"))
    return network(*(normalize(image, network.dtype) for image in images))


def _error(true: torch.Tensor, found: torch.Tensor) -> dict[str, float]:
    true, found = (values.double().reshape(*true.shape[:3], -1) for values in (true, found))
    off, size = (found - true).norm(dim=-1), true.norm(dim=-1)
    return {"relative_l2": (off.norm() / size.norm()).item(), "median_relative": (off / size).median().item()}


def _agreement(width: int, height: int, exact: PairOutput, rough: PairOutput) -> dict[str, float]:
    pixels = torch.arange(width * height).view(height, width)[::QUERY_STEP, ::QUERY_STEP].flatten()
    exact0, exact1, rough0, rough1 = (
        view.desc[0].flatten(0, 1) for output in (exact, rough) for view in (output.view0, output.view1) if view.desc is not None
    )
    pixels = pixels.to(exact0.device)
    neighbours = nearest(exact0[pixels], exact1).index
    reciprocal = nearest(exact1[neighbours], exact0).index == pixels
    same = (nearest(rough0[pixels], rough1).index == neighbours).double()
    return {"same": same.mean().item(), "same_of_reciprocal": same[reciprocal].mean().item()}
