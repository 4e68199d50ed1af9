# SPDX-License-Identifier: Apache-2.0
"""From the raw channels of the heads to points, confidences and descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from st3r_ros.network.config import Activation

TINY = 1e-8


@dataclass(frozen=True, eq=False)
class ViewOutput:
    """Outputs for one view of each pair, float32; None when not requested or not available.

    X: (B, H, W, 3) points in the coordinates of the pair's view 0. conf: (B, H, W).
    desc: (B, H, W, D) unit descriptors. desc_conf: (B, H, W).
    """

    X: torch.Tensor | None = None
    conf: torch.Tensor | None = None
    desc: torch.Tensor | None = None
    desc_conf: torch.Tensor | None = None

    def with_more(self, more: ViewOutput) -> ViewOutput:
        """What either of the two has."""
        return ViewOutput(
            self.X if more.X is None else more.X,
            self.conf if more.conf is None else more.conf,
            self.desc if more.desc is None else more.desc,
            self.desc_conf if more.desc_conf is None else more.desc_conf,
        )


@dataclass(frozen=True, eq=False)
class PairOutput:
    """Both views of a batch of pairs."""

    view0: ViewOutput
    view1: ViewOutput


def pointmap(raw: torch.Tensor, mode: Activation) -> torch.Tensor:
    """Points (..., 3) from raw values (..., 3): the direction is kept, `mode` maps the length."""
    if mode.mode == "linear":
        X = raw
    else:
        length = raw.norm(dim=-1, keepdim=True)
        grown = torch.expm1(length) if mode.mode == "exp" else length.square()
        X = raw / length.clamp_min(TINY) * grown
    return X if mode.low == -torch.inf and mode.high == torch.inf else X.clamp(mode.low, mode.high)


def confidence(raw: torch.Tensor, mode: Activation) -> torch.Tensor:
    """Confidence from a raw value: low + exp, at most high; or a sigmoid between low and high."""
    if mode.mode == "sigmoid":
        return mode.low + (mode.high - mode.low) * torch.sigmoid(raw)
    grown = mode.low + raw.exp()
    return grown if mode.high == torch.inf else grown.clamp_max(mode.high)


def unit_descriptors(raw: torch.Tensor) -> torch.Tensor:
    """Unit vectors (..., D); a zero vector stays zero."""
    return F.normalize(raw, dim=-1, eps=1e-12)
