# SPDX-License-Identifier: Apache-2.0
"""Points with depths of their own, seen by cameras: the normal equations by poses and log-depths, and the depths eliminated.

A point is known by the camera it comes from (the source), along a ray of it; the logarithm of its depth is a variable, held by
what is known of it. Another camera (the target) tells where it sees the point and may claim how far off it is. The depths are
eliminated point by point (a 1 x 1 Schur complement): exact points fix the poses, vague ones only their epipolar line.

One pair of cameras gives one 7 x 7 block by the tangent left of T_target_source, as `Pairs` takes them. Where every view has a
point of its own, that block is all that is left of its points; points seen by several targets are eliminated by the caller's
poses. Everything runs without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from st3r_ros.solver.residuals import LogDepth, Observations, Residuals, Robust, geman_mcclure, linear_rows

CPU_CHUNK = 1 << 15
"""Views that are looked at together on a CPU, so that they fit its cache."""


@dataclass(frozen=True, eq=False)
class SeenPoints:
    """What is known of points, and the views of them. Views have the shape (m,) for one pair of cameras, (L, m) for L pairs with
    equally many, or (M,) sorted by L pairs of `sizes` views each.

    X: (..., 3) in the source camera. information: 1 / variance of their log-depth. Both of the shape of the views, one by one;
    or, with `point` (M,), the number of each view's point, of shape (P,).
    seen: where the target sees them. weight: trust in each view.
    log_claim, claim: log-depth that the target claims, and its information, 0 without; claim_weight: trust in it, 1 if not given.
    """

    X: torch.Tensor
    information: torch.Tensor
    seen: Observations
    weight: torch.Tensor
    log_claim: torch.Tensor | None = None
    claim: torch.Tensor | None = None
    claim_weight: torch.Tensor | None = None
    point: torch.Tensor | None = None
    sizes: list[int] | None = None

    def __getitem__(self, index: torch.Tensor | slice) -> SeenPoints:
        """Some of the views, or pairs, where each has its own point."""
        assert self.point is None
        return replace(self, **{name: value[index] for name, value in vars(self).items() if value is not None})

    def gathered(self, of_views: torch.Tensor) -> torch.Tensor:
        """Sums over the views of each point, from (..., M) of the views."""
        if self.point is None:
            return of_views
        return of_views.new_zeros(*of_views.shape[:-1], len(self.X)).index_add_(-1, self.point, of_views)


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a pixel, pixels that a point behind the camera is off, and the robust kernel."""

    pixel_sigma: float
    hidden_px: float
    kernel: Callable[[torch.Tensor], Robust] = geman_mcclure

    def robust(self, off: torch.Tensor, width: torch.Tensor | None, column: int) -> Robust:
        """Of distances in standard deviations: column 0 those in the image, 1 those of log-depths; width as in `look`."""
        if width is None:
            return self.kernel(off)
        wide = width[:, column : column + 1]
        found = self.kernel(off / wide)
        return Robust(found.weight, found.cost * wide.square())


@dataclass(frozen=True, eq=False)
class Look:
    """The views at an estimate. rows: the residuals, the last one that of log-depth where depth is claimed.

    root: (R, ...) square roots of the rows' robust weights. points, offset: (..., 3) in the target camera and their derivative by
    the log-depth. distance, difference: (...) from where they are seen and from the claim, in standard deviations.
    cost: () or (L,) of each pair, the hold of the depths counted where the views have their own points, else ().
    """

    rows: Residuals
    root: torch.Tensor
    points: torch.Tensor
    offset: torch.Tensor
    distance: torch.Tensor
    difference: torch.Tensor | None
    cost: torch.Tensor

    def by_depth(self) -> torch.Tensor:
        """Weighted derivatives (R, ...) of the rows by the log-depths."""
        return (self.rows.J.movedim((-1, -2), (0, 1)) * self.offset.movedim(-1, 0)[:, None]).sum(0) * self.root


@dataclass(frozen=True, eq=False)
class Equations:
    """The normal equations. normal: (9, 9) or (L, 9, 9), rows and columns of pair tangent (7), common log-depth, residual.

    coupling: (..., 9, m), the same of each view with its own log-depth: by the tangent (7), its own curvature, its gradient; the
    hold of the depth not counted. distance, difference, cost: as in `Look`.
    """

    normal: torch.Tensor
    coupling: torch.Tensor
    distance: torch.Tensor
    difference: torch.Tensor | None
    cost: torch.Tensor


@dataclass(frozen=True, eq=False)
class Eliminated:
    """Normal equations B (..., 7, 7), b (..., 7) by the pair tangents, without the depths of points that are seen once.

    step: (..., m) of the log-depths where the tangent is 0. gain: (..., 7, m) what a tangent takes from it.
    """

    B: torch.Tensor
    b: torch.Tensor
    step: torch.Tensor
    gain: torch.Tensor

    def depth_step(self, tangents: torch.Tensor) -> torch.Tensor:
        """The step (..., m) of the log-depths for tangents (..., 7) of the pairs."""
        return self.step - (tangents[..., None, :] @ self.gain)[..., 0, :]


def look(points: SeenPoints, T: torch.Tensor, delta: torch.Tensor, noise: Noise, width: torch.Tensor | None = None) -> Look:
    """At T_target_source (4, 4) or (L, 4, 4) and log-depths delta, of the shape of the points.

    width: (L, 2) of the kernels of each pair, in standard deviations: of distances in the image, and of log-depths.
    """
    X = points.X.movedim(-1, 0) * delta.exp()
    offset, at = _carried(T, X if points.point is None else X[:, points.point], points.sizes)
    rows = points.seen.residuals(at)
    distance = torch.where(rows.visible, rows.distance, noise.hidden_px) / noise.pixel_sigma
    robust = noise.robust(distance, width, 0)
    cost = (points.weight * robust.cost).sum(-1) + _hold(points, delta)
    root = (points.weight * robust.weight * rows.visible).sqrt() / noise.pixel_sigma
    root = root.expand(rows.values.shape[-1], *root.shape)
    if points.log_claim is None or points.claim is None:
        return Look(rows, root, at, offset, distance, None, cost)
    there = points.seen.log_depth(at)
    residual, sqrt_claim = there.values - points.log_claim, points.claim.sqrt()
    difference = residual.abs() * sqrt_claim
    robust = noise.robust(difference, width, 1)
    trust = robust.weight * rows.visible if points.claim_weight is None else robust.weight * points.claim_weight * rows.visible
    root = torch.cat([root, (trust.sqrt() * sqrt_claim)[None]])
    rows = rows.with_row(LogDepth(residual, there.J))
    return Look(rows, root, at, offset, distance, difference, cost + _claim_cost(points, robust))


def robust_cost(points: SeenPoints, at: Equations, delta: torch.Tensor, noise: Noise, width: torch.Tensor) -> torch.Tensor:
    """The cost of what was seen at log-depths delta, by kernels of another width."""
    cost = (points.weight * noise.robust(at.distance, width, 0).cost).sum(-1) + _hold(points, delta)
    return cost if at.difference is None else cost + _claim_cost(points, noise.robust(at.difference, width, 1))


def _hold(points: SeenPoints, delta: torch.Tensor) -> torch.Tensor:
    return 0.5 * (points.information * delta.square()).sum(-1)


def _claim_cost(points: SeenPoints, robust: Robust) -> torch.Tensor:
    return (robust.cost if points.claim_weight is None else points.claim_weight * robust.cost).sum(-1)


def linearize(
    points: SeenPoints, T: torch.Tensor, delta: torch.Tensor, noise: Noise, width: torch.Tensor | None = None
) -> Equations:
    """The equations where `look` looks."""
    if T.ndim == 2 or T.is_cuda or points.sizes is not None:
        return _linearize(points, T, delta, noise, width)
    chunk = max(CPU_CHUNK // max(delta.shape[1], 1), 1)
    parts = [slice(a, a + chunk) for a in range(0, max(len(delta), 1), chunk)]
    found = [_linearize(points[p], T[p], delta[p], noise, None if width is None else width[p]) for p in parts]
    return replace(found[0], **{k: torch.cat([getattr(f, k) for f in found]) for k, v in vars(found[0]).items() if v is not None})


def _linearize(points: SeenPoints, T: torch.Tensor, delta: torch.Tensor, noise: Noise, width: torch.Tensor | None) -> Equations:
    at = look(points, T, delta, noise, width)
    rows = linear_rows(at.rows, at.points, at.offset) * at.root
    rows = rows.movedim((0, 1), (-3, -2))  # (..., 9, R, m)
    coupling = (rows[..., 7:8, :, :] * rows).sum(-2)
    if points.sizes is None:
        flat = rows.flatten(-2)
        normal = flat @ flat.mT
    else:
        normal = torch.stack([part.flatten(1) @ part.flatten(1).T for part in rows.split(points.sizes, dim=-1)])
    return Equations(normal, coupling, at.distance, at.difference, at.cost)


def eliminate(
    equations: Equations, information: torch.Tensor, delta: torch.Tensor, damping: float | torch.Tensor = 0.0
) -> Eliminated:
    """Without the log-depths delta, of points that are seen once and held by `information`, their curvature damped."""
    E, h, g = equations.coupling[..., :7, :], equations.coupling[..., 7, :], equations.coupling[..., 8, :]
    inverse_h = ((1.0 + damping) * (h + information)).clamp_min(1e-9).reciprocal()
    gain = E * inverse_h[..., None, :]
    step = -inverse_h * (g + information * delta)
    B = equations.normal[..., :7, :7] - gain @ E.mT
    return Eliminated(B, equations.normal[..., :7, 8] + (E @ step[..., None])[..., 0], step, gain)


def _carried(T: torch.Tensor, X: torch.Tensor, sizes: list[int] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Points X (3, ...) in the axes and unit of the target, (..., 3), from its source and from itself."""
    sR, t = T[..., :3, :3], T[..., :3, 3].movedim(-1, 0)[..., None]
    if sizes is not None:
        offset = torch.cat([a @ x for a, x in zip(sR, X.split(sizes, dim=1), strict=True)], dim=1)
        t = t[..., 0].repeat_interleave(torch.tensor(sizes, device=T.device), dim=1)
    elif T.ndim == 2:
        offset = sR @ X
    else:
        offset = (sR.permute(1, 2, 0)[..., None] * X).sum(1)
    return offset.movedim(0, -1), (offset + t).movedim(0, -1)
