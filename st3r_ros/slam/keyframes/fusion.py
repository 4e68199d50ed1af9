# SPDX-License-Identifier: Apache-2.0
"""Confidence-weighted fusion of pointmaps into the canonical pointmap of a keyframe."""

from __future__ import annotations

import numpy as np
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.projection import as_tensors

AGREEMENT_SIGMAS = 3.0
SPECK_SIGMAS = 4.0
SPECK_CONF = 1e-3
MAX_CONF = 1e4
FIELD_ROWS, FIELD_COLUMNS = 6, 8
FIELD_SMOOTHNESS = 0.05
FIELD_ROBUST_SIGMA = 0.1
SCALE_SAMPLES = 4096


def fuse_pointmap(
    X: torch.Tensor, conf: torch.Tensor, X_new: torch.Tensor, conf_new: torch.Tensor, depth_sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of two pointmaps (h, w, 3) of the same image in the same camera, weighted by their confidences (h, w).

    Where they disagree by more than their errors, the more confident one is kept, reduced by the confidence of the other.
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
    return fused, torch.where(agree, total, (conf - conf_new).abs()).clamp_max(MAX_CONF)


def distrust_specks(X: torch.Tensor, conf: torch.Tensor, depth_sigma: float) -> torch.Tensor:
    """The confidence (h, w), almost 0 for isolated points far from the median depth around them.

    A single prediction has such points at the edges of things and where it errs, however confident it is; another view that
    sees the same point there gives it its confidence.
    """
    z = torch.where(conf > 0, X[..., 2], torch.nan)
    padded = torch.nn.functional.pad(z[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    h, w = z.shape
    around = torch.stack([padded[r : r + h, c : c + w] for r in range(3) for c in range(3) if (r, c) != (1, 1)])
    off = (z / around).log().abs()  # NaN if either is unknown
    tolerance = SPECK_SIGMAS * depth_sigma * conf.clamp_min(1e-6).rsqrt()
    near = (off < torch.maximum(tolerance, torch.full_like(tolerance, 0.5 * depth_sigma))).sum(0)
    return torch.where((near < 2) & (conf > 0), SPECK_CONF, conf)


def unit_ratio(X: torch.Tensor, conf: torch.Tensor, T_kf_cam: Sim3, X_cam: torch.Tensor, conf_cam: torch.Tensor) -> float | None:
    """Keyframe units per unit of a prediction of the keyframe's points in another camera; None when too little is known.

    X, conf: the keyframe's pointmap (h, w, 3). T_kf_cam: rotation and translation of the camera, in keyframe units (its scale is
    not used). X_cam, conf_cam: the same pixels as the other camera's prediction places them, in its own unit.
    """
    chosen = torch.nonzero(((conf > 0) & (conf_cam > 0)).view(-1))[:, 0]
    if len(chosen) < 16:
        return None
    chosen = chosen[:: max(1, len(chosen) // SCALE_SAMPLES)]
    R, t = as_tensors(T_kf_cam.se3().sim3(1.0), X)
    turned = X_cam.reshape(-1, 3)[chosen].double() @ R.T
    # The point of each pixel is t + s * turned; its length along the turned ray tells s.
    s = ((X.reshape(-1, 3)[chosen].double() - t) * turned).sum(1) / (turned**2).sum(1).clamp_min(1e-12)
    ratio = float(s.median())
    return ratio if np.isfinite(ratio) and ratio > 0 else None


def moved(X_cam: torch.Tensor, T_kf_cam: Sim3) -> torch.Tensor:
    """A pointmap (h, w, 3) of another camera in the keyframe's camera, in the dtype of `X_cam`."""
    R, t = as_tensors(T_kf_cam, X_cam)
    return X_cam @ R.T.to(X_cam.dtype) + t.to(X_cam.dtype)


def smooth_correction(
    pixels: torch.Tensor, log_ratio: torch.Tensor, weight: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """The smooth field (h, w) of log-depth corrections that fits those known at some pixels.

    pixels: (N, 2). log_ratio: (N,) log of the right depth over the claimed one. weight: (N,). A coarse grid, interpolated
    bilinearly: networks err smoothly, and a correction that knows no edges keeps those of the depth.
    """
    A = _bilinear(pixels.double() / torch.tensor([width, height], dtype=torch.float64, device=pixels.device))
    smooth = FIELD_SMOOTHNESS * weight.double().sum() / A.shape[1] * _laplacian(A)
    target, w = log_ratio.double(), weight.double()
    centre = target.median()
    solution = torch.full((A.shape[1],), float(centre), dtype=A.dtype, device=A.device)
    for _ in range(3):
        error = (A @ solution - target) / FIELD_ROBUST_SIGMA
        robust = w / (1.0 + error**2) ** 2
        H = A.T @ (A * robust[:, None]) + smooth + 1e-9 * torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
        solution = centre + torch.linalg.solve(H, A.T @ (robust * (target - centre)))
    field = solution.view(1, 1, FIELD_ROWS, FIELD_COLUMNS).to(torch.float32)
    return torch.nn.functional.interpolate(field, (height, width), mode="bilinear", align_corners=True)[0, 0]


def _bilinear(position: torch.Tensor) -> torch.Tensor:
    """Weights (N, cells) of the grid's nodes at positions (N, 2) in [0, 1]."""
    n = len(position)
    x = (position[:, 0] * (FIELD_COLUMNS - 1)).clamp(0, FIELD_COLUMNS - 1 - 1e-6)
    y = (position[:, 1] * (FIELD_ROWS - 1)).clamp(0, FIELD_ROWS - 1 - 1e-6)
    column, row = x.long(), y.long()
    u, v = x - column, y - row
    A = position.new_zeros(n, FIELD_ROWS * FIELD_COLUMNS)
    at = torch.arange(n, device=position.device)
    first = row * FIELD_COLUMNS + column
    A[at, first], A[at, first + 1] = (1 - u) * (1 - v), u * (1 - v)
    A[at, first + FIELD_COLUMNS], A[at, first + FIELD_COLUMNS + 1] = (1 - u) * v, u * v
    return A


def _laplacian(like: torch.Tensor) -> torch.Tensor:
    """The matrix (cells, cells) that punishes differences between neighbouring nodes."""
    index = torch.arange(FIELD_ROWS * FIELD_COLUMNS, device=like.device).view(FIELD_ROWS, FIELD_COLUMNS)
    pairs = torch.cat(
        [
            torch.stack([index[:, :-1].reshape(-1), index[:, 1:].reshape(-1)], dim=1),
            torch.stack([index[:-1].reshape(-1), index[1:].reshape(-1)], dim=1),
        ]
    )
    D = like.new_zeros(len(pairs), like.shape[1])
    rows = torch.arange(len(pairs), device=like.device)
    D[rows, pairs[:, 0]], D[rows, pairs[:, 1]] = 1.0, -1.0
    return D.T @ D
