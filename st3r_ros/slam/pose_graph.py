# SPDX-License-Identifier: Apache-2.0
"""Global optimization: the Sim(3) poses of all keyframes over the sampled matches of all edges.

Every match of an edge is seen in both directions, as in the local window: the point of one keyframe must appear where the other
one matched it, about as far off as that one's pointmap says. Its log-depth is a variable of its own, held by its confidence and
eliminated match by match: exact points fix the relative pose, vague ones only their epipolar line. So each direction of an edge
comes down to a 7 x 7 block by the tangent left of T_target_source, and the whole map to a sparse system of such blocks.

Wrong matches are left out by a kernel as wide as their edge is still off, so that a drifted loop pulls with all its matches.
Wrong loop edges are left out by a kernel that starts wide and narrows (graduated non-convexity, Yang, Antonante, Tzoumas and
Carlone, Graduated Non-Convexity for Robust Spatial Perception, RA-L 2020): they lose against the edges that agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.block_solver import BlockSystem
from st3r_ros.slam.graph_problem import GraphProblem, make_graph_problem
from st3r_ros.slam.residuals import LogDepth, geman_mcclure, linear_rows, sim3_adjoint, sim3_exp
from st3r_ros.types import Edge, Keyframe

PIXEL_SIGMA = 1.0
EDGE_SIGMA_PX = 4.0
ITERATIONS = 25
NARROWING = 4.0
CONVERGED = 1e-3
FIRST_DAMPING, LAST_DAMPING = 1e-9, 1.0
HIDDEN_PX = 200.0
MAX_LOG_DEPTH = 1.0
CPU_CHUNK = 1 << 15


@dataclass(frozen=True, eq=False)
class GraphResult:
    """New poses by keyframe id, and how well the edges (in the order of the problem's `pairs`) agree.

    edge_rmse_before_px, edge_rmse_px: (E,) of each edge's better matches. edge_weight: (E,) in (0, 1], small for a loop edge that
    was voted down, 1 for others. rmse_before_px, rmse_px: over the edges, weighted so. converged: whether it stopped by itself.
    """

    poses: dict[int, Sim3]
    rmse_before_px: float
    rmse_px: float
    edge_rmse_before_px: np.ndarray
    edge_rmse_px: np.ndarray
    edge_weight: np.ndarray
    iterations: int
    converged: bool


def solve_graph(problem: GraphProblem) -> GraphResult:
    """Levenberg-Marquardt from the problem's poses; one keyframe holds position, orientation and scale. Free of side effects."""
    start = best = _first_look(problem)
    width, narrowness, damping = _widths(problem, best), _first_narrowness(problem, best), FIRST_DAMPING
    converged, iteration = False, 0
    while not converged and iteration < ITERATIONS:
        iteration += 1
        votes = _edge_weights(problem, best, narrowness)
        tried = _look(problem, *_step(problem, best, votes, damping), width)
        gain = 1.0 - _cost(problem, tried, votes, width, best) / max(_cost(problem, best, votes, width, best), 1e-12)
        if gain > 0.0:
            best, damping = tried, max(0.1 * damping, FIRST_DAMPING)
            width = _widths(problem, best)
        else:
            damping = max(30.0 * damping, 1e-6)
        stuck = damping > LAST_DAMPING
        if gain > 0.0 or stuck:
            converged = gain < CONVERGED and narrowness >= 1.0
            narrowness, damping = min(narrowness * NARROWING, 1.0), FIRST_DAMPING if stuck else damping
    return _result(problem, start, best, iteration, converged)


def edge_informations(problem: GraphProblem) -> np.ndarray:
    """What each edge's matches tell of its relative pose at the problem's poses: (E, 7, 7) float64 normal matrices.

    Of the tangent (translation, rotation, log-scale) that acts left of T_j_i, in the axes and unit of keyframe j:
    T_j_i <- exp(tangent) @ T_j_i. The inverse of such a matrix is the covariance.
    """
    view = _first_look(problem)
    view = _look(problem, view.poses, view.delta + view.seen.moved, _widths(problem, view))
    half, B = len(problem.loop), view.seen.B.double()
    Ad = view.Ad[half:]  # of T_i_j, which a tangent left of T_j_i moves by minus Ad times it
    both = B[:half] + Ad.transpose(1, 2) @ B[half:] @ Ad
    return (problem.share[:, None, None] * both).cpu().numpy()


def relative_information(keyframe_i: Keyframe, keyframe_j: Keyframe, edge: Edge, depth_sigma: float) -> np.ndarray:
    """`edge_informations` (7, 7) of one edge between keyframes i and j, of the tangent left of T_j_i."""
    return edge_informations(make_graph_problem([keyframe_i, keyframe_j], [edge], depth_sigma))[0]


# One look at all matches ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the matches of some directions (d) say, in the problem's precision.

    off: (d, 2, m) in standard deviations: the distance in the image, and the log-depth from the claimed one. held: (d,) cost of
    the changed log-depths. B (d, 7, 7), b (d, 7): normal equations by the tangents left of T_target_source, depths eliminated.
    moved (d, m), gain (d, 7, m): the log-depths' own step, and what a tangent takes from it.
    """

    off: torch.Tensor
    held: torch.Tensor
    B: torch.Tensor
    b: torch.Tensor
    moved: torch.Tensor
    gain: torch.Tensor


@dataclass(frozen=True, eq=False)
class _View:
    """An estimate, poses (n, 4, 4) float64 and log-depths delta (D, m), and what is seen there.

    Ad: (D, 7, 7) float64 adjoints of T_target_source.
    """

    poses: torch.Tensor
    delta: torch.Tensor
    Ad: torch.Tensor
    seen: _Seen


def _first_look(problem: GraphProblem) -> _View:
    """The problem as it is, with kernels as wide as the edges are off."""
    unchanged = torch.zeros_like(problem.information)
    view = _look(problem, problem.poses, unchanged, unchanged.new_ones(len(unchanged), 2))
    return _look(problem, problem.poses, unchanged, _widths(problem, view))


def _look(problem: GraphProblem, poses: torch.Tensor, delta: torch.Tensor, width: torch.Tensor) -> _View:
    """width: (D, 2) of the kernels, in standard deviations: of distances in the image, and of log-depths."""
    T = torch.linalg.inv(poses)[problem.target] @ poses[problem.source]
    directions, matches = delta.shape
    # Parts that fit a CPU's cache; a GPU takes everything at once.
    chunk = max(directions if delta.is_cuda else CPU_CHUNK // max(matches, 1), 1)
    starts = range(0, max(directions, 1), chunk)
    parts = [_look_at(problem, slice(a, a + chunk), T[a : a + chunk], delta[a : a + chunk], width[a : a + chunk]) for a in starts]
    seen = _Seen(*(torch.cat(values) for values in zip(*(vars(part).values() for part in parts), strict=True)))
    return _View(poses, delta, sim3_adjoint(T), seen)


def _look_at(problem: GraphProblem, part: slice, T: torch.Tensor, delta: torch.Tensor, width: torch.Tensor) -> _Seen:
    """At the directions `part`, with T_target_source (d, 4, 4), log-depths delta (d, m) and kernels width (d, 2)."""
    T, observed, weight, claim = T.to(delta.dtype), problem.seen[part], problem.weight[part], problem.claim[part]
    offset = (T[:, :3, :3].permute(1, 2, 0)[..., None] * (problem.X[part].movedim(-1, 0) * delta.exp())).sum(1).movedim(0, -1)
    points = offset + T[:, None, :3, 3]
    seen, there = observed.residuals(points), observed.log_depth(points)
    difference = there.values - problem.log_claim[part]
    distance = torch.where(seen.visible, seen.distance, HIDDEN_PX) / PIXEL_SIGMA
    off = torch.stack([distance, difference.abs() * claim.sqrt()], dim=1)
    trust = geman_mcclure(off / width[:, :, None]).weight * (weight * seen.visible)[:, None]
    squares = [trust[:, 0] / PIXEL_SIGMA**2] * seen.values.shape[-1] + [trust[:, 1] * claim]
    rows = linear_rows(seen.with_row(LogDepth(difference, there.J)), points, offset) * torch.stack(squares).sqrt()
    rows = rows.permute(2, 0, 1, 3)  # (d, 9, R + 1, m)
    by_depth, flat = (rows[:, 7:8] * rows).sum(2), rows.flatten(2)
    normal = flat[:, :7] @ flat.transpose(1, 2)
    information = weight * problem.information[part]
    inverse_h = (by_depth[:, 7] + information).clamp_min(1e-9).reciprocal()
    moved = -inverse_h * (by_depth[:, 8] + information * delta)
    E = by_depth[:, :7]
    gain = E * inverse_h[:, None]
    B = normal[:, :, :7] - gain @ E.transpose(1, 2)
    b = normal[:, :, 8] + (E @ moved[:, :, None])[..., 0]
    return _Seen(off, 0.5 * (information * delta.square()).sum(1), B, b, moved, gain)


def _medians(problem: GraphProblem, view: _View) -> torch.Tensor:
    """Medians (D, 2) of how far off the matches of each direction are, in standard deviations; 0 without any."""
    counts = torch.stack([problem.weight > 0, problem.claim > 0], dim=1)
    return torch.where(counts, view.seen.off, torch.nan).nanmedian(dim=2).values.nan_to_num(0.0)


def _widths(problem: GraphProblem, view: _View) -> torch.Tensor:
    """How wide the kernels (D, 2) of the matches are, in standard deviations: as far as their edge is off, at least 1."""
    return _medians(problem, view).clamp_min(1.0)


# Votes of the edges -----------------------------------------------------------------------------------------------------


def _edges_off(problem: GraphProblem, view: _View) -> torch.Tensor:
    """How far off each edge (E,) is, in EDGE_SIGMA_PX."""
    return _medians(problem, view)[:, 0].view(2, len(problem.loop)).mean(0).double() * (PIXEL_SIGMA / EDGE_SIGMA_PX)


def _edge_weights(problem: GraphProblem, view: _View, narrowness: float) -> torch.Tensor:
    """(E,) in (0, 1]: the trust in each loop edge, 1 for others. narrowness: up to 1; the smaller, the more is forgiven."""
    weight = (1.0 + narrowness * _edges_off(problem, view).square()) ** -2
    return torch.where(problem.loop, weight, 1.0)


def _first_narrowness(problem: GraphProblem, view: _View) -> float:
    """That at which even the loop edge that is furthest off counts about half."""
    off = torch.where(problem.loop, _edges_off(problem, view), 0.0)
    return min(1.0, 0.5 / max(float(off.square().max()) if len(off) else 0.0, 0.5))


# The steps --------------------------------------------------------------------------------------------------------------


def _log_scales(poses: torch.Tensor) -> torch.Tensor:
    """Logarithms (n,) of the keyframes' units."""
    return torch.linalg.vector_norm(poses[:, :3, 0], dim=1).log()


def _cost(problem: GraphProblem, view: _View, votes: torch.Tensor, width: torch.Tensor, prior_at: _View) -> float:
    """The robust cost. prior_at: source of the common unit of the keyframes."""
    square = width.square()
    matches = problem.weight[:, None] * geman_mcclure(view.seen.off / width[:, :, None]).cost * square[:, :, None]
    total = (votes * problem.share).repeat(2) @ (matches.sum((1, 2)) + view.seen.held).double()
    if problem.scale_sigma is not None:
        common = _log_scales(prior_at.poses).median()
        total = total + 0.5 * (_log_scales(view.poses) - common).square().sum() / problem.scale_sigma**2
    return float(total)


def _step(problem: GraphProblem, view: _View, votes: torch.Tensor, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses (n, 4, 4) and log-depths (D, m) after one damped step."""
    x = _system(problem, view, votes, damping).solve()
    by_direction = (view.Ad @ x[problem.source][..., None])[..., 0] - x[problem.target]
    change = view.seen.moved - (by_direction[:, None].to(view.delta.dtype) @ view.seen.gain)[:, 0]
    delta = (view.delta + change.clamp(-0.5, 0.5)).clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH)
    return view.poses @ sim3_exp(x), delta


def _system(problem: GraphProblem, view: _View, votes: torch.Tensor, damping: float) -> BlockSystem:
    """The damped normal equations by tangents right of the poses.

    A tangent right of the source's pose moves a direction by Ad times it, one right of the target's by minus it.
    """
    s, t, n = problem.source, problem.target, len(problem.poses)
    share = (votes * problem.share).repeat(2)
    B, b, Ad = share[:, None, None] * view.seen.B, share[:, None] * view.seen.b, view.Ad
    from_source = Ad.transpose(1, 2) @ B
    H = B.new_zeros(n, 7, 7).index_add_(0, s, from_source @ Ad).index_add_(0, t, B)
    g = B.new_zeros(n, 7).index_add_(0, s, (Ad.transpose(1, 2) @ b[..., None])[..., 0]).index_add_(0, t, -b)
    if problem.scale_sigma is not None:
        log_scales = _log_scales(view.poses)
        H[:, 6, 6] += problem.scale_sigma**-2
        g[:, 6] += (log_scales - log_scales.median()) / problem.scale_sigma**2
    diagonal = H.diagonal(dim1=1, dim2=2)
    diagonal += damping * diagonal + 1e-9
    H[problem.fixed], g[problem.fixed] = torch.eye(7, dtype=H.dtype, device=H.device), 0.0
    tied = ((s != problem.fixed) & (t != problem.fixed)).double()
    return BlockSystem(H, -from_source * tied[:, None, None], s, t, -g)


# The end ----------------------------------------------------------------------------------------------------------------


def _edge_rmse(problem: GraphProblem, view: _View) -> torch.Tensor:
    """(E,) pixels, of the better matches of each edge."""
    distance = view.seen.off[:, 0]
    weight = problem.weight * geman_mcclure(distance / _widths(problem, view)[:, :1]).weight
    sums = torch.stack([(weight * distance.square()).sum(1), weight.sum(1)]).view(2, 2, len(problem.loop)).sum(1)
    return (sums[0] / sums[1].clamp_min(1e-12)).sqrt().double() * PIXEL_SIGMA


def _result(problem: GraphProblem, start: _View, best: _View, iterations: int, converged: bool) -> GraphResult:
    votes = _edge_weights(problem, best, 1.0)
    before, after = _edge_rmse(problem, start), _edge_rmse(problem, best)
    total = votes.sum().clamp_min(1e-12)
    numbers = torch.stack([before, after, votes, votes * before.square() / total, votes * after.square() / total]).cpu().numpy()
    T = Sim3.from_matrix(best.poses.cpu().numpy())
    poses = {number: T[at] for at, number in enumerate(problem.ids)}
    rmse_before, rmse = np.sqrt(numbers[3:].sum(1)).tolist()
    return GraphResult(poses, rmse_before, rmse, numbers[0], numbers[1], numbers[2], iterations, converged)
