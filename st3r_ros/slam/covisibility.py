# SPDX-License-Identifier: Apache-2.0
"""Which keyframes see the same part of the world, and roughly where, by projecting their pointmaps with the current poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.types import Keyframe, Matches

GRID_STEP = 12


@dataclass(frozen=True, eq=False)
class ExpectedView:
    """Where a grid of a keyframe's points should appear in another image, and the share of the grid that does."""

    matches: Matches
    overlap: float


def expected_view(keyframe: Keyframe, T_cam_kf: Sim3, K: np.ndarray, width: int, height: int) -> ExpectedView:
    """Projects every 12th pixel of `keyframe` into an image with intrinsics K (3, 3); image 1 of the matches is the keyframe."""
    h, w = keyframe.conf.shape
    row, column = torch.meshgrid(torch.arange(0, h, GRID_STEP), torch.arange(0, w, GRID_STEP), indexing="ij")
    row, column = row.reshape(-1).to(keyframe.conf.device), column.reshape(-1).to(keyframe.conf.device)
    known = keyframe.conf[row, column] > 0
    row, column = row[known], column[known]
    points = T_cam_kf.act(keyframe.X[row, column].double().cpu().numpy())
    z = np.maximum(points[:, 2], 1e-9)
    pixels = points[:, :2] / z[:, None] * K[[0, 1], [0, 1]] + K[:2, 2]
    inside = (points[:, 2] > 1e-6) & (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    source = torch.stack([column, row], dim=1).float().cpu()[torch.from_numpy(inside)]
    target = torch.from_numpy(pixels[inside].astype(np.float32))
    matches = Matches(target, source, torch.ones(len(source)), max(len(points), 1))
    return ExpectedView(matches, float(inside.mean()) if len(inside) else 0.0)
