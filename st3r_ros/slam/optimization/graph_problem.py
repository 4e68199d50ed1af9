# SPDX-License-Identifier: Apache-2.0
"""The pose graph problem: poses of the keyframes, and matches of every edge with the points of both keyframes.

Everything is copied from the map, so that the graph can be solved while the map changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import normalize

from st3r_ros.slam.keyframes.projection import joint_points
from st3r_ros.solver.points import SeenPoints
from st3r_ros.solver.poses import Pairs
from st3r_ros.solver.residuals import Observations, PixelObservations, RayObservations
from st3r_ros.types import EDGE_PIXEL_STEP, Edge, Keyframe

MATCHES_PER_EDGE = 128
BEST_DEPTH_SIGMA = 0.01
"""Errors of a pointmap are smooth: more predictions do not reduce them below this."""
INDEPENDENT_MATCHES = 64
"""For the same reason an edge counts as at most this many matches."""


@dataclass(frozen=True, eq=False)
class GraphProblem:
    """n keyframes, E edges, D = 2 E directions (first every edge's i -> j, then every j -> i) with m matches each.

    ids: of the keyframes. pairs: ids (i, j) of the edges. poses: (n, 4, 4) float64 T_world_cam. fixed: number of the keyframe
    that stays where it is. directions: numbers of the keyframes (D,).
    loop: (E,) bool, whether an edge may be voted down. share: (E,) what a match counts. scale_sigma: see `make_graph_problem`.
    points: (D, m) of type float32, in the source of their direction; weight 0 where there is no match.
    """

    ids: list[int]
    pairs: list[tuple[int, int]]
    poses: torch.Tensor
    fixed: int
    directions: Pairs
    loop: torch.Tensor
    share: torch.Tensor
    scale_sigma: float | None
    points: SeenPoints


def make_graph_problem(
    keyframes: list[Keyframe],
    edges: list[Edge],
    depth_sigma: float,
    *,
    fixed: int | None = None,
    matches_per_edge: int = MATCHES_PER_EDGE,
    scale_sigma: float | None = None,
) -> GraphProblem:
    """The problem of keyframes and the edges among them, on the device of the pointmaps. Other and empty edges are left out.

    depth_sigma: relative depth error at confidence 1. fixed: id of the keyframe that holds the map, the first one if not given.
    scale_sigma: relative error with which a keyframe's own unit is that of the others, for a pair model that is metric; None
    when the units of pointmaps are arbitrary.
    """
    number = {k.id: n for n, k in enumerate(keyframes)}
    edges = [e for e in edges if e.i in number and e.j in number and len(e)]
    device = keyframes[0].X.device
    ends = torch.tensor([(number[e.i], number[e.j]) for e in edges], dtype=torch.long, device=device).view(-1, 2)
    sampled = _sample(edges, matches_per_edge, device)
    owner = ends.T.reshape(-1)  # of each direction's source: the i of all edges, then the j
    there = joint_points(keyframes, owner.repeat_interleave(matches_per_edge), sampled.pixels.reshape(-1, 2))
    X, conf = there.points.view(-1, matches_per_edge, 3), there.conf.view(-1, matches_per_edge)
    # What one side has is where the other side is seen.
    X_target, conf_target, target = (torch.cat([v[len(edges) :], v[: len(edges)]]) for v in (X, conf, owner))
    pixels_target = torch.cat([sampled.pixels[len(edges) :], sampled.pixels[: len(edges)]])
    calibrated = all(k.calibrated for k in keyframes)
    length = torch.linalg.vector_norm(X_target, dim=-1)
    measured = X_target[..., 2] if calibrated else length
    K = torch.tensor(np.array([k.K for k in keyframes]), device=device)[target][:, None]
    seen: Observations
    if calibrated:
        seen = PixelObservations(_packed(pixels_target), K.float())
    else:
        rays = normalize(X_target, dim=-1)
        rays = torch.where((length > 0)[..., None], rays, 0.0)
        seen = RayObservations(_packed(rays), (K[..., 0, 0] * K[..., 1, 1]).sqrt().float())
    usable = torch.isfinite(X).all(-1) & (conf > 0)
    weight = torch.where(usable & torch.isfinite(length), sampled.weight, 0.0)
    # Each direction of an edge compares the two depths of a match: half of what they tell each.
    claimed = (conf_target > 0) & (measured > 0) & torch.isfinite(measured) & (weight > 0)
    information = (conf / depth_sigma**2).clamp_max(BEST_DEPTH_SIGMA**-2)
    claim = (conf_target / depth_sigma**2).clamp_max(BEST_DEPTH_SIGMA**-2)
    both = (weight > 0).sum(1).view(2, -1).sum(0)
    points = SeenPoints(
        X=_packed(torch.where(usable[..., None], X, 1.0)),
        information=torch.where(weight > 0, weight * information, 0.0).float(),
        seen=seen,
        weight=weight.float(),
        log_claim=torch.where(claimed, measured, 1.0).log().float(),
        claim=torch.where(claimed, 0.5 * claim, 0.0).float(),
        claim_weight=weight.float(),
    )
    return GraphProblem(
        ids=[k.id for k in keyframes],
        pairs=[(e.i, e.j) for e in edges],
        poses=torch.tensor(np.array([k.T_world_cam.as_matrix() for k in keyframes]), device=device),
        fixed=0 if fixed is None else number[fixed],
        directions=Pairs(owner, target),
        loop=torch.tensor([e.kind == "loop" for e in edges], dtype=torch.bool, device=device),
        share=(INDEPENDENT_MATCHES / both.clamp_min(1).double()).clamp_max(1.0),
        scale_sigma=scale_sigma,
        points=points,
    )


def _packed(values: torch.Tensor) -> torch.Tensor:
    """Components (..., c) as float32, by components in memory, see residuals.py."""
    return values.movedim(-1, 0).float().contiguous().movedim(0, -1)


@dataclass(frozen=True, eq=False)
class _Samples:
    """pixels (2 E, m, 2) float32 of keyframes i, then of keyframes j; weight (2 E, m), 0 beyond an edge's matches."""

    pixels: torch.Tensor
    weight: torch.Tensor


def _sample(edges: list[Edge], count: int, device: torch.device) -> _Samples:
    """The same number of matches of every edge, evenly over its matches."""
    if not edges:
        return _Samples(torch.zeros(0, count, 2, device=device), torch.zeros(0, count, device=device))
    lengths = torch.tensor([len(e) for e in edges])
    starts = torch.cumsum(lengths, 0) - lengths
    place = torch.arange(count)
    spread = (place + 0.5) * (lengths / count)[:, None]
    index = torch.where((lengths > count)[:, None], spread.long(), place).minimum(lengths[:, None] - 1) + starts[:, None]
    pixels = torch.stack([torch.cat([e.packed_i for e in edges])[index], torch.cat([e.packed_j for e in edges])[index]])
    weight = torch.cat([e.packed_weight for e in edges])[index].float() * (place < lengths[:, None])
    return _Samples(pixels.flatten(0, 1).to(device).float() * EDGE_PIXEL_STEP, weight.repeat(2, 1).to(device))
