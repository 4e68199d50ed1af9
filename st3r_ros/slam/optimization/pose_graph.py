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

from dataclasses import dataclass, replace

import numpy as np
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.optimization.graph_problem import GraphProblem
from st3r_ros.solver.blocks import BlockSystem
from st3r_ros.solver.damped import Estimate, Schedule, minimize
from st3r_ros.solver.points import Eliminated, Equations, Noise, eliminate, linearize, robust_cost
from st3r_ros.solver.poses import sim3_adjoint, sim3_exp
from st3r_ros.solver.residuals import geman_mcclure

PIXEL_SIGMA = 1.0
NOISE = Noise(PIXEL_SIGMA, hidden_px=200.0)
EDGE_SIGMA_PX = 4.0
SCHEDULE = Schedule(iterations=25, share=1e-3, damping=1e-9, least=1e-9, most=1.0, raised=30.0, retry=1e-6)
NARROWING = 4.0
MAX_LOG_DEPTH = 1.0


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
    start = GraphEstimate.first(problem)
    found = minimize(start, SCHEDULE)
    return _result(problem, start, found.estimate, found.iterations, found.converged)


# The estimate -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Weighing:
    """How the matches and edges count.

    width: (D, 2) of the matches' kernels, in standard deviations: of distances in the image, and of log-depths. As far as the
    direction is off, at least 1. narrowness: of the loop edges' kernel, up to 1; the smaller, the more is forgiven.
    votes: (E,) in (0, 1], the trust in each loop edge, 1 for others. log_scale: () the common unit of the keyframes.
    """

    width: torch.Tensor
    narrowness: float
    votes: torch.Tensor
    log_scale: torch.Tensor


@dataclass(frozen=True, eq=False)
class GraphEstimate(Estimate):
    """Poses (n, 4, 4) float64 and log-depths delta (D, m), T_target_source (D, 4, 4) float64, and what is seen there."""

    problem: GraphProblem
    weighing: Weighing
    poses: torch.Tensor
    delta: torch.Tensor
    T: torch.Tensor
    equations: Equations
    cost: torch.Tensor

    @staticmethod
    def first(problem: GraphProblem) -> GraphEstimate:
        """The problem as it is, with kernels as wide as its edges are off, so that even the worst loop edge counts about half."""
        T, delta = problem.directions.relative(problem.poses), torch.zeros_like(problem.points.information)
        off = _off(problem, linearize(problem.points, T.to(delta.dtype), delta, NOISE))
        loops_off = torch.where(problem.loop, _edges_off(problem, off), 0.0)
        narrowness = min(1.0, 0.5 / max(float(loops_off.square().max()) if len(loops_off) else 0.0, 0.5))
        return _estimate(problem, _weighing(problem, off, narrowness, problem.poses), problem.poses, delta)

    def at(self, poses: torch.Tensor, delta: torch.Tensor) -> GraphEstimate:
        """The estimate elsewhere, weighed as here."""
        return _estimate(self.problem, self.weighing, poses, delta)

    @property
    def final(self) -> bool:  # type: ignore[override]
        return self.weighing.narrowness >= 1.0

    def stepped(self, damping: float | torch.Tensor) -> GraphEstimate:
        rest = self.eliminated()
        x = self.system(rest, damping).solve()
        tangents = self.problem.directions.moved(sim3_adjoint(self.T), x)
        change = rest.depth_step(tangents.to(self.delta.dtype))
        delta = (self.delta + change.clamp(-0.5, 0.5)).clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH)
        return self.at(self.poses @ sim3_exp(x), delta)

    def reweighed(self) -> GraphEstimate:
        narrowness = min(NARROWING * self.weighing.narrowness, 1.0)
        weighing = _weighing(self.problem, _off(self.problem, self.equations), narrowness, self.poses)
        by_direction = robust_cost(self.problem.points, self.equations, self.delta, NOISE, weighing.width)
        return replace(self, weighing=weighing, cost=_cost(self.problem, weighing, self.poses, by_direction))

    def eliminated(self) -> Eliminated:
        """Of each direction, without its log-depths."""
        return eliminate(self.equations, self.problem.points.information, self.delta)

    def system(self, rest: Eliminated, damping: float | torch.Tensor) -> BlockSystem:
        """The damped normal equations by tangents right of the poses."""
        problem, log_scales = self.problem, _log_scales(self.poses)
        share = (self.weighing.votes * problem.share).repeat(2)
        B, b = share[:, None, None] * rest.B, share[:, None] * rest.b
        system = problem.directions.system(sim3_adjoint(self.T), B, b, len(self.poses))
        if problem.scale_sigma is not None:
            system.diagonal[:, 6, 6] += problem.scale_sigma**-2
            system.g[:, 6] += (log_scales - self.weighing.log_scale) / problem.scale_sigma**2
        free = torch.arange(len(self.poses), device=self.poses.device) != problem.fixed
        return replace(system.damped(damping).fixed(free), g=-system.g * free[:, None])


def _estimate(problem: GraphProblem, weighing: Weighing, poses: torch.Tensor, delta: torch.Tensor) -> GraphEstimate:
    T = problem.directions.relative(poses)
    equations = linearize(problem.points, T.to(delta.dtype), delta, NOISE, weighing.width)
    cost = _cost(problem, weighing, poses, equations.cost)
    return GraphEstimate(problem, weighing, poses, delta, T, equations, cost)


def _cost(problem: GraphProblem, weighing: Weighing, poses: torch.Tensor, by_direction: torch.Tensor) -> torch.Tensor:
    total = (weighing.votes * problem.share).repeat(2) @ by_direction.double()
    if problem.scale_sigma is not None:
        total = total + 0.5 * (_log_scales(poses) - weighing.log_scale).square().sum() / problem.scale_sigma**2
    return total


def _log_scales(poses: torch.Tensor) -> torch.Tensor:
    """Logarithms (n,) of the keyframes' units."""
    return torch.linalg.vector_norm(poses[:, :3, 0], dim=1).log()


# How matches and edges count ----------------------------------------------------------------------------------------------


def _weighing(problem: GraphProblem, off: torch.Tensor, narrowness: float, poses: torch.Tensor) -> Weighing:
    votes = _votes(problem, off, narrowness)
    return Weighing(off.clamp_min(1.0), narrowness, votes, _log_scales(poses).median())


def _off(problem: GraphProblem, equations: Equations) -> torch.Tensor:
    """Medians (D, 2) of how far off the matches of each direction are, in standard deviations; 0 without any."""
    assert equations.difference is not None and problem.points.claim is not None
    off = torch.stack([equations.distance, equations.difference], dim=1)
    counts = torch.stack([problem.points.weight > 0, problem.points.claim > 0], dim=1)
    return torch.where(counts, off, torch.nan).nanmedian(dim=2).values.nan_to_num(0.0)


def _edges_off(problem: GraphProblem, off: torch.Tensor) -> torch.Tensor:
    """How far off each edge (E,) is, in EDGE_SIGMA_PX."""
    return off[:, 0].view(2, len(problem.loop)).mean(0).double() * (PIXEL_SIGMA / EDGE_SIGMA_PX)


def _votes(problem: GraphProblem, off: torch.Tensor, narrowness: float) -> torch.Tensor:
    weight = (1.0 + narrowness * _edges_off(problem, off).square()) ** -2
    return torch.where(problem.loop, weight, 1.0)


# The end ----------------------------------------------------------------------------------------------------------------


def _edge_rmse(problem: GraphProblem, estimate: GraphEstimate) -> torch.Tensor:
    """(E,) pixels, of the better matches of each edge."""
    distance, width = estimate.equations.distance, _off(problem, estimate.equations)[:, :1].clamp_min(1.0)
    weight = problem.points.weight * geman_mcclure(distance / width).weight
    sums = torch.stack([(weight * distance.square()).sum(1), weight.sum(1)]).view(2, 2, len(problem.loop)).sum(1)
    return (sums[0] / sums[1].clamp_min(1e-12)).sqrt().double() * PIXEL_SIGMA


def _result(problem: GraphProblem, start: GraphEstimate, best: GraphEstimate, iterations: int, converged: bool) -> GraphResult:
    votes = _votes(problem, _off(problem, best.equations), 1.0)
    before, after = _edge_rmse(problem, start), _edge_rmse(problem, best)
    total = votes.sum().clamp_min(1e-12)
    numbers = torch.stack([before, after, votes, votes * before.square() / total, votes * after.square() / total]).cpu().numpy()
    T = Sim3.from_matrix(best.poses.cpu().numpy())
    poses = {number: T[at] for at, number in enumerate(problem.ids)}
    rmse_before, rmse = np.sqrt(numbers[3:].sum(1)).tolist()
    return GraphResult(poses, rmse_before, rmse, numbers[0], numbers[1], numbers[2], iterations, converged)
