# SPDX-License-Identifier: Apache-2.0
"""The pinhole projection and its derivative, batched, for the optimizers of this room."""

from __future__ import annotations

import numpy as np
import torch

from st3r_ros.geometry.sim3 import Sim3

HUBER = 1.345
GEMAN_MCCLURE = 3.0


def rays(pixels: torch.Tensor, K: np.ndarray) -> torch.Tensor:
    """Pixels (N, 2) to rays with z = 1, (N, 3) float64."""
    pixels = pixels.double()
    x, y = (pixels[:, 0] - K[0, 2]) / K[0, 0], (pixels[:, 1] - K[1, 2]) / K[1, 1]
    return torch.stack([x, y, torch.ones_like(x)], dim=1)


def project(points: torch.Tensor, K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (N, 2) of camera points (N, 3), and their derivative by the points, (N, 2, 3). K: (3, 3) or (N, 3, 3)."""
    fx, fy, cx, cy = K[..., 0, 0], K[..., 1, 1], K[..., 0, 2], K[..., 1, 2]
    inverse_z = 1.0 / points[:, 2].clamp_min(1e-6)
    x, y = points[:, 0] * inverse_z, points[:, 1] * inverse_z
    zero = torch.zeros_like(x)
    J = torch.stack([fx * inverse_z, zero, -fx * x * inverse_z, zero, fy * inverse_z, -fy * y * inverse_z], dim=1)
    return torch.stack([fx * x + cx, fy * y + cy], dim=1), J.view(-1, 2, 3)


def left_jacobian(points: torch.Tensor) -> torch.Tensor:
    """Derivative (N, 3, 7) of `exp(xi) @ points` at xi = 0, tangent order (translation, rotation, log-scale)."""
    n = len(points)
    J = points.new_zeros(n, 3, 7)
    J[:, 0, 0] = J[:, 1, 1] = J[:, 2, 2] = 1.0
    x, y, z = points.unbind(1)
    J[:, 0, 4], J[:, 0, 5] = z, -y
    J[:, 1, 3], J[:, 1, 5] = -z, x
    J[:, 2, 3], J[:, 2, 4] = y, -x
    J[:, :, 6] = points
    return J


def huber_weight(normalized: torch.Tensor) -> torch.Tensor:
    """IRLS weight of residual norms in standard deviations."""
    return HUBER / normalized.clamp_min(HUBER)


def robust_weight(normalized: torch.Tensor) -> torch.Tensor:
    """IRLS weight of Geman and McClure: residuals beyond a few standard deviations hardly count."""
    return (1.0 + (normalized / GEMAN_MCCLURE) ** 2) ** -2


def as_tensors(T: Sim3, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled rotation s R (..., 3, 3) and translation (..., 3) of a transform, on the device of `like`, float64."""
    sR = np.asarray(T.scale)[..., None, None] * T.rotation
    return torch.tensor(sR, device=like.device), torch.tensor(T.translation, device=like.device)


def sample(values: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Values (h, w, ...) at the pixel centres nearest to `pixels` (N, 2)."""
    column, row = pixel_index(pixels, values.shape[1], values.shape[0])
    return values[row, column]


def pixel_index(pixels: torch.Tensor, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Column and row (N,) int64 of the pixel centres nearest to `pixels`, inside the image."""
    nearest = pixels.round().long()
    return nearest[:, 0].clamp(0, width - 1), nearest[:, 1].clamp(0, height - 1)
