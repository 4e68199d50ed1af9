# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment (Triggs et al., 1999): poses of cameras, points in the world that they see, and what is unknown of the lens.

Every view of a point is a pixel, also that of the camera it was found in: no camera's pixels are exact. The points are
eliminated one by one (a 3 x 3 Schur complement), which leaves a sparse system of 6 x 6 blocks: a block for every two cameras
that see the same point. The lens terms, one or two for all cameras, border it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from st3r_ros.solver.blocks import BlockSystem, solve_dense
from st3r_ros.solver.camera_pairs import CameraPairs
from st3r_ros.solver.damped import Estimate
from st3r_ros.solver.poses import sim3_exp
from st3r_ros.solver.residuals import NEAREST, Robust, geman_mcclure

HIDDEN_PX = 100.0
"""Pixels that a point behind the camera is off."""
LENS_SIGMA = (0.3, 0.3)
"""Of the lens terms: the logarithm of the focal length, and the first radial coefficient."""
HELD = 1e-9
"""Share of its other curvature with which a direction of a point is held that nothing else holds."""


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
        """Sums (count, ...) over the views (..., M) of each camera or point."""
        rows = of_views.movedim(-1, 0).contiguous()
        return rows.new_zeros(count, *rows.shape[1:]).index_add_(0, by, rows)


@dataclass(frozen=True, eq=False)
class _Views:
    """The views at an estimate, weighted by their kernel: residuals (2, M), and their derivatives by the pose tangent right of
    T_world_cam (2, 6, M), the point (2, 3, M) and the lens terms (2, l, M). distance: (M,) pixels, HIDDEN_PX behind a camera.

    The views come last, so that each operation runs over all of them."""

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
    pairs: CameraPairs
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
        pairs = CameraPairs.of(problem.camera, problem.point, problem.free)
        return StructureEstimate(problem, pairs, poses, X, lens, views, views.cost)

    @property
    def distance(self) -> torch.Tensor:
        """How far from their pixels the points appear, (M,) pixels."""
        return self.views.distance

    @cached_property
    def point_information(self) -> torch.Tensor:
        """Of the points (P, 3, 3), were the cameras exact."""
        by_point = self.views.by_point
        return self.problem.gathered(_transposed_product(by_point, by_point), self.problem.point, len(self.X))

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
    """Pixels (M,) from where points (M, 3) in the camera appear to pixels (M, 2), for K (M, 3, 3); HIDDEN_PX behind it."""
    plane = at[:, :2] / at[:, 2:].clamp_min(NEAREST)
    off = plane * torch.stack([K[:, 0, 0], K[:, 1, 1]], 1) + K[:, :2, 2] - pixels
    return torch.where(at[:, 2] > NEAREST, off.norm(dim=1), HIDDEN_PX)


def _look(problem: Structure, poses: torch.Tensor, X: torch.Tensor, lens: torch.Tensor) -> _Views:
    camera = problem.camera
    R = poses[:, :3, :3].movedim(0, -1)[..., camera]
    away = X.T[:, problem.point] - poses[:, :3, 3].T[:, camera]
    at = _product(away[None], R)[0]
    pixel, J, by_lens = _projected(at, lens_intrinsics(problem.K, lens), camera, lens)
    visible = at[2] > NEAREST
    residual = pixel - problem.pixels.T
    distance = torch.where(visible, residual.square().sum(0).sqrt(), HIDDEN_PX)
    robust = problem.kernel(distance / problem.sigma)
    root = (robust.weight * visible).sqrt() / problem.sigma
    J = J * root
    # The tangent (translation, rotation) right of T_world_cam moves the point in the camera by -translation + at x rotation.
    by_pose = torch.cat([-J, torch.linalg.cross(J, at.expand_as(J), dim=1)], dim=1) * problem.free[camera]
    cost = robust.cost.sum()
    for term, sigma in zip(lens, LENS_SIGMA, strict=False):
        cost = cost + 0.5 * (term / sigma) ** 2
    return _Views(residual * root, by_pose, _product(J, R.transpose(0, 1)), by_lens * root, distance, cost)


def _projected(
    at: torch.Tensor, K: torch.Tensor, camera: torch.Tensor, lens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels (2, M) of points (3, M) in the cameras, and the derivatives by them (2, 3, M) and by the lens terms (2, l, M)."""
    inverse_z = at[2].clamp_min(NEAREST).reciprocal()
    f = torch.stack([K[:, 0, 0], K[:, 1, 1]])[:, camera]
    xy = at[:2] * inverse_z
    square, k1 = xy.square().sum(0), lens[1] if len(lens) > 1 else 0.0
    stretch = 1.0 + k1 * square
    off = f * stretch * xy
    # By the plane at depth 1: a multiple of the identity, and where there is distortion 2 k1 xy xy^T.
    by_plane = f[:, None] * (torch.diag_embed(stretch.expand(2, -1).T).movedim(0, -1) + 2 * k1 * xy[:, None] * xy)
    by_depth = -(by_plane * xy).sum(1, keepdim=True)
    J = torch.cat([by_plane, by_depth], dim=1) * inverse_z
    by_lens = torch.stack([off, f * xy * square], dim=1)[:, : len(lens)]
    return off + K[:, :2, 2].T[:, camera], J, by_lens


def _product(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """A B of each view, for A (a, k, M) and B (k, b, M): a few operations over all views instead of one for each."""
    product = A[:, 0, None] * B[0]
    for k in range(1, len(B)):
        product.addcmul_(A[:, k, None], B[k])
    return product


def _transposed_product(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """A^T B of each view (a, b, M), for A (k, a, M) and B (k, b, M)."""
    return _product(A.transpose(0, 1), B)


@dataclass(frozen=True, eq=False)
class _Step:
    """poses: (n, 6) tangents right of the poses. points: (P, 3). lens: (l,)."""

    poses: torch.Tensor
    points: torch.Tensor
    lens: torch.Tensor

    @staticmethod
    def of(at: StructureEstimate, damping: float | torch.Tensor) -> _Step:
        problem, views, n, P = at.problem, at.views, len(at.poses), len(at.X)
        camera, point, residual = problem.camera, problem.point, views.residual[:, None]
        by_points = _inverse(at.point_information, damping)
        g_point = problem.gathered(_transposed_product(views.by_point, residual)[:, 0], point, P)
        W = _transposed_product(views.by_pose, views.by_point)
        Y = _product(W, by_points.movedim(0, -1)[..., point])
        diagonal = problem.gathered(_transposed_product(views.by_pose, views.by_pose), camera, n)
        right = _transposed_product(views.by_pose, residual) - _product(Y, g_point.T[:, None, point])
        # The lens borders the poses: its columns are right sides too.
        W_lens = problem.gathered(_transposed_product(views.by_lens, views.by_point), point, P)
        if problem.lens_terms:
            border = _transposed_product(views.by_pose, views.by_lens) - _product(Y, W_lens.mT.movedim(0, -1)[..., point])
            right = torch.cat([right, border], dim=1)
        solved = _system(at, diagonal, W, Y, problem.gathered(right, camera, n), damping).solve()
        poses, lens = -solved[..., 0], at.lens.new_zeros(problem.lens_terms)
        if problem.lens_terms:
            lens = _lens_step(at, g_point, W_lens, by_points, problem.gathered(border, camera, n), solved, damping)
            poses = poses - solved[..., 1:] @ lens
        back = (W * poses.T[:, None, camera]).sum(0)
        moved = g_point + problem.gathered(back, point, P) + lens @ W_lens
        return _Step(poses, -(by_points @ moved[..., None])[..., 0], lens)


def _lens_step(
    at: StructureEstimate,
    g_point: torch.Tensor,
    W_lens: torch.Tensor,
    by_points: torch.Tensor,
    border: torch.Tensor,
    solved: torch.Tensor,
    damping: float | torch.Tensor,
) -> torch.Tensor:
    """The step (l,) of the lens terms, from what couples them with points, W_lens (P, l, 3), and poses, border (n, 6, l)."""
    views, count = at.views, at.problem.lens_terms
    prior = torch.tensor(LENS_SIGMA[:count], dtype=W_lens.dtype, device=W_lens.device) ** -2
    Y_lens = W_lens @ by_points
    H = _transposed_product(views.by_lens, views.by_lens).sum(-1) - (Y_lens @ W_lens.mT).sum(0) + torch.diag(prior)
    g = _transposed_product(views.by_lens, views.residual[:, None])[:, 0].sum(-1)
    g = g - (Y_lens @ g_point[..., None]).sum(0)[:, 0] + prior * at.lens
    flat, columns = solved.flatten(0, 1), border.flatten(0, 1)
    H = H + torch.diag(damping * H.diagonal()) - columns.T @ flat[:, 1:]
    return -solve_dense(H, g - columns.T @ flat[:, 0])


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
    """Of the poses, without the points: W (6, 3, M) couples each view's pose and point, Y is W times the inverse of the point's
    block."""
    pairs = at.pairs
    blocks = pairs.products(Y, W)
    own = pairs.row == pairs.column
    held = BlockSystem(diagonal, -blocks[~own], pairs.row[~own], pairs.column[~own], g).damped(damping)
    eliminated = torch.zeros_like(diagonal).index_copy_(0, pairs.row[own], blocks[own])
    return replace(held, diagonal=held.diagonal - eliminated).fixed(at.problem.free)
