# SPDX-License-Identifier: Apache-2.0
"""Matches from known pointmaps by projection (MASt3R-SLAM paper): where does a point of image 1 lie in image 0?

`X_0_1` gives every pixel of image 1 a ray from camera 0. Its match is where the rays of `X_0_0`, interpolated over image 0, have
that direction: a small least-squares problem per pixel, solved for all at once and refined by nearby descriptors. It needs no
camera model, is invariant to scale, has fixed shapes, and does not synchronize with the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st3r_ros.pair.matching.cycles import grid_pixels
from st3r_ros.pair.matching.descriptor_search import search_around
from st3r_ros.pair.matching.matches import Shape, image_shape
from st3r_ros.pair.matching.ray_field import RayField, directions
from st3r_ros.pair.matching.sampling import Samples, rows_at
from st3r_ros.pair.matching.subpixel import subpixel_offsets
from st3r_ros.types import Matches

ITERATIONS = 5
FIRST_DAMPING = 1e-3
# A match is valid when the rays of image 0 come within this many pixels of the wanted one, ...
MAX_MISS_PX = 1.0
# ... and the distances of the two points on it differ by at most this share.
MAX_DISTANCE_RATIO = 0.1


@dataclass(frozen=True, eq=False)
class Projections:
    """The positions in image 0 of the looked-up pixels of image 1, for B pairs.

    pixels0: (B, n, 2) float32. pixels1: (n, 2) int64. valid: (B, n) bool, whether the position shows the same point.
    """

    pixels0: torch.Tensor
    pixels1: torch.Tensor
    valid: torch.Tensor

    def of_pair(self, pair: int) -> Matches:
        """The valid matches of one pair, float32 pixels. Synchronizes with the device."""
        valid = self.valid[pair]
        return Matches(self.pixels0[pair, valid], self.pixels1[valid].float())


def projective_matches(
    X_0_0: torch.Tensor,
    X_0_1: torch.Tensor,
    desc0: torch.Tensor | None = None,
    desc1: torch.Tensor | None = None,
    *,
    subsample: int = 1,
    seeds: torch.Tensor | None = None,
) -> Projections:
    """Where every `subsample`-th pixel of image 1 is seen in image 0, for B pairs at once.

    X_0_0: (B, H0, W0, 3), X_0_1: (B, H1, W1, 3), float32 points in camera 0, in any unit. desc0, desc1: (B, H, W, d), or None for
    geometry alone. seeds: (B, n, 2) float32 initial guesses in image 0 (see `seeds_from`), NaN without one; the result of the
    coarse search is used where it is closer.
    A match is valid when its ray passes through image 0 and both pointmaps have about the same distance along it.
    """
    pixels1 = grid_pixels(image_shape(X_0_1[0]), subsample, X_0_1.device)
    column, row = pixels1.T.unsqueeze(1).expand(-1, len(X_0_1), -1)
    points = rows_at(X_0_1, column, row)
    rays, target = RayField(X_0_0), directions(points)
    pixels0, on_ray = _solve(rays, target, _starts(rays, target, seeds))
    nearest = pixels0.round().long()
    distance0, distance1 = torch.linalg.vector_norm(X_0_0, dim=-1, keepdim=True), torch.linalg.vector_norm(points, dim=-1)
    valid = on_ray & _same_distance(distance0, distance1, nearest)
    if desc0 is not None and desc1 is not None:
        queries = rows_at(desc1, column, row)
        nearest = search_around(desc0, queries, nearest)
        valid &= _same_distance(distance0, distance1, nearest)
        pixels0 = nearest + subpixel_offsets(desc0, queries, nearest)
    return Projections(pixels0, pixels1, valid)


def seeds_from(matches: Matches, shape1: Shape, subsample: int) -> torch.Tensor:
    """Initial guesses (n, 2) float32 for the pixels of image 1 that `projective_matches` looks up; NaN without a nearby match.

    matches: of image 0 and an image similar to image 1, such as the previous one. Each is the guess for the pixel of its cell.
    """
    rows, columns = (len(range(subsample // 2, size, subsample)) for size in shape1)
    seeds = torch.full((rows * columns, 2), torch.nan, device=matches.pixels0.device)
    if not len(seeds):
        return seeds
    x, y = (matches.pixels1.round().long() // subsample).unbind(-1)
    seeds[y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1)] = matches.pixels0.float()
    return seeds


def _starts(rays: RayField, target: torch.Tensor, seeds: torch.Tensor | None) -> torch.Tensor:
    """The pixel (B, n, 2) of a coarse grid, or the seed, whose ray is closest to each direction `target` (B, n, 3)."""
    starts = rays.nearest(target)
    if seeds is None:
        return starts
    known = seeds.isfinite().all(dim=-1, keepdim=True)
    seeds = rays.clamp(torch.where(known, seeds, 0.0))
    nearer = _miss(rays.sample(seeds), target) < _miss(rays.sample(starts), target)
    return torch.where(known & nearer[..., None], seeds, starts)


def _miss(samples: Samples, target: torch.Tensor) -> torch.Tensor:
    """Squared chord (B, n) between sampled rays and wanted directions: for small angles, the angle squared."""
    return (samples.value - target).square().sum(-1)


def _solve(rays: RayField, target: torch.Tensor, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Levenberg-Marquardt for all pixels at once: pixels (B, n, 2) where `rays` point along `target` (B, n, 3), and whether they
    do.

    The damping is relative to the derivative, which makes it independent of the field of view and the image size.
    """
    samples = rays.sample(pixels)
    cost = _miss(samples, target)
    damping = torch.full_like(cost, FIRST_DAMPING)
    for _ in range(ITERATIONS):
        candidate = rays.clamp(pixels - _step(samples, target, damping))
        found = rays.sample(candidate)
        new_cost = _miss(found, target)
        better = new_cost < cost
        cost = torch.where(better, new_cost, cost)
        damping = torch.where(better, damping * 0.1, damping * 10.0)
        pixels = torch.where(better[..., None], candidate, pixels)
        samples = samples.updated(found, better)
    pixel_angle = 0.5 * (samples.dx.square() + samples.dy.square()).sum(-1)
    return pixels, cost < MAX_MISS_PX**2 * pixel_angle


def _step(samples: Samples, target: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    """The damped Gauss-Newton step (B, n, 2) to subtract; 0 where the rays do not vary."""
    error = samples.value - target
    gx, gy = (samples.dx * error).sum(-1), (samples.dy * error).sum(-1)
    hxx, hyy, hxy = samples.dx.square().sum(-1), samples.dy.square().sum(-1), (samples.dx * samples.dy).sum(-1)
    extra = damping * 0.5 * (hxx + hyy)
    hxx, hyy = hxx + extra, hyy + extra
    determinant = hxx * hyy - hxy * hxy
    step = torch.stack([hyy * gx - hxy * gy, hxx * gy - hxy * gx], dim=-1) / determinant[..., None]
    return torch.where(determinant[..., None] > 0, step, 0.0)


def _same_distance(distance0: torch.Tensor, distance1: torch.Tensor, pixels0: torch.Tensor) -> torch.Tensor:
    """Whether the distances (B, H0, W0, 1) at `pixels0` (B, n, 2) int64 and `distance1` (B, n) are about the same."""
    seen = rows_at(distance0, pixels0[..., 0], pixels0[..., 1])[..., 0]
    return (seen - distance1).abs() < MAX_DISTANCE_RATIO * torch.minimum(seen, distance1)
