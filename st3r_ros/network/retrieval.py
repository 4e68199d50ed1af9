# SPDX-License-Identifier: Apache-2.0
"""Global image descriptors from encoder tokens: the cosine of two is the similarity of the places.

The steps are those of the literature on image retrieval: generalised mean (GeM) pooling and whitening (Radenovic, Tolias and
Chum, Fine-tuning CNN Image Retrieval with No Human Annotation, PAMI 2019), each token weighted by its norm, as in HOW (Tolias,
Jenicek and Chum, ECCV 2020), which emphasizes informative tokens. Without learned whitening, a square root balances the channels
(Jegou and Chum, ECCV 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from st3r_ros.errors import CheckpointError

DEFAULT_POWER = 3.0
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
