# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment (Triggs et al., 1999): poses of cameras, points in the world that they see, and what is unknown of the lens.

Every view of a point is a pixel, also that of the camera it was found in: no camera's pixels are exact. The points are
eliminated one by one (a 3 x 3 Schur complement), which leaves a sparse system of 6 x 6 blocks: a block for every two cameras
that see the same point. The lens terms, one or two for all cameras, border it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from st3r_ros.solver.blocks import BlockSystem, solve_dense
from st3r_ros.solver.damped import Estimate
from st3r_ros.solver.poses import sim3_exp
from st3r_ros.solver.residuals import NEAREST, Robust, geman_mcclure

HIDDEN_PX = 100.0
"""Pixels that a point behind the camera is off."""
LENS_SIGMA = (0.3, 0.3)
"""Of the lens terms: the logarithm of the focal length, and the first radial coefficient."""
HELD = 1e-9
"""Share of its other curvature with which a direction of a point is held that nothing else holds."""
CHUNK = 1 << 16
"""Pairs of views that are multiplied at once, so that they fit the memory."""


@dataclass(frozen=True, eq=False)
class Structure:
    """n cameras that see P points M times.

    camera, point: (M,) int64, sorted by point. pixels: (M, 2) float64. K: (n, 3, 3). free: (n,) bool, which cameras may move.
    lens_terms: 0 where K is exact, 1 for the focal length, 2 for radial distortion too. sigma: of a pixel. kernel: of distances
    in sigmas.
    """

    camera: torch.Tensor
    point: torch.Tensor
    pixels: torch.Tensor
    K: torch.Tensor
    free: torch.Tensor
    lens_terms: int = 0
    sigma: float = 1.0
    kernel: Callable[[torch.Tensor], Robust] = geman_mcclure

    def gathered(self, of_views: torch.Tensor, by: torch.Tensor, count: int) -> torch.Tensor:
        """Sums (count, ...) over the views of each camera or point."""
        return of_views.new_zeros(count, *of_views.shape[1:]).index_add_(0, by, of_views)

    def pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers (Q,) of two views of the same point by cameras that may move, the camera of the first not after that of the
        second."""
        moving = torch.nonzero(self.free[self.camera])[:, 0]
        point, camera = self.point[moving], self.camera[moving]
        count = torch.bincount(point)
        start = torch.cumsum(count, 0) - count
        seen = count[point]
        first = torch.arange(len(point), device=seen.device).repeat_interleave(seen)
        rank = torch.arange(len(first), device=seen.device) - (torch.cumsum(seen, 0) - seen)[first]
        second = start[point][first] + rank
        ordered = camera[first] <= camera[second]
        return moving[first[ordered]], moving[second[ordered]]


@dataclass(frozen=True, eq=False)
class _Views:
    """The views at an estimate, weighted by their kernel: residuals (M, 2), and their derivatives by the pose tangent right of
    T_world_cam (M, 2, 6), the point (M, 2, 3) and the lens terms (M, 2, l). distance: (M,) pixels, HIDDEN_PX behind a camera."""

    residual: torch.Tensor
    by_pose: torch.Tensor
    by_point: torch.Tensor
    by_lens: torch.Tensor
    distance: torch.Tensor
    cost: torch.Tensor


@dataclass(frozen=True, eq=False)
class StructureEstimate(Estimate):
    """Poses T_world_cam (n, 4, 4), points X (P, 3) and lens terms (l,), all float64, with what is seen there."""

    problem: Structure
    pairs: tuple[torch.Tensor, torch.Tensor]
    poses: torch.Tensor
    X: torch.Tensor
    lens: torch.Tensor
    views: _Views
    cost: torch.Tensor

    @staticmethod
    def first(problem: Structure, poses: torch.Tensor, X: torch.Tensor, lens: torch.Tensor | None = None) -> StructureEstimate:
        """Where the solver begins. lens: 0 where not given."""
        lens = poses.new_zeros(problem.lens_terms) if lens is None else lens
        views = _look(problem, poses, X, lens)
        return StructureEstimate(problem, problem.pairs(), poses, X, lens, views, views.cost)

    @property
    def distance(self) -> torch.Tensor:
        """How far from their pixels the points appear, (M,) pixels."""
        return self.views.distance

    def point_information(self) -> torch.Tensor:
        """Of the points (P, 3, 3), were the cameras exact."""
        by_point = self.views.by_point
        return self.problem.gathered(by_point.mT @ by_point, self.problem.point, len(self.X))

    @property
    def focal_factor(self) -> float:
        """Of the focal length, 1 where it is known."""
        return float(self.lens[0].exp()) if len(self.lens) else 1.0

    def stepped(self, damping: float | torch.Tensor) -> StructureEstimate:
        step = _Step.of(self, damping)
        still = step.poses.new_zeros(len(step.poses), 1)
        poses = self.poses @ sim3_exp(torch.cat([step.poses, still], dim=1))
        X, lens = self.X + step.points, self.lens + step.lens
        views = _look(self.problem, poses, X, lens)
        return replace(self, poses=poses, X=X, lens=lens, views=views, cost=views.cost)


def lens_intrinsics(K: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
    """K (..., 3, 3) with the focal length that the lens terms (l,) say."""
    if len(lens) == 0:
        return K
    scaled = K.clone()
    scaled[..., :2, :2] *= lens[0].exp()
    return scaled


def distances(at: torch.Tensor, pixels: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """Pixels (M,) from where points (M, 3) in the camera appear to pixels (M, 2); K: (M, 3, 3). HIDDEN_PX behind the camera."""
    plane = at[:, :2] / at[:, 2:].clamp_min(NEAREST)
    off = plane * torch.stack([K[:, 0, 0], K[:, 1, 1]], 1) + K[:, :2, 2] - pixels
    return torch.where(at[:, 2] > NEAREST, off.norm(dim=1), HIDDEN_PX)


def _look(problem: Structure, poses: torch.Tensor, X: torch.Tensor, lens: torch.Tensor) -> _Views:
    R, t = poses[:, :3, :3][problem.camera], poses[:, :3, 3][problem.camera]
    at = ((X[problem.point] - t)[:, None] @ R)[:, 0]
    pixel, J, by_lens = _projected(at, lens_intrinsics(problem.K, lens)[problem.camera], lens)
    visible = at[:, 2] > NEAREST
    residual = pixel - problem.pixels
    distance = torch.where(visible, residual.norm(dim=1), HIDDEN_PX)
    robust = problem.kernel(distance / problem.sigma)
    root = (robust.weight * visible).sqrt()[:, None, None] / problem.sigma
    J = J * root
    # The tangent (translation, rotation) right of T_world_cam moves the point in the camera by -translation + at x rotation.
    by_pose = torch.cat([-J, torch.linalg.cross(J, at[:, None].expand_as(J), dim=-1)], dim=2)
    by_pose = by_pose * problem.free[problem.camera, None, None]
    cost = robust.cost.sum()
    for term, sigma in zip(lens, LENS_SIGMA, strict=False):
        cost = cost + 0.5 * (term / sigma) ** 2
    return _Views(residual * root[..., 0], by_pose, J @ R.mT, by_lens * root, distance, cost)


def _projected(at: torch.Tensor, K: torch.Tensor, lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels (M, 2) of points (M, 3) in the camera, and the derivatives by them (M, 2, 3) and by the lens terms (M, 2, l)."""
    inverse_z = at[:, 2].clamp_min(NEAREST).reciprocal()
    x, y = at[:, 0] * inverse_z, at[:, 1] * inverse_z
    square, k1 = x * x + y * y, lens[1] if len(lens) > 1 else 0.0
    stretch = 1.0 + k1 * square
    fx, fy = K[:, 0, 0], K[:, 1, 1]
    off = torch.stack([fx * stretch * x, fy * stretch * y], dim=1)
    xx, xy, yy = fx * (stretch + 2 * k1 * x * x), 2 * k1 * x * y, fy * (stretch + 2 * k1 * y * y)
    by_plane = torch.stack([torch.stack([xx, fx * xy], 1), torch.stack([fy * xy, yy], 1)], dim=1)
    by_depth = -(by_plane @ torch.stack([x, y], 1)[..., None])
    J = torch.cat([by_plane, by_depth], dim=2) * inverse_z[:, None, None]
    radial = torch.stack([fx * x * square, fy * y * square], dim=1)
    return off + K[:, :2, 2], J, torch.stack([off, radial], dim=2)[..., : len(lens)]


@dataclass(frozen=True, eq=False)
class _Step:
    """poses: (n, 6) tangents right of the poses. points: (P, 3). lens: (l,)."""

    poses: torch.Tensor
    points: torch.Tensor
    lens: torch.Tensor

    @staticmethod
    def of(at: StructureEstimate, damping: float | torch.Tensor) -> _Step:
        problem, views, n, P = at.problem, at.views, len(at.poses), len(at.X)
        camera, point, residual = problem.camera, problem.point, views.residual[..., None]
        by_points = _inverse(problem.gathered(views.by_point.mT @ views.by_point, point, P), damping)
        g_point = problem.gathered((views.by_point.mT @ residual)[..., 0], point, P)
        W = views.by_pose.mT @ views.by_point
        Y = W @ by_points[point]
        diagonal = problem.gathered(views.by_pose.mT @ views.by_pose, camera, n)
        g = problem.gathered((views.by_pose.mT @ residual)[..., 0] - (Y @ g_point[point][..., None])[..., 0], camera, n)
        # The lens borders the poses: its columns are right sides too.
        W_lens = problem.gathered(views.by_lens.mT @ views.by_point, point, P)
        Y_lens = W_lens @ by_points
        border = problem.gathered(views.by_pose.mT @ views.by_lens - Y @ W_lens[point].mT, camera, n)
        S = _system(at, diagonal, W, Y, torch.cat([g[..., None], border], dim=2), damping)
        solved = S.solve()
        poses, lens = -solved[..., 0], at.lens.new_zeros(problem.lens_terms)
        if problem.lens_terms:
            prior = torch.tensor(LENS_SIGMA[: problem.lens_terms], dtype=W.dtype, device=W.device) ** -2
            H = (views.by_lens.mT @ views.by_lens).sum(0) - (Y_lens @ W_lens.mT).sum(0) + torch.diag(prior)
            g_lens = ((views.by_lens.mT @ residual).sum(0) - (Y_lens @ g_point[..., None]).sum(0))[:, 0] + prior * at.lens
            flat, columns = solved.flatten(0, 1), border.flatten(0, 1)
            H = H + torch.diag(damping * H.diagonal()) - columns.T @ flat[:, 1:]
            lens = -solve_dense(H, g_lens - columns.T @ flat[:, 0])
            poses = poses - solved[..., 1:] @ lens
        moved = g_point + problem.gathered((W.mT @ poses[camera][..., None])[..., 0], point, P) + (lens @ W_lens)
        return _Step(poses, -(by_points @ moved[..., None])[..., 0], lens)


def _inverse(H: torch.Tensor, damping: float | torch.Tensor) -> torch.Tensor:
    """Of the points' blocks (P, 3, 3), damped."""
    each = H.diagonal(dim1=1, dim2=2)
    return torch.linalg.inv_ex(H + torch.diag_embed(damping * each + HELD * each.sum(1, keepdim=True) + 1e-12))[0]


def _system(
    at: StructureEstimate,
    diagonal: torch.Tensor,
    W: torch.Tensor,
    Y: torch.Tensor,
    g: torch.Tensor,
    damping: float | torch.Tensor,
) -> BlockSystem:
    """Of the poses, without the points: W (M, 6, 3) couples each view's pose and point, Y is W times the inverse of the point's
    block."""
    camera, (first, second), n = at.problem.camera, at.pairs, len(at.poses)
    place, slot = torch.unique(camera[first] * n + camera[second], return_inverse=True)
    blocks = W.new_zeros(len(place), 6, 6)
    for a in range(0, len(first), CHUNK):
        some = slice(a, a + CHUNK)
        blocks.index_add_(0, slot[some], Y[first[some]] @ W[second[some]].mT)
    row, column = place // n, place % n
    own = row == column
    held = BlockSystem(diagonal, -blocks[~own], row[~own], column[~own], g).damped(damping)
    eliminated = torch.zeros_like(diagonal).index_copy_(0, row[own], blocks[own])
    return replace(held, diagonal=held.diagonal - eliminated).fixed(at.problem.free)
