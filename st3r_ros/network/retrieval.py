# SPDX-License-Identifier: Apache-2.0
"""Global image descriptors from encoder tokens: the cosine of two is the similarity of the places.

The steps are those of the literature on image retrieval: generalised mean (GeM) pooling and whitening (Radenovic, Tolias and
Chum, Fine-tuning CNN Image Retrieval with No Human Annotation, PAMI 2019), each token weighted by its norm, as in HOW (Tolias,
Jenicek and Chum, ECCV 2020), which emphasizes informative tokens. Without learned whitening, a square root balances the channels
(Jegou and Chum, ECCV 2012). The retrieval head published with MASt3R-SfM has similar parts but an unknown layout: its file is
refused with a message that names the expected content.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from st3r_ros.errors import CheckpointError
from st3r_ros.network.sources import locate
from st3r_ros.network.weights_file import open_weights

DEFAULT_POWER, MAX_POWER = 3.0, 10.0
# Tensors of a retrieval checkpoint; `power` may be missing.
POWER, MEAN, PROJECTION = "power", "mean", "projection"
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Whitening:
    """Whitening of pooled descriptors. mean: (C,). projection: (D, C). float32, on one device."""

    mean: torch.Tensor
    projection: torch.Tensor


@dataclass(frozen=True, eq=False)
class RetrievalHead:
    """Parameters of the pooling. power: of the generalised mean; 1 is the mean, larger values approach the maximum."""

    power: float = DEFAULT_POWER
    whitening: Whitening | None = None


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


def global_descriptors(tokens: torch.Tensor, head: RetrievalHead | None = None) -> torch.Tensor:
    """The unit descriptors (B, D) float32 of B images, on the device of their encoder tokens (B, n, C); D = C without whitening.

    Raises:
        CheckpointError: the head expects tokens of another width.
    """
    head = head or RetrievalHead()
    pooled = pool_tokens(tokens, head.power)
    if head.whitening is None:
        return F.normalize(pooled.sqrt(), dim=-1)
    whitening = head.whitening
    if whitening.mean.shape[-1] != tokens.shape[-1]:
        raise CheckpointError(
            f"The retrieval checkpoint is for tokens of {whitening.mean.shape[-1]} channels, but the network's have "
            f"{tokens.shape[-1]}; use the retrieval checkpoint that was trained with this network."
        )
    return F.normalize((F.normalize(pooled, dim=-1) - whitening.mean) @ whitening.projection.T, dim=-1)


def pool_tokens(tokens: torch.Tensor, power: float = DEFAULT_POWER) -> torch.Tensor:
    """The generalised mean (B, C) float32 >= 0 of tokens (B, n, C): (sum w x^p / sum w)^(1/p), w the norm of the token.

    Negative channels count as 0 there.
    """
    tokens = tokens.float()
    weights = F.normalize(torch.linalg.vector_norm(tokens, dim=-1), p=1, dim=-1)
    mean = torch.einsum("bn,bnc->bc", weights, tokens.clamp(min=_LEAST).pow(power))
    return mean.clamp(min=_LEAST**power).pow(1.0 / power)


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
