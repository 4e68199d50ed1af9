# SPDX-License-Identifier: Apache-2.0
"""Local optimization: the poses of the newest keyframes in Sim(3) together with the depths of their matched points.

Every match of an edge is seen in both directions: the point of keyframe i (its pixel, at the depth of its canonical pointmap)
must project to the matched pixel of keyframe j, and the other way round. A depth is held by its confidence; a change common
to a keyframe's points is cheaper as a change of the keyframe's scale, so the dense pointmap follows its sparse points.
Depths are eliminated point by point (Schur complement); everything is accumulated in batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.projection import as_tensors, pixel_index, rays
from st3r_ros.slam.residuals import PixelObservations, geman_mcclure, linear_rows
from st3r_ros.types import Edge, Keyframe

PIXEL_SIGMA = 0.6
ITERATIONS = 8
DAMPING = 1e-4
POINTS_PER_KEYFRAME = 300


@dataclass(frozen=True, eq=False)
class PointUpdate:
    """New depths of a keyframe's points: rows, columns (N,) int64, log_depth (N,) change, information (N,) of what sees them."""

    rows: torch.Tensor
    columns: torch.Tensor
    log_depth: torch.Tensor
    information: torch.Tensor


@dataclass(frozen=True, eq=False)
class WindowResult:
    """New poses and point depths by keyframe id; RMS reprojection error in pixels before and after."""

    poses: dict[int, Sim3]
    points: dict[int, PointUpdate]
    rmse_before_px: float
    rmse_px: float


@dataclass(frozen=True, eq=False)
class _Observations:
    """Points (P, ...), and observations (M, ...): `point` indexes the points, `source` and `target` the keyframes."""

    X: torch.Tensor
    prior: torch.Tensor
    owner: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    point: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    pixels: torch.Tensor
    weight: torch.Tensor
    K: torch.Tensor


def optimize_window(keyframes: list[Keyframe], edges: list[Edge], fixed: set[int], depth_sigma: float) -> WindowResult | None:
    """Refines `keyframes` but those with an id in `fixed`, over the edges among them; None without any observation.

    fixed: one keyframe at least, to hold position, orientation and scale. depth_sigma: relative error of a depth about which
    nothing is known but its prediction; it only damps, for every step starts from the depths as they are.
    """
    observations = _collect(keyframes, edges, depth_sigma)
    if observations is None:
        return None
    free = torch.tensor([k.id not in fixed for k in keyframes])
    poses = [k.T_world_cam for k in keyframes]
    delta = torch.zeros_like(observations.prior)
    before = None
    for _ in range(ITERATIONS):
        system = _linearize(observations, poses, delta)
        before = system.rmse_px if before is None else before
        step, moved = _solve(system, free)
        poses = [T @ Sim3.exp(s) for T, s in zip(poses, step.cpu().numpy(), strict=True)]
        delta = (delta + moved).clamp(-2.0, 2.0)
        if float(step.abs().max()) < 1e-6:
            break
    system = _linearize(observations, poses, delta)
    if not np.isfinite(system.rmse_px) or system.rmse_px > 1.5 * (before or 0.0) + 1.0:
        return None
    points = {}
    for index, keyframe in enumerate(keyframes):
        own = observations.owner == index
        information = system.h_point[own] - observations.prior[own]
        points[keyframe.id] = PointUpdate(observations.rows[own], observations.columns[own], delta[own], information)
    return WindowResult({k.id: T for k, T in zip(keyframes, poses, strict=True)}, points, before or 0.0, system.rmse_px)


def _collect(keyframes: list[Keyframe], edges: list[Edge], depth_sigma: float) -> _Observations | None:
    """Turns edges into points (one per keyframe pixel) and their observations in the other keyframe."""
    index = {k.id: n for n, k in enumerate(keyframes)}
    parts = []
    for edge in edges:
        if edge.i in index and edge.j in index:
            i, j = index[edge.i], index[edge.j]
            parts.append(_seen_from(keyframes[i], i, j, edge.pixels_i, edge.pixels_j, edge.weight, depth_sigma))
            parts.append(_seen_from(keyframes[j], j, i, edge.pixels_j, edge.pixels_i, edge.weight, depth_sigma))
    if not parts:
        return None
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    unique, point = torch.unique(joined["key"], return_inverse=True)
    first = torch.zeros_like(unique)
    first[point] = torch.arange(len(point), device=point.device)
    chosen = _most_seen(torch.bincount(point), joined["source"][first], len(keyframes))
    renumbered = torch.cumsum(chosen, 0) - 1
    kept, first = chosen[point], first[chosen]
    return _Observations(
        X=joined["X"][first],
        prior=joined["prior"][first],
        owner=joined["source"][first],
        rows=joined["row"][first],
        columns=joined["column"][first],
        point=renumbered[point[kept]],
        source=joined["source"][kept],
        target=joined["target"][kept],
        pixels=joined["pixels"][kept],
        weight=joined["weight"][kept],
        K=torch.stack([torch.as_tensor(k.K, device=point.device) for k in keyframes]),
    )


def _seen_from(
    keyframe: Keyframe,
    source: int,
    target: int,
    pixels: torch.Tensor,
    seen_at: torch.Tensor,
    weight: torch.Tensor,
    depth_sigma: float,
) -> dict[str, torch.Tensor]:
    """The matched points of one keyframe (number `source`) that have depth, and where keyframe number `target` sees them."""
    height, width = keyframe.conf.shape
    column, row = pixel_index(pixels, width, height)
    conf, z = keyframe.conf[row, column].double(), keyframe.X[row, column, 2].double()
    known = conf > 0
    column, row = column[known], row[known]
    return {
        "key": (source * height + row) * width + column,
        "X": rays(pixels, keyframe.K)[known] * z[known, None],
        "prior": conf[known].clamp_max(1.0) / depth_sigma**2,
        "row": row,
        "column": column,
        "source": torch.full_like(row, source),
        "target": torch.full_like(row, target),
        "pixels": seen_at[known].double(),
        "weight": weight[known].double(),
    }


def _most_seen(seen: torch.Tensor, owner: torch.Tensor, keyframes: int) -> torch.Tensor:
    """Which points (P,) to keep: of each keyframe the `POINTS_PER_KEYFRAME` seen most often."""
    order = torch.argsort(owner * (int(seen.max()) + 1) - seen, stable=True)
    count = torch.bincount(owner, minlength=keyframes)
    start = torch.cumsum(count, 0) - count
    rank = torch.arange(len(seen), device=seen.device) - start[owner[order]]
    chosen = torch.zeros_like(seen, dtype=torch.bool)
    chosen[order] = rank < POINTS_PER_KEYFRAME
    return chosen


@dataclass(frozen=True, eq=False)
class _System:
    """Normal equations: poses H (7n, 7n), g (7n,); points h_point, g_point (P,); their coupling E (P, 7n)."""

    H: torch.Tensor
    g: torch.Tensor
    E: torch.Tensor
    h_point: torch.Tensor
    g_point: torch.Tensor
    rmse_px: float


def _linearize(obs: _Observations, poses: list[Sim3], delta: torch.Tensor) -> _System:
    n, P = len(poses), len(obs.prior)
    world = [as_tensors(T, obs.X) for T in poses]
    inverse = [as_tensors(T.inverse(), obs.X) for T in poses]
    A_world, t_world = torch.stack([a for a, _ in world]), torch.stack([t for _, t in world])
    A_inverse, t_inverse = torch.stack([a for a, _ in inverse]), torch.stack([t for _, t in inverse])
    pair = obs.target * n + obs.source
    A = (A_inverse[:, None] @ A_world[None]).view(n * n, 3, 3)
    t = ((A_inverse[:, None] @ t_world[None, :, :, None])[..., 0] + t_inverse[:, None]).view(n * n, 3)
    X = (obs.X * delta.exp()[:, None])[obs.point]
    offset = (A[pair] @ X[:, :, None])[..., 0]
    Y = offset + t[pair]
    seen = PixelObservations(obs.pixels, obs.K[obs.target]).residuals(Y)
    rows = linear_rows(seen, Y, offset).movedim(0, -1).transpose(0, 1) / PIXEL_SIGMA  # (M, 2, 9)
    residual = rows[..., 8]
    distance = residual.norm(dim=1)
    weight = obs.weight * geman_mcclure(distance).weight * seen.visible
    J_target, j_depth = -rows[..., :7], rows[..., 7]
    J_source = -(J_target @ _adjoint(A, t)[pair])

    J = torch.cat([J_source, J_target], dim=2)  # (M, 2, 14)
    weighted_J = weight[:, None, None] * J
    blocks = J.new_zeros(n * n, 14, 14).index_add_(0, pair, weighted_J.transpose(1, 2) @ J).view(n, n, 2, 7, 2, 7)
    H = blocks[:, :, 0, :, 1].transpose(0, 1).clone()  # source row, target column
    H = H + blocks[:, :, 1, :, 0]  # target row, source column
    diagonal = blocks[:, :, 0, :, 0].sum(0) + blocks[:, :, 1, :, 1].sum(1)
    H[torch.arange(n), torch.arange(n)] += diagonal
    H = H.permute(0, 2, 1, 3).reshape(7 * n, 7 * n)
    by_pose = (weighted_J * residual[:, :, None]).sum(1)
    g = J.new_zeros(n, 7).index_add_(0, obs.source, by_pose[:, :7]).index_add_(0, obs.target, by_pose[:, 7:]).view(-1)
    coupling = (weighted_J * j_depth[:, :, None]).sum(1)
    E = J.new_zeros(P * n, 7)
    E.index_add_(0, obs.point * n + obs.source, coupling[:, :7]).index_add_(0, obs.point * n + obs.target, coupling[:, 7:])
    h_point = obs.prior.clone().index_add_(0, obs.point, weight * (j_depth**2).sum(1))
    # The held value is the depth the window starts from, not a measurement of its own: it damps, it does not pull back far.
    g_point = (obs.prior * delta).index_add_(0, obs.point, weight * (j_depth * residual).sum(1))
    near = distance.clamp_max(10.0)
    return _System(H, g, E.view(P, 7 * n), h_point, g_point, float((near**2).mean().sqrt()) * PIXEL_SIGMA)


def _adjoint(sR: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The adjoints (..., 7, 7) of similarities with scaled rotation sR (..., 3, 3) and translation t (..., 3)."""
    scale = torch.linalg.det(sR).pow(1.0 / 3.0)
    R = sR / scale[..., None, None]
    Ad = sR.new_zeros(*t.shape[:-1], 7, 7)
    Ad[..., :3, :3], Ad[..., 3:6, 3:6] = sR, R
    Ad[..., :3, 3:6] = torch.linalg.cross(t[..., :, None].expand_as(R), R, dim=-2)
    Ad[..., :3, 6] = -t
    Ad[..., 6, 6] = 1.0
    return Ad


def _solve(system: _System, free: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps of the poses (n, 7), zero where not free, and of the points' log-depths (P,)."""
    chosen = free.repeat_interleave(7).to(system.H.device)
    scaled = system.E / system.h_point[:, None]
    H = (system.H - system.E.T @ scaled)[chosen][:, chosen]
    g = (system.g - scaled.T @ system.g_point)[chosen]
    step = torch.zeros_like(system.g)
    step[chosen] = -torch.linalg.solve(H + DAMPING * torch.diag(torch.diag(H).abs() + 1e-3), g)
    moved = -(system.g_point + system.E @ step) / system.h_point
    return step.view(-1, 7), moved.clamp(-0.5, 0.5)
