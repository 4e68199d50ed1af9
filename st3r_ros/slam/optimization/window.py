# SPDX-License-Identifier: Apache-2.0
"""Local optimization: the poses of the newest keyframes in Sim(3) together with the depths of their matched points.

Every match of an edge is seen in both directions: the point of keyframe i (its pixel, at the depth of its canonical pointmap)
must appear where keyframe j matched it, about as far off as j's pointmap says, and the other way round. A depth is held by its
confidence; a change common to a keyframe's points is cheaper as a change of the keyframe's scale, so the dense pointmap follows
its sparse points. Depths are eliminated point by point (Schur complement); everything is accumulated in batch. Levenberg-
Marquardt: a step is taken only when the robust cost falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.projection import INDEPENDENT_CLAIMS, joint_conf, joint_observations, joint_points, pixel_indices
from st3r_ros.slam.optimization.bundle import Bundle, BundleEstimate
from st3r_ros.solver.damped import Schedule, minimize
from st3r_ros.solver.points import SeenPoints
from st3r_ros.solver.poses import Pairs
from st3r_ros.types import Edge, Keyframe

SCHEDULE = Schedule(iterations=8, share=1e-4, most=1e3)
POINTS_PER_KEYFRAME = 600


@dataclass(frozen=True, eq=False)
class WindowResult:
    """New poses by keyframe id; RMS reprojection error in pixels before and after."""

    poses: dict[int, Sim3]
    rmse_before_px: float
    rmse_px: float


def optimize_window(keyframes: list[Keyframe], edges: list[Edge], fixed: set[int], depth_sigma: float) -> WindowResult | None:
    """Refines `keyframes` but those with an id in `fixed`, over the edges among them; None without any observation.

    fixed: one keyframe at least, to hold position, orientation and scale. depth_sigma: relative error of a depth of confidence
    1, which holds it where it is now.
    """
    problem = _collect(keyframes, edges, fixed, depth_sigma)
    if problem is None:
        return None
    poses = torch.tensor(np.array([k.T_world_cam.as_matrix() for k in keyframes]), device=problem.free.device)
    first = BundleEstimate.at(problem, poses, torch.zeros_like(problem.points.information))
    if not np.isfinite(float(first.cost)):
        return None
    best = minimize(first, SCHEDULE).estimate
    moved = zip(keyframes, best.poses.cpu().numpy(), strict=True)
    found = {k.id: k.T_world_cam if k.id in fixed else Sim3.from_matrix(T) for k, T in moved}
    return WindowResult(found, first.rmse_px, best.rmse_px)


# What is seen where -----------------------------------------------------------------------------------------------------


def _collect(keyframes: list[Keyframe], edges: list[Edge], fixed: set[int], depth_sigma: float) -> Bundle | None:
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
    claim = torch.where(torch.isfinite(log_claim), 0.5 * alike * there.conf.clamp_min(0) / depth_sigma**2, 0.0)
    points = SeenPoints(
        X=joint_points(keyframes, source[first], pixels[first]).points,
        information=conf[first] / depth_sigma**2,
        seen=seen,
        weight=weight[kept],
        log_claim=torch.where(claim > 0, log_claim, 0.0),
        claim=claim,
        point=point,
        sizes=sizes.tolist(),
    )
    free = torch.tensor([k.id not in fixed for k in keyframes], device=device)
    return Bundle(points, Pairs(pairs // n, pairs % n), free)


def _most_seen(seen: torch.Tensor, owner: torch.Tensor, keyframes: int) -> torch.Tensor:
    """Which points (P,) to keep: of each keyframe the `POINTS_PER_KEYFRAME` seen most often."""
    order = torch.argsort(owner * (int(seen.max()) + 1) - seen, stable=True)
    count = torch.bincount(owner, minlength=keyframes)
    start = torch.cumsum(count, 0) - count
    rank = torch.arange(len(seen), device=seen.device) - start[owner[order]]
    chosen = torch.zeros_like(seen, dtype=torch.bool)
    chosen[order] = rank < POINTS_PER_KEYFRAME
    return chosen
