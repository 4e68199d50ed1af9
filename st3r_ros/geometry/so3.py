# SPDX-License-Identifier: Apache-2.0
"""Rotations as plain arrays: rotation vectors (..., 3) in radians, matrices (..., 3, 3), quaternions xyzw (..., 4), float64.

All functions are batched over the leading dimensions and accurate from the identity up to and including half turns.
"""

from __future__ import annotations

import numpy as np

from st3r_ros.errors import GeometryError

_IDENTITY = np.eye(3)

# Added under square roots of squared angles to avoid a special case for x = 0 in sin(x) / x; below the rounding of other angles.
_TINY = 1e-300

# Largest deviation of R^T R from the identity accepted as a rotation written with few digits.
_ORTHONORMAL_TOLERANCE = 1e-3

# Gauss-Legendre quadrature on [0, 1]: 16 nodes integrate exp(z u) to rounding for |z| up to about 10.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_NODES, _WEIGHTS = 0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS


def hat(phi: np.ndarray) -> np.ndarray:
    """The skew matrix (..., 3, 3) of phi (..., 3): hat(a) @ b = a x b."""
    W = np.zeros((*phi.shape, 3))
    W[..., 2, 1], W[..., 0, 2], W[..., 1, 0] = phi[..., 0], phi[..., 1], phi[..., 2]
    W[..., 1, 2], W[..., 2, 0], W[..., 0, 1] = -phi[..., 0], -phi[..., 1], -phi[..., 2]
    return W


def exp(phi: np.ndarray) -> np.ndarray:
    """The rotation matrix (..., 3, 3) of a rotation vector (..., 3): Rodrigues' formula in half angles."""
    phi = np.asarray(phi, dtype=np.float64)
    theta = np.sqrt((phi * phi).sum(-1) + _TINY)[..., None, None]
    W = hat(phi)
    return _IDENTITY + (np.sin(theta) / theta) * W + 2.0 * (np.sin(0.5 * theta) / theta) ** 2 * (W @ W)


def log(R: np.ndarray) -> np.ndarray:
    """The rotation vector (..., 3), of length 0 to pi, of a rotation matrix (..., 3, 3)."""
    q = to_quaternion_xyzw(R)
    v = q[..., :3]
    sine = np.sqrt((v * v).sum(-1, keepdims=True) + _TINY)
    return 2.0 * np.arctan2(sine, q[..., 3:]) / sine * v


def degrees(R: np.ndarray) -> float:
    """The angle of one rotation (3, 3), degrees."""
    return float(np.degrees(np.linalg.norm(log(R))))


def to_quaternion_xyzw(R: np.ndarray) -> np.ndarray:
    """The unit quaternion (..., 4), order xyzw with w >= 0, of a rotation matrix (..., 3, 3).

    The matrix 4 q q^T is linear in R; its row with the largest diagonal is q up to a well conditioned factor.
    """
    R = np.asarray(R, dtype=np.float64)
    trace = R[..., 0, 0] + R[..., 1, 1] + R[..., 2, 2]
    outer = np.empty((*R.shape[:-2], 4, 4))
    outer[..., :3, :3] = R + R.swapaxes(-1, -2) + (1.0 - trace)[..., None, None] * _IDENTITY
    outer[..., 3, 0] = outer[..., 0, 3] = R[..., 2, 1] - R[..., 1, 2]
    outer[..., 3, 1] = outer[..., 1, 3] = R[..., 0, 2] - R[..., 2, 0]
    outer[..., 3, 2] = outer[..., 2, 3] = R[..., 1, 0] - R[..., 0, 1]
    outer[..., 3, 3] = 1.0 + trace
    rows = outer.reshape(-1, 4, 4)
    largest = rows.diagonal(axis1=1, axis2=2).argmax(-1)
    q = rows[np.arange(len(rows)), largest].reshape(outer.shape[:-1])
    q = np.where(q[..., 3:] < 0.0, -q, q)
    return q / np.sqrt((q * q).sum(-1, keepdims=True))


def from_quaternion_xyzw(q: np.ndarray) -> np.ndarray:
    """The rotation matrix (..., 3, 3) of a quaternion (..., 4), order xyzw, of any length but zero.

    Raises:
        GeometryError: the last dimension is not 4, or a quaternion is zero or not finite.
    """
    q = np.asarray(q, dtype=np.float64)
    if q.shape[-1:] != (4,):
        raise GeometryError(f"A quaternion needs 4 numbers (x, y, z, w), but the array has shape {q.shape}.")
    norm = np.sqrt((q * q).sum(-1, keepdims=True))
    if not (np.isfinite(norm) & (norm > 1e-12)).all():
        raise GeometryError(f"The quaternion {_first_bad(q, norm)} (x, y, z, w) is zero or not finite; it is not a rotation.")
    q = q / norm
    W = 2.0 * hat(q[..., :3])
    return _IDENTITY + q[..., 3, None, None] * W + 0.5 * (W @ W)


def nearest_rotation(R: np.ndarray) -> np.ndarray:
    """The rotation matrix closest to R (..., 3, 3), which may have rounding errors of a text file or of float32.

    Raises:
        GeometryError: R is not finite, a reflection, or further than 1e-3 from orthonormal.
    """
    R = np.asarray(R, dtype=np.float64)
    error = np.abs(R.swapaxes(-1, -2) @ R - _IDENTITY).max(initial=0.0)
    if not error <= _ORTHONORMAL_TOLERANCE:
        raise GeometryError(
            f"The matrix is not a rotation: it deviates from orthonormal by {error:.3g}; at most 0.001 is accepted."
        )
    if (np.linalg.det(R) < 0.0).any():
        raise GeometryError("The matrix is not a rotation but a reflection: its determinant is -1. Check the axis conventions.")
    U, _, Vt = np.linalg.svd(R)
    return U @ Vt


def exp_integral(phi: np.ndarray, log_scale: np.ndarray | float = 0.0) -> np.ndarray:
    """The integral over u in [0, 1] of exp(u (log_scale I + hat(phi))), (..., 3, 3): the V of the SE(3) and Sim(3) exponentials.

    phi: (..., 3) with length at most 2 pi. log_scale: (...,), up to about +-8.
    For this smooth integrand quadrature is exact to rounding everywhere, while closed forms need cases for small angles.
    """
    theta = np.sqrt((phi * phi).sum(-1) + _TINY)[..., None]
    growth = np.exp(np.asarray(log_scale)[..., None] * _NODES)
    sine = growth * np.sin(theta * _NODES) / theta
    versine = 2.0 * growth * (np.sin(0.5 * theta * _NODES) / theta) ** 2
    a, b, c = ((values @ _WEIGHTS)[..., None, None] for values in (growth, sine, versine))
    W = hat(phi)
    return a * _IDENTITY + b * W + c * (W @ W)


def _first_bad(q: np.ndarray, norm: np.ndarray) -> list[float]:
    bad = ~(np.isfinite(norm) & (norm > 1e-12))[..., 0]
    return q[bad][0].tolist()
