# SPDX-License-Identifier: Apache-2.0
"""Similarities as variables: exponential and adjoint on a device, and how pairs of cameras depend on the poses of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from st3r_ros.solver.blocks import BlockSystem, solve_dense, solve_dense_many
from st3r_ros.solver.points import Equations, SeenPoints

HELD = 1e-6
"""Information of what nothing else holds, such as the scale of a camera whose depths are not claimed."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """L pairs of cameras, by their numbers source and target (L,) among n poses T_world_cam (n, 4, 4).

    Steps are tangents right of the poses: one of the source moves T_target_source by its adjoint times it, one of the target by
    minus it, both as tangents left of T_target_source.
    """

    source: torch.Tensor
    target: torch.Tensor

    def relative(self, poses: torch.Tensor) -> torch.Tensor:
        """T_target_source (L, 4, 4)."""
        return torch.linalg.inv_ex(poses)[0][self.target] @ poses[self.source]

    def moved(self, Ad: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """The tangents (L, 7) left of T_target_source, of adjoint Ad (L, 7, 7), that steps (n, 7) of the poses make."""
        return (Ad @ steps[self.source][..., None])[..., 0] - steps[self.target]

    def system(self, Ad: torch.Tensor, B: torch.Tensor, b: torch.Tensor, poses: int) -> BlockSystem:
        """The normal equations by the steps of the poses, from those by the tangents of the pairs, B (L, 7, 7) and b (L, 7)."""
        s, t = self.source, self.target
        from_source = Ad.transpose(1, 2) @ B
        H = B.new_zeros(poses, 7, 7).index_add_(0, s, from_source @ Ad).index_add_(0, t, B)
        g = B.new_zeros(poses, 7).index_add_(0, s, (Ad.transpose(1, 2) @ b[..., None])[..., 0]).index_add_(0, t, -b)
        return BlockSystem(H, -from_source, s, t, g)


@dataclass(frozen=True, eq=False)
class BundleStep:
    """poses: (n, 7) tangents right of the poses. depths: (P,) of the log-depths."""

    poses: torch.Tensor
    depths: torch.Tensor


def bundle_step(
    pairs: Pairs,
    free: torch.Tensor,
    points: SeenPoints,
    T: torch.Tensor,
    equations: Equations,
    delta: torch.Tensor,
    damping: float | torch.Tensor,
) -> BundleStep:
    """One damped step of the poses that are free (n,) and of points that several cameras see, at T_target_source (L, 4, 4).

    The log-depths delta (P,) are eliminated by the poses of all cameras, with dense matrices.
    """
    system, E, n = *_by_cameras(pairs, free, points, T, equations), len(free)
    h, g = points.gathered(equations.coupling[7:])
    inverse_h = ((1.0 + damping) * (h + points.information)).reciprocal()
    g, scaled = g + points.information * delta, E * inverse_h
    x = -solve_dense(system.damped(damping).dense() - scaled @ E.T, system.g.view(-1) - scaled @ g)
    return BundleStep(x.view(n, 7), -inverse_h * (g + x @ E))


def relief_variance(pairs: Pairs, free: torch.Tensor, points: SeenPoints, T: torch.Tensor, equations: Equations) -> torch.Tensor:
    """Variance (P,) of the log-depths less their mean, with what the errors of the poses, and so all together, add to it.

    Depths that each view determines well are wrong all the same where a turn of the cameras looks like another relief.
    """
    system, E = _by_cameras(pairs, free, points, T, equations)
    own = (points.gathered(equations.coupling[7]) + points.information).reciprocal()
    by_pose = E * own
    by_pose = by_pose - by_pose.mean(dim=1, keepdim=True)
    moved = solve_dense_many(system.damped(0.0, HELD).dense() - (E * own) @ E.T, by_pose)
    return own + (by_pose * moved).sum(0)


def _by_cameras(
    pairs: Pairs, free: torch.Tensor, points: SeenPoints, T: torch.Tensor, equations: Equations
) -> tuple[BlockSystem, torch.Tensor]:
    """The equations by the steps of all cameras, and what couples these with the points, (7 n, P)."""
    Ad, normal, n = sim3_adjoint(T), equations.normal, len(free)
    system = pairs.system(Ad, normal[:, :7, :7], normal[:, :7, 8], n).fixed(free)
    return system, _coupling(pairs, points, Ad, equations.coupling[:7], n) * free.repeat_interleave(7)[:, None]


def _coupling(pairs: Pairs, points: SeenPoints, Ad: torch.Tensor, by_pair: torch.Tensor, poses: int) -> torch.Tensor:
    """What couples steps of the poses with the points, (7 n, P), from what couples each view's pair with its point, (7, M)."""
    assert points.sizes is not None and points.point is not None
    sizes, P = torch.tensor(points.sizes, device=Ad.device), len(points.X)
    by_source = torch.cat([A.T @ e for A, e in zip(Ad, by_pair.split(points.sizes, dim=1), strict=True)], dim=1)
    E = by_pair.new_zeros(7, poses * P)
    E.index_add_(1, pairs.source.repeat_interleave(sizes) * P + points.point, by_source)
    E.index_add_(1, pairs.target.repeat_interleave(sizes) * P + points.point, -by_pair)
    return E.view(7, poses, P).transpose(0, 1).reshape(7 * poses, P)


def sim3_exp(xi: torch.Tensor) -> torch.Tensor:
    """The similarities (..., 4, 4) of tangents (..., 7), as `Sim3.exp`; exact to 1e-10 for turns of up to a radian.

    A Taylor series of a sixteenth of the tangent, squared: no branches, so nothing waits for the device.
    """
    A = (xi @ _generators(xi.device, xi.dtype)).unflatten(-1, (4, 4))
    A2 = A @ A
    A3 = A2 @ A
    eye = torch.eye(4, dtype=xi.dtype, device=xi.device)
    series = eye + A + A2 / 2 + A3 @ (eye / 6 + A / 24 + A2 / 120 + A3 / 720)
    for _ in range(4):
        series = series @ series
    return series


def sim3_adjoint(T: torch.Tensor) -> torch.Tensor:
    """The adjoints (..., 7, 7) of similarities T (..., 4, 4), as `Sim3.adjoint`: T exp(x) T^-1 = exp(adjoint @ x)."""
    sR, t = T[..., :3, :3], T[..., :3, 3]
    R = sR / torch.linalg.vector_norm(sR[..., 0], dim=-1)[..., None, None]
    Ad = T.new_zeros(*T.shape[:-2], 7, 7)
    Ad[..., :3, :3], Ad[..., 3:6, 3:6] = sR, R
    Ad[..., :3, 3:6] = torch.linalg.cross(t[..., None].expand_as(R), R, dim=-2)
    Ad[..., :3, 6] = -t
    Ad[..., 6, 6] = 1.0
    return Ad


@lru_cache(maxsize=8)
def _generators(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """What a sixteenth of each tangent direction is as a matrix, (7, 16)."""
    G = torch.zeros(7, 4, 4, dtype=dtype)
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        G[axis, axis, 3] = 1.0
        G[3 + axis, b, a], G[3 + axis, a, b] = 1.0, -1.0
        G[6, axis, axis] = 1.0
    return (G / 16.0).view(7, 16).to(device)
