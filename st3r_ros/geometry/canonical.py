# SPDX-License-Identifier: Apache-2.0
"""The canonical pointmap of an image from the predictions of several pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st3r_ros.errors import GeometryError

# Confidences are 1 + exp(...): the weight of a prediction with the minimum confidence.
_LEAST_CONF = 0.999


@dataclass(frozen=True, eq=False)
class CanonicalPointmap:
    """X: (..., H, W, 3) points in the image's own camera. conf: (..., H, W), above 0."""

    X: torch.Tensor
    conf: torch.Tensor


def canonical_pointmap(X: torch.Tensor, conf: torch.Tensor) -> CanonicalPointmap:
    """The mean of n predictions of one image's pointmap, weighted by w = conf - 0.999; its confidence is sum(w^2) / sum(w).

    X: (n, ..., H, W, 3) predictions in the image's own camera, of one scale. conf: (n, ..., H, W) at least 1.
    Source: the canonical pointmaps of MASt3R-SfM (Duisterhof et al., 2024).

    Raises:
        GeometryError: the shapes do not match, or there is no prediction.
    """
    if X.ndim < 4 or X.shape[-1] != 3 or X.shape[:-1] != conf.shape or len(X) == 0:
        raise GeometryError(
            "Predictions of a pointmap need the shape (n, ..., H, W, 3) and their confidences (n, ..., H, W), "
            f"but these have {tuple(X.shape)} and {tuple(conf.shape)}."
        )
    weights = conf - _LEAST_CONF
    total = weights.sum(dim=0)
    return CanonicalPointmap((weights[..., None] * X).sum(dim=0) / total[..., None], (weights * weights).sum(dim=0) / total)
