# SPDX-License-Identifier: Apache-2.0
"""What is minimised: where points appear in a camera, how far off they are, and the derivatives; robust kernels.

Residuals are in pixels, whether a camera has intrinsics (pixels through K) or not (unit rays, whose difference is multiplied by
pixels per radian), so that one set of sigmas and thresholds serves both. Everything is batched over the leading dimensions
(written `...`) and runs without waiting for the device. Components come last in shapes and first in memory: operations then
run over long contiguous stretches, several times faster on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st3r_ros.geometry.pixels import normalized

HUBER = 1.345
GEMAN_MCCLURE = 3.0
NEAREST = 1e-6
"""Points closer to the camera than this, in its units, are behind it."""


@dataclass(frozen=True, eq=False)
class Residuals:
    """values (..., R) pixels and their derivative J (..., R, 3) by the points; visible (...) bool: not behind the camera.

    The norm of `values` is the distance in pixels. Where a point is not visible they mean nothing.
    """

    values: torch.Tensor
    J: torch.Tensor
    visible: torch.Tensor

    @property
    def distance(self) -> torch.Tensor:
        """How far from where they should be the points appear, (...) pixels."""
        return (self.values * self.values).sum(-1).sqrt()

    def with_row(self, row: LogDepth) -> Residuals:
        """With another row at the end."""
        values = torch.cat([self.values.movedim(-1, 0), row.values[None]]).movedim(0, -1)
        J = torch.cat([self.J.movedim((-1, -2), (0, 1)), row.J.movedim(-1, 0)[:, None]], dim=1)
        return Residuals(values, J.movedim((0, 1), (-1, -2)), self.visible)


@dataclass(frozen=True, eq=False)
class LogDepth:
    """The logarithm (...) of how far off points are, and its derivative J (..., 3) by the points."""

    values: torch.Tensor
    J: torch.Tensor


@dataclass(frozen=True, eq=False)
class PixelObservations:
    """What a camera with intrinsics sees: pixels (..., 2), K (3, 3) for all or (..., 3, 3), on one device. Depth is z.

    Residuals leave the skew of K out, as the projection and its derivative are computed together in few operations.
    """

    pixels: torch.Tensor
    K: torch.Tensor

    def residuals(self, points: torch.Tensor) -> Residuals:
        """Of points (..., 3) in the camera: two rows, predicted less seen pixel."""
        x, y, z = points.unbind(-1)
        K = self.K
        inverse_z = z.clamp_min(NEAREST).reciprocal()
        ax, ay = K[..., 0, 0] * inverse_z, K[..., 1, 1] * inverse_z
        u, v = ax * x, ay * y
        zero = torch.zeros_like(u)
        J = torch.stack([ax, zero, zero, ay, -u * inverse_z, -v * inverse_z]).unflatten(0, (3, 2))
        values = torch.stack([u - (self.pixels[..., 0] - K[..., 0, 2]), v - (self.pixels[..., 1] - K[..., 1, 2])])
        return Residuals(values.movedim(0, -1), J.movedim((0, 1), (-1, -2)), z > NEAREST)

    def log_depth(self, points: torch.Tensor) -> LogDepth:
        """Logarithm of z."""
        z = points[..., 2].clamp_min(NEAREST)
        zero = torch.zeros_like(z)
        return LogDepth(z.log(), torch.stack([zero, zero, z.reciprocal()]).movedim(0, -1))

    def normalized(self) -> torch.Tensor:
        """The rays with z = 1, as (..., 2)."""
        return normalized(self.pixels, self.K)

    def __getitem__(self, index: torch.Tensor | slice) -> PixelObservations:
        """Some of them."""
        return PixelObservations(self.pixels[index], self.K if self.K.ndim == 2 else self.K[index])


@dataclass(frozen=True, eq=False)
class RayObservations:
    """What a camera without intrinsics sees: rays (..., 3), unit vectors, or 0 where it is not known what a pixel sees.

    pixels_per_radian: a number, or a tensor that broadcasts against (...). Depth is the distance.
    """

    rays: torch.Tensor
    pixels_per_radian: float | torch.Tensor

    def residuals(self, points: torch.Tensor) -> Residuals:
        """Of points (..., 3) in the camera: three rows, predicted less seen direction, times pixels per radian."""
        at, seen = points.movedim(-1, 0), self.rays.movedim(-1, 0)
        inverse = (at * at).sum(0).clamp_min(NEAREST**2).rsqrt()
        direction = at * inverse
        scaled = inverse * self.pixels_per_radian
        J = (direction * -scaled)[:, None] * direction[None]
        J[0, 0] += scaled
        J[1, 1] += scaled
        J[2, 2] += scaled
        values = (direction - seen) * self.pixels_per_radian
        return Residuals(values.movedim(0, -1), J.movedim((0, 1), (-1, -2)), (direction * seen).sum(0) > NEAREST)

    def log_depth(self, points: torch.Tensor) -> LogDepth:
        """Logarithm of the distance."""
        at = points.movedim(-1, 0)
        square = (at * at).sum(0).clamp_min(NEAREST**2)
        return LogDepth(0.5 * square.log(), (at / square).movedim(0, -1))

    def normalized(self) -> torch.Tensor:
        """The rays with z = 1, as (..., 2); meaningless where they do not point forward."""
        return self.rays[..., :2] / self.rays[..., 2:].clamp_min(NEAREST)

    def __getitem__(self, index: torch.Tensor | slice) -> RayObservations:
        """Some of them."""
        factor = self.pixels_per_radian
        if isinstance(factor, torch.Tensor) and factor.ndim > 0:
            factor = factor[index]
        return RayObservations(self.rays[index], factor)


Observations = PixelObservations | RayObservations


def linear_rows(seen: Residuals, points: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Residual rows (9, R, ...): derivatives by pose tangent (7) and log-depth (1), and the residual itself.

    seen: of points (..., 3), which are offset (..., 3) + the translation of T_cam_source: the depth stretches the offset.
    The tangent (translation, rotation, log-scale) acts left of T_cam_source.
    """
    Jx, Jy, Jz = seen.J.movedim((-1, -2), (0, 1))
    x, y, z = points.movedim(-1, 0)
    ox, oy, oz = offset.movedim(-1, 0)
    turned = [y * Jz - z * Jy, z * Jx - x * Jz, x * Jy - y * Jx]
    scaled, stretched = x * Jx + y * Jy + z * Jz, ox * Jx + oy * Jy + oz * Jz
    return torch.stack([Jx, Jy, Jz, *turned, scaled, stretched, seen.values.movedim(-1, 0)])


# Robust kernels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Robust:
    """IRLS weights (...) and robust costs (...) of distances."""

    weight: torch.Tensor
    cost: torch.Tensor


def huber(normalized: torch.Tensor) -> Robust:
    """Of distances in standard deviations: what is far off pulls no harder than what is 1.3 off."""
    near = normalized.clamp_max(HUBER)
    return Robust(HUBER / normalized.clamp_min(HUBER), near * (normalized - 0.5 * near))


def geman_mcclure(normalized: torch.Tensor) -> Robust:
    """Of distances in standard deviations: what is more than a few off hardly counts."""
    square = normalized * normalized
    root = (1.0 + square / GEMAN_MCCLURE**2).reciprocal()
    return Robust(root * root, 0.5 * square * root)
