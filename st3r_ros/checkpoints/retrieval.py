# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the retrieval head.

The one published with MASt3R-SfM has similar parts but an unknown layout: its file is refused with a message that names the
expected content.
"""

from __future__ import annotations

from pathlib import Path

import torch

from st3r_ros.checkpoints.sources import locate
from st3r_ros.checkpoints.weights_file import open_weights
from st3r_ros.errors import CheckpointError
from st3r_ros.network.retrieval import DEFAULT_POWER, RetrievalHead, Whitening

MAX_POWER = 10.0
# Tensors of a retrieval checkpoint; `power` may be missing.
POWER, MEAN, PROJECTION = "power", "mean", "projection"


def load_retrieval_head(source: str | Path, *, device: torch.device | str = "cpu") -> RetrievalHead:
    """The retrieval head in a file (.pth or .safetensors) of tensors `mean` (C,), `projection` (D, C) and, where it is not 3,
    `power` (1,). source: as for `locate`. Nothing in the file is executed.

    Raises:
        CheckpointError: the file is missing, damaged or unsafe, or has other tensors.
    """
    try:
        tensors = open_weights(locate(source)).read()
        power, mean, projection = _checked_power(tensors), *_checked_whitening(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"The retrieval checkpoint '{source}' cannot be used: {error}") from error
    return RetrievalHead(power, Whitening(mean.to(device), projection.to(device)))


def _checked_power(tensors: dict[str, torch.Tensor]) -> float:
    value = tensors.get(POWER, torch.tensor(DEFAULT_POWER))
    if value.numel() != 1 or not 1.0 <= float(value) <= MAX_POWER:
        raise CheckpointError(f"its {POWER} is {value.tolist()}; it must be one number between 1 and {MAX_POWER:g}.")
    return float(value)


def _checked_whitening(tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (C,) and projection (D, C), float32."""
    if not {MEAN, PROJECTION} <= set(tensors):
        found = ", ".join(sorted(tensors)[:6]) + (", ..." if len(tensors) > 6 else "")
        raise CheckpointError(f"it contains {found}; it must contain {MEAN} (C,), {PROJECTION} (D, C) and at most {POWER} (1,).")
    mean, projection = tensors[MEAN].float(), tensors[PROJECTION].float()
    if mean.ndim != 1 or projection.ndim != 2 or projection.shape[1] != len(mean) or len(projection) == 0:
        raise CheckpointError(
            f"its {MEAN} has the shape {tuple(mean.shape)} and its {PROJECTION} {tuple(projection.shape)}; "
            "they must be (C,) and (D, C)."
        )
    if not (mean.isfinite().all() and projection.isfinite().all()):
        raise CheckpointError(f"its {MEAN} or {PROJECTION} contains a number that is not finite.")
    return mean, projection
