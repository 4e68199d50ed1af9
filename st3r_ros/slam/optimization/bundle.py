# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment: poses of cameras in Sim(3) and log-depths of points that several of them see, as a problem of the solver."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st3r_ros.solver.damped import Estimate
from st3r_ros.solver.points import Equations, Noise, SeenPoints, linearize
from st3r_ros.solver.poses import Pairs, bundle_step, relief_variance, sim3_exp

PIXEL_SIGMA = 0.6
NOISE = Noise(PIXEL_SIGMA, hidden_px=100.0)
FAR_OFF = 10.0
MAX_LOG_DEPTH_STEP, MAX_LOG_DEPTH = 0.5, 2.0


@dataclass(frozen=True, eq=False)
class Bundle:
    """Points (P, ...), each of the camera it is a pixel of, and views of them, by pairs of cameras, source to target.

    free: (n,) bool, which cameras may move.
    """

    points: SeenPoints
    pairs: Pairs
    free: torch.Tensor


@dataclass(frozen=True, eq=False)
class BundleEstimate(Estimate):
    """Poses T_world_cam (n, 4, 4) and log-depths delta (P,)."""

    problem: Bundle
    poses: torch.Tensor
    delta: torch.Tensor
    T: torch.Tensor
    equations: Equations
    cost: torch.Tensor

    @staticmethod
    def at(problem: Bundle, poses: torch.Tensor, delta: torch.Tensor) -> BundleEstimate:
        """With the equations there."""
        T = problem.pairs.relative(poses)
        equations = linearize(problem.points, T, delta, NOISE)
        return BundleEstimate(problem, poses, delta, T, equations, equations.cost)

    def stepped(self, damping: float | torch.Tensor) -> BundleEstimate:
        """One damped step of poses and depths together."""
        problem = self.problem
        step = bundle_step(problem.pairs, problem.free, problem.points, self.T, self.equations, self.delta, damping)
        depths = step.depths.clamp(-MAX_LOG_DEPTH_STEP, MAX_LOG_DEPTH_STEP)
        delta = (self.delta + depths).clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH)
        return BundleEstimate.at(problem, self.poses @ sim3_exp(step.poses), delta)

    @property
    def rmse_px(self) -> float:
        """Of the views, those far off counting little."""
        return float(self.equations.distance.clamp_max(FAR_OFF).square().mean()) ** 0.5 * PIXEL_SIGMA

    def relief_variance(self) -> torch.Tensor:
        """Of the log-depths (P,) but for a common one, with what the poses leave open."""
        return relief_variance(self.problem.pairs, self.problem.free, self.problem.points, self.T, self.equations)
