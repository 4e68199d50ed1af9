# SPDX-License-Identifier: Apache-2.0
"""Pixels of keyframes to points and to their observations in other cameras, batched, for all optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import normalize

from st3r_ros.geometry.pixels import pixels_per_radian, rays
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.solver.residuals import Observations, PixelObservations, RayObservations
from st3r_ros.types import Keyframe

INDEPENDENT_CLAIMS = 16
"""Effective number of independent depths of a pointmap, whose errors are smooth."""


@dataclass(frozen=True, eq=False)
class PixelPoints:
    """What pixels of a keyframe show: points (N, 3) float64 in its camera and unit; conf (N,) float64, 0 = nothing is known."""

    points: torch.Tensor
    conf: torch.Tensor


def points_at(keyframe: Keyframe, pixels: torch.Tensor) -> PixelPoints:
    """The points that pixels (N, 2) of a keyframe show: exactly at the pixel, as far off as the pointmap says next to it."""
    nearest = sample(keyframe.X, pixels).double()
    conf = sample(keyframe.conf, pixels).double()
    if keyframe.calibrated:
        points = rays(pixels, keyframe.K) * nearest[:, 2:]
    else:
        points = directions(keyframe.X, pixels) * torch.linalg.vector_norm(nearest, dim=1, keepdim=True)
    return PixelPoints(points, conf)


def observations_at(keyframe: Keyframe, pixels: torch.Tensor) -> Observations:
    """What the keyframe's camera sees at pixels (N, 2): pixels of a calibrated one, rays of one that is not."""
    if keyframe.calibrated:
        K = torch.tensor(keyframe.K, device=keyframe.X.device)
        return PixelObservations(pixels.to(K), K)
    return RayObservations(directions(keyframe.X, pixels), pixels_per_radian(keyframe.K))


# Of many keyframes at once ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PixelIndices:
    """Rows and columns of pixels, (M,) int64."""

    row: torch.Tensor
    column: torch.Tensor


def pixel_indices(keyframes: list[Keyframe], owner: torch.Tensor, pixels: torch.Tensor) -> PixelIndices:
    """`pixel_index` for pixels (M, 2) of many keyframes, each of keyframe number owner (M,)."""
    last = torch.tensor([(k.conf.shape[1] - 1, k.conf.shape[0] - 1) for k in keyframes], device=owner.device)
    nearest = torch.minimum(pixels.round().long().clamp_min(0), last[owner])
    return PixelIndices(nearest[:, 1], nearest[:, 0])


def joint_points(keyframes: list[Keyframe], owner: torch.Tensor, pixels: torch.Tensor) -> PixelPoints:
    """`points_at` for pixels (M, 2) of many keyframes, each of keyframe number owner (M,)."""
    points = _each(keyframes, owner, pixels, lambda k, at: points_at(k, at).points)
    return PixelPoints(points, joint_conf(keyframes, owner, pixels))


def joint_conf(keyframes: list[Keyframe], owner: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Confidence (M,) float64 next to pixels (M, 2) of many keyframes, each of keyframe number owner (M,)."""
    return _each(keyframes, owner, pixels, lambda k, at: sample(k.conf, at).double())


def joint_observations(keyframes: list[Keyframe], owner: torch.Tensor, pixels: torch.Tensor) -> Observations:
    """`observations_at` for pixels (M, 2) of many keyframes, each of keyframe number owner (M,).

    Of one kind: rays of all where one of them is not calibrated.
    """
    device = keyframes[0].X.device
    K = torch.tensor(np.array([k.K for k in keyframes]), device=device)
    if all(k.calibrated for k in keyframes):
        return PixelObservations(pixels.to(K), K[owner])
    seen = _each(keyframes, owner, pixels, _rays_at)
    return RayObservations(seen, (K[:, 0, 0] * K[:, 1, 1]).sqrt()[owner])


def _rays_at(keyframe: Keyframe, pixels: torch.Tensor) -> torch.Tensor:
    """Unit rays (N, 3) float64 of pixels (N, 2), of any keyframe."""
    return normalize(rays(pixels, keyframe.K), dim=1) if keyframe.calibrated else directions(keyframe.X, pixels)


def _each(
    keyframes: list[Keyframe],
    owner: torch.Tensor,
    pixels: torch.Tensor,
    look_up: Callable[[Keyframe, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """What `look_up` finds at the pixels of each keyframe, in the order of the pixels (M, 2)."""
    order = torch.argsort(owner, stable=True)
    counts = torch.bincount(owner, minlength=len(keyframes)).tolist()
    parts = [look_up(k, at) for k, at in zip(keyframes, pixels[order].split(counts), strict=True) if len(at)]
    found = torch.cat(parts) if parts else pixels.new_zeros(0, 3, dtype=torch.float64)
    return torch.empty_like(found).index_copy_(0, order, found)


def directions(X: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """The unit directions (N, 3) float64 in which a pointmap X (h, w, 3) sees at pixels (N, 2), between the pixels too.

    Bilinear over the pixels that have a point; 0 where none of the four has.
    """
    h, w = X.shape[:2]
    pixels = pixels.to(X.device, torch.float64)
    x, y = pixels[:, 0].clamp(0, w - 1), pixels[:, 1].clamp(0, h - 1)
    column, row = x.floor().clamp_max(max(w - 2, 0)), y.floor().clamp_max(max(h - 2, 0))
    right, down = x - column, y - row
    weight = torch.stack([(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down], dim=1)
    first = row.long() * w + column.long()
    steps = torch.tensor([0, min(w - 1, 1), w * min(h - 1, 1), w * min(h - 1, 1) + min(w - 1, 1)], device=X.device)
    corners = X.reshape(-1, 3)[first[:, None] + steps].double()
    length = torch.linalg.vector_norm(corners, dim=-1, keepdim=True)
    # NaN and infinity are no points either.
    units = torch.where((length > 0) & (length < math.inf), corners / length, 0.0)
    return normalize((weight[:, :, None] * units).sum(1), dim=1)


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
