# SPDX-License-Identifier: Apache-2.0
"""Local optimization: the poses of the newest keyframes in Sim(3) together with the depths of their matched points.

Every match of an edge is seen in both directions: the point of keyframe i (its pixel, at the depth of its canonical pointmap)
must appear where keyframe j matched it, about as far off as j's pointmap says, and the other way round. A depth is held by its
confidence; a change common to a keyframe's points is cheaper as a change of the keyframe's scale, so the dense pointmap follows
its sparse points. Depths are eliminated point by point (Schur complement); everything is accumulated in batch. Levenberg-
Marquardt: a step is taken only when the robust cost falls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.projection import INDEPENDENT_CLAIMS, joint_conf, joint_observations, joint_points, pixel_indices
from st3r_ros.slam.residuals import LogDepth, Observations, geman_mcclure, linear_rows, sim3_adjoint, sim3_exp
from st3r_ros.types import Edge, Keyframe

PIXEL_SIGMA = 0.6
ITERATIONS = 8
FIRST_DAMPING = 1e-4
LAST_DAMPING = 1e3
CONVERGED = 1e-4
POINTS_PER_KEYFRAME = 600
HIDDEN_PX = 100.0
FAR_OFF = 10.0


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


def optimize_window(
    keyframes: list[Keyframe], edges: list[Edge], fixed: set[int], depth_sigma: float, max_conf: float = math.inf
) -> WindowResult | None:
    """Refines `keyframes` but those with an id in `fixed`, over the edges among them; None without any observation.

    fixed: one keyframe at least, to hold position, orientation and scale. depth_sigma: relative error of a depth of confidence
    1, which holds it where it is now. max_conf: what confidences count at most; for depths whose confidence comes from the very
    matches of these edges, which must not count twice.
    """
    problem = _collect(keyframes, edges, fixed, depth_sigma, max_conf)
    if problem is None:
        return None
    poses = torch.tensor(np.array([k.T_world_cam.as_matrix() for k in keyframes]), device=problem.X.device)
    first = best = _linearize(problem, poses, torch.zeros_like(problem.prior))
    if not np.isfinite(first.cost):
        return None
    damping = FIRST_DAMPING
    for _ in range(ITERATIONS):
        tried = _linearize(problem, *_step(problem, best, damping))
        if tried.cost < best.cost:
            gain, best, damping = 1.0 - tried.cost / best.cost, tried, 0.1 * damping
            if gain < CONVERGED:
                break
        else:
            damping *= 10.0
            if damping > LAST_DAMPING:
                break
    return _result(keyframes, fixed, problem, first, best)


def _result(keyframes: list[Keyframe], fixed: set[int], problem: _Problem, first: _System, best: _System) -> WindowResult:
    T_world_cam = best.poses.cpu().numpy()
    poses, points = {}, {}
    for number, keyframe in enumerate(keyframes):
        own = problem.owner == number
        moved = keyframe.id not in fixed
        poses[keyframe.id] = Sim3.from_matrix(T_world_cam[number]) if moved else keyframe.T_world_cam
        points[keyframe.id] = PointUpdate(problem.rows[own], problem.columns[own], best.delta[own], best.seen[own])
    return WindowResult(poses, points, first.rmse_px, best.rmse_px)


# What is seen where -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Problem:
    """Points (P, ...) and observations (M, ...) of them, sorted by pairs (L, ...) of keyframes, source to target.

    X: (P, 3) in their keyframe, number owner (P,), pixel rows, columns (P,). prior: (P,) what holds their log-depth.
    point: (M,) which point. seen: where. log_claim, claim: (M,) the log-depth there that the target's pointmap claims, and its
    information. weight: (M,). source, target: (L,) numbers of keyframes. sizes: how many observations each pair has.
    free: (n,) bool, which keyframes may move.
    """

    X: torch.Tensor
    prior: torch.Tensor
    owner: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    point: torch.Tensor
    seen: Observations
    log_claim: torch.Tensor
    claim: torch.Tensor
    weight: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    sizes: list[int]
    free: torch.Tensor


def _collect(
    keyframes: list[Keyframe], edges: list[Edge], fixed: set[int], depth_sigma: float, max_conf: float
) -> _Problem | None:
    """Turns edges into points (one per keyframe pixel) and their observations in the other keyframe."""
    number = {k.id: n for n, k in enumerate(keyframes)}
    edges = [e for e in edges if e.i in number and e.j in number and len(e)]
    if not edges:
        return None
    device, n = keyframes[0].X.device, len(keyframes)
    sides = [(number[e.i], number[e.j], len(e)) for e in edges] + [(number[e.j], number[e.i], len(e)) for e in edges]
    i, j, count = torch.tensor(sides, device=device).T
    pair = (i * n + j).repeat_interleave(count)
    side_i, side_j = torch.cat([e.pixels_i for e in edges]).to(device), torch.cat([e.pixels_j for e in edges]).to(device)
    weight = torch.cat([e.weight for e in edges]).to(device, torch.float64).repeat(2)
    pixels, seen_at = torch.cat([side_i, side_j]), torch.cat([side_j, side_i])
    source = pair // n
    at = pixel_indices(keyframes, source, pixels)
    conf = joint_conf(keyframes, source, pixels)
    known = torch.nonzero(conf > 0)[:, 0]
    if not len(known):
        return None
    key = (source << 32) + (at.row << 16) + at.column
    unique, point = torch.unique(key[known], return_inverse=True)
    first = known[torch.zeros_like(unique).index_copy_(0, point, torch.arange(len(known), device=device))]
    chosen = _most_seen(torch.bincount(point), source[first], n)
    kept, first = known[chosen[point]], first[chosen]
    point = (torch.cumsum(chosen, 0) - 1)[point[chosen[point]]]
    order = torch.argsort(pair[kept], stable=True)
    kept, point = kept[order], point[order]
    pairs, sizes = torch.unique_consecutive(pair[kept], return_counts=True)
    target = pair[kept] % n
    seen = joint_observations(keyframes, target, seen_at[kept])
    there = joint_points(keyframes, target, seen_at[kept])
    log_claim = seen.log_depth(there.points).values
    # Each direction of an edge compares the two depths of a match: half of what they tell each.
    alike = (INDEPENDENT_CLAIMS / sizes.double()).clamp_max(1.0).repeat_interleave(sizes)
    claim = torch.where(torch.isfinite(log_claim), 0.5 * alike * there.conf.clamp(0, max_conf) / depth_sigma**2, 0.0)
    return _Problem(
        X=joint_points(keyframes, source[first], pixels[first]).points,
        prior=conf[first].clamp_max(max_conf) / depth_sigma**2,
        owner=source[first],
        rows=at.row[first],
        columns=at.column[first],
        point=point,
        seen=seen,
        log_claim=torch.where(claim > 0, log_claim, 0.0),
        claim=claim,
        weight=weight[kept],
        source=pairs // n,
        target=pairs % n,
        sizes=sizes.tolist(),
        free=torch.tensor([k.id not in fixed for k in keyframes], device=device),
    )


def _most_seen(seen: torch.Tensor, owner: torch.Tensor, keyframes: int) -> torch.Tensor:
    """Which points (P,) to keep: of each keyframe the `POINTS_PER_KEYFRAME` seen most often."""
    order = torch.argsort(owner * (int(seen.max()) + 1) - seen, stable=True)
    count = torch.bincount(owner, minlength=keyframes)
    start = torch.cumsum(count, 0) - count
    rank = torch.arange(len(seen), device=seen.device) - start[owner[order]]
    chosen = torch.zeros_like(seen, dtype=torch.bool)
    chosen[order] = rank < POINTS_PER_KEYFRAME
    return chosen


# The equations ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _System:
    """An estimate, poses (n, 4, 4) and log-depths delta (P,), its robust cost, and the normal equations there.

    H (7n, 7n), g (7n,) by tangents right of the poses; h_point, g_point (P,); E (7n, P) couples them. seen: (P,) information
    that the views add to each depth. rmse_px: of the observations, those far off counting little.
    """

    poses: torch.Tensor
    delta: torch.Tensor
    cost: float
    H: torch.Tensor
    g: torch.Tensor
    E: torch.Tensor
    h_point: torch.Tensor
    g_point: torch.Tensor
    seen: torch.Tensor
    rmse_px: float


def _linearize(problem: _Problem, poses: torch.Tensor, delta: torch.Tensor) -> _System:
    T = torch.linalg.inv(poses)[problem.target] @ poses[problem.source]  # (L, 4, 4), target from source
    X = (problem.X * delta.exp()[:, None])[problem.point]
    offset = torch.cat([a @ x.T for a, x in zip(T[:, :3, :3], X.split(problem.sizes), strict=True)], dim=1).T
    sizes = torch.tensor(problem.sizes, device=T.device)
    Y = offset + T[:, :3, 3].repeat_interleave(sizes, dim=0)
    seen = problem.seen.residuals(Y)
    distance = torch.where(seen.visible, seen.distance, HIDDEN_PX) / PIXEL_SIGMA
    robust = geman_mcclure(distance)
    there = problem.seen.log_depth(Y)
    difference = there.values - problem.log_claim
    claimed = geman_mcclure(difference.abs() * problem.claim.sqrt())
    cost = problem.weight @ robust.cost + claimed.cost.sum() + 0.5 * (problem.prior @ delta.square())
    squares = problem.weight * robust.weight * seen.visible / PIXEL_SIGMA**2
    count = seen.values.shape[-1]
    root = torch.cat([squares.expand(count, -1), (claimed.weight * problem.claim * seen.visible)[None]]).sqrt()
    rows = linear_rows(seen.with_row(LogDepth(difference, there.J)), Y, offset) * root  # (9, R + 1, M)
    blocks = torch.stack([part.flatten(1) @ part.flatten(1).T for part in rows.split(problem.sizes, dim=2)])
    coupling = (rows[7] * rows).sum(1)  # (9, M)
    by_point = torch.stack([coupling[7], coupling[8], rows[7, :count].square().sum(0)])
    by_point = by_point.new_zeros(3, len(delta)).index_add_(1, problem.point, by_point)
    numbers = torch.stack([cost, distance.clamp_max(FAR_OFF).square().mean()]).tolist()
    Ad = sim3_adjoint(T)
    return _System(
        poses,
        delta,
        numbers[0],
        *_by_pose(problem, blocks, Ad),
        E=_coupling(problem, coupling[:7], Ad),
        h_point=problem.prior + by_point[0],
        g_point=problem.prior * delta + by_point[1],
        seen=by_point[2],
        rmse_px=numbers[1] ** 0.5 * PIXEL_SIGMA,
    )


def _by_pose(problem: _Problem, blocks: torch.Tensor, Ad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """H (7n, 7n) and g (7n,) from the blocks (L, 9, 9) of the pairs, by the tangents left of T_target_source.

    Ad: (L, 7, 7). A tangent right of the source's pose moves the pair by Ad times it, one of the target's by minus it.
    """
    n, s, t = len(problem.free), problem.source, problem.target
    B, b = blocks[:, :7, :7], blocks[:, :7, 8]
    from_source = Ad.transpose(1, 2) @ B
    H, g = B.new_zeros(n * n, 7, 7), B.new_zeros(n, 7)
    H.index_add_(0, s * n + s, from_source @ Ad).index_add_(0, t * n + t, B)
    H.index_add_(0, s * n + t, -from_source).index_add_(0, t * n + s, -from_source.transpose(1, 2))
    g.index_add_(0, s, (Ad.transpose(1, 2) @ b[:, :, None])[..., 0]).index_add_(0, t, -b)
    return H.view(n, n, 7, 7).transpose(1, 2).reshape(7 * n, 7 * n), g.view(-1)


def _coupling(problem: _Problem, by_pair: torch.Tensor, Ad: torch.Tensor) -> torch.Tensor:
    """E (7n, P) from what couples each observation's depth with its pair, (7, M)."""
    n, P = len(problem.free), len(problem.prior)
    sizes = torch.tensor(problem.sizes, device=Ad.device)
    by_source = torch.cat([A.T @ e for A, e in zip(Ad, by_pair.split(problem.sizes, dim=1), strict=True)], dim=1)
    E = by_pair.new_zeros(7, n * P)
    E.index_add_(1, problem.source.repeat_interleave(sizes) * P + problem.point, by_source)
    E.index_add_(1, problem.target.repeat_interleave(sizes) * P + problem.point, -by_pair)
    return E.view(7, n, P).transpose(0, 1).reshape(7 * n, P)


def _step(problem: _Problem, system: _System, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses (n, 4, 4) and log-depths (P,) after one damped step."""
    free = torch.nonzero(problem.free.repeat_interleave(7))[:, 0]
    E, inverse_h = system.E[free], ((1.0 + damping) * system.h_point).reciprocal()
    scaled = E * inverse_h
    H = system.H[free][:, free]
    hold = damping * H.diagonal() + 1e-9
    H = H - scaled @ E.T
    H.diagonal().add_(hold)
    step = torch.zeros_like(system.g)
    step[free] = -torch.linalg.solve_ex(H, system.g[free] - scaled @ system.g_point)[0]
    moved = -inverse_h * (system.g_point + step @ system.E)
    return system.poses @ sim3_exp(step.view(-1, 7)), (system.delta + moved.clamp(-0.5, 0.5)).clamp(-2.0, 2.0)
