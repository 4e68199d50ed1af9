# SPDX-License-Identifier: Apache-2.0
"""The focal length of a camera from its own pointmap."""

from __future__ import annotations

import math

import torch

from st3r_ros.errors import GeometryError

METHODS = ("weiszfeld", "median")

_STEPS = 10

# Focal lengths of real cameras, as shares of the longer side: from 136 degrees of view to 6.
_PLAUSIBLE = 0.2, 10.0

# Focal length of a 60 degree field of view over the longer side, as a share of that side; limits are multiples of it.
_TYPICAL = 0.5 / math.tan(math.radians(30.0))


def focal_from_pointmap(
    X: torch.Tensor,
    principal_point: torch.Tensor | None = None,
    *,
    method: str = "weiszfeld",
    min_ratio: float = 0.0,
    max_ratio: float = math.inf,
) -> torch.Tensor:
    """The focal lengths (...), pixels, that best fit a pointmap; NaN when no positive one fits.

    X: (..., H, W, 3) points in the camera's own coordinates; those that are not finite or have z = 0 are ignored. Computed
    on X's device, in X's precision but at least float32, without synchronizing with the device.
    principal_point: (2,) or (..., 2) pixels, the image centre by default.
    method: "weiszfeld", the geometric median of the reprojection errors by Weiszfeld's algorithm (DUSt3R paper, section 3.3), or
    "median", the lower median of the estimates from each coordinate of each pixel (a point with z = 0 and x, y != 0 gives 0).
    min_ratio, max_ratio: limits, multiples of the focal length with a field of view of 60 degrees over the longer side.

    Raises:
        GeometryError: wrong shape, or an unknown method.
    """
    if X.ndim < 3 or X.shape[-1] != 3 or 0 in X.shape:
        raise GeometryError(f"A pointmap needs the shape (..., H, W, 3), but this one has {tuple(X.shape)}.")
    if method not in METHODS:
        raise GeometryError(f"The focal length's method is {method!r}; it must be one of {', '.join(METHODS)}.")
    height, width = X.shape[-3:-1]
    X = X.to(torch.promote_types(X.dtype, torch.float32))
    centre = _centre(X) if principal_point is None else principal_point.to(X)
    u = (_pixel_grid(X) - centre[..., None, None, :]).expand_as(X[..., :2]).flatten(-3, -2)
    q = (X[..., :2] / X[..., 2:]).flatten(-3, -2)
    focal = _weiszfeld(u, q) if method == "weiszfeld" else (u / q).flatten(-2).nanmedian(dim=-1).values
    focal = torch.where((focal > 0.0) & focal.isfinite(), focal, math.nan)
    typical = _TYPICAL * max(height, width)
    return focal.clamp(min_ratio * typical, max_ratio * typical)


def intrinsics_from_pointmap(X: torch.Tensor, *, method: str = "weiszfeld") -> torch.Tensor:
    """The intrinsics (..., 3, 3) of cameras with square pixels and a centred principal point that see X (..., H, W, 3).

    The focal length is NaN when the pointmap gives none or one that no real camera has. Precision, device and errors are as
    for `focal_from_pointmap`.
    """
    focal, centre = focal_from_pointmap(X, method=method), _centre(X)
    longer = max(X.shape[-3:-1])
    focal = torch.where((focal > _PLAUSIBLE[0] * longer) & (focal < _PLAUSIBLE[1] * longer), focal, math.nan)
    K = torch.eye(3, dtype=focal.dtype, device=X.device).repeat(*focal.shape, 1, 1)
    K[..., 0, 0] = K[..., 1, 1] = focal
    K[..., :2, 2] = centre
    return K


def _weiszfeld(u: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The f (...) that minimises the sum of |u - f q| over the rows of u and q (..., N, 2): ten reweighted least squares."""
    q = torch.where(q.isfinite(), q, 0.0)
    along, length = (q * u).sum(dim=-1), (q * q).sum(dim=-1)
    focal = along.sum(dim=-1) / length.sum(dim=-1)
    for _ in range(_STEPS):
        weights = 1.0 / torch.linalg.vector_norm(u - focal[..., None, None] * q, dim=-1).clamp(min=1e-8)
        focal = (weights * along).sum(dim=-1) / (weights * length).sum(dim=-1)
    return focal


def _centre(X: torch.Tensor) -> torch.Tensor:
    height, width = X.shape[-3:-1]
    # Filled on the device: a tensor of Python numbers would be copied to it.
    return torch.stack([X.new_full((), (width - 1) / 2), X.new_full((), (height - 1) / 2)])


def _pixel_grid(X: torch.Tensor) -> torch.Tensor:
    """The coordinates (x, y) of every pixel, (H, W, 2), like X."""
    rows, columns = (torch.arange(side, dtype=X.dtype, device=X.device) for side in X.shape[-3:-1])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
