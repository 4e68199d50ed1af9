# SPDX-License-Identifier: Apache-2.0
"""Confidence-weighted fusion of pointmaps into the canonical pointmap of a keyframe."""

from __future__ import annotations

import torch

AGREEMENT_SIGMAS = 3.0


def fuse_pointmap(
    X: torch.Tensor, conf: torch.Tensor, X_new: torch.Tensor, conf_new: torch.Tensor, depth_sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of two pointmaps (h, w, 3) of the same image in the same camera, weighted by their confidences (h, w).

    Where they disagree by more than their errors allow, the more confident one stays and loses what the other one claims.
    depth_sigma: relative depth error at confidence 1.
    """
    both = (conf > 0) & (conf_new > 0)
    ratio = torch.where(both, X_new[..., 2] / X[..., 2].clamp_min(1e-9), 1.0).clamp_min(1e-9).log().abs()
    sigma = depth_sigma * (1.0 / conf.clamp_min(1e-6) + 1.0 / conf_new.clamp_min(1e-6)).sqrt()
    agree = ~both | (ratio < AGREEMENT_SIGMAS * sigma)
    total = conf + conf_new
    share = torch.where(total > 0, conf_new / total.clamp_min(1e-12), 0.0)
    share = torch.where(agree, share, (conf_new > conf).to(share.dtype))
    fused = X + share[..., None] * (X_new - X)
    return fused, torch.where(agree, total, (conf - conf_new).abs())
