# SPDX-License-Identifier: Apache-2.0
"""Transforms: rigid ones (SE3), and similarities (Sim3), which have a scale too. Immutable, batched, float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from st3r_ros.errors import GeometryError
from st3r_ros.geometry import arrays, so3


class _Transform:
    """What both have: rotation (..., 3, 3) and translation (..., 3)."""

    rotation: np.ndarray
    translation: np.ndarray

    @property
    def batch(self) -> tuple[int, ...]:
        """The leading dimensions."""
        return self.translation.shape[:-1]

    @property
    def quaternion_xyzw(self) -> np.ndarray:
        """The rotation as unit quaternions (..., 4), order xyzw, w >= 0."""
        return so3.to_quaternion_xyzw(self.rotation)


@dataclass(frozen=True, eq=False)
class SE3(_Transform):
    """A batch of rigid transforms `T_a_b`: X_a = rotation @ X_b + translation.

    rotation: (..., 3, 3) float64 orthonormal. translation: (..., 3) float64, in the unit of the coordinates. The leading
    dimensions are the batch; an unbatched transform has none. The arrays are read-only copies. The constructor trusts its
    arrays; `from_matrix` and `from_quaternion_xyzw` check theirs.
    Tangent vectors (..., 6) hold the translation part rho first, then the rotation part phi, radians. Perturbations act from the
    left: `SE3.exp(xi) @ T`.
    """

    rotation: np.ndarray
    translation: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", arrays.read_only(self.rotation))
        object.__setattr__(self, "translation", arrays.read_only(self.translation))

    @staticmethod
    def identity(batch: tuple[int, ...] = ()) -> SE3:
        """The identity transform."""
        return SE3(np.broadcast_to(np.eye(3), (*batch, 3, 3)), np.zeros((*batch, 3)))

    @staticmethod
    def from_matrix(M: np.ndarray) -> SE3:
        """From homogeneous matrices (..., 4, 4); a rotation with rounding errors (below 1e-3) is orthonormalized.

        Raises:
            GeometryError: wrong shape, not finite, last row not 0 0 0 1, or not a rotation.
        """
        M = arrays.check_homogeneous(M)
        return SE3(so3.nearest_rotation(M[..., :3, :3]), M[..., :3, 3])

    @staticmethod
    def from_quaternion_xyzw(q: np.ndarray, t: np.ndarray) -> SE3:
        """From quaternions (..., 4), order xyzw, normalised here, and translations (..., 3).

        Raises:
            GeometryError: wrong shape, a zero quaternion, or numbers that are not finite.
        """
        rotation, translation = so3.from_quaternion_xyzw(q), arrays.check_vectors(t)
        arrays.check_batch(rotation.shape[:-2], translation.shape[:-1])
        return SE3(rotation, translation)

    @staticmethod
    def exp(xi: np.ndarray) -> SE3:
        """The transform of a tangent vector (..., 6): translation rho, rotation phi."""
        xi = np.asarray(xi, dtype=np.float64)
        phi = xi[..., 3:]
        return SE3(so3.exp(phi), (so3.exp_integral(phi) @ xi[..., :3, None])[..., 0])

    def log(self) -> np.ndarray:
        """The tangent vector (..., 6) whose `exp` is this transform; its rotation part is at most pi long."""
        phi = so3.log(self.rotation)
        rho = np.linalg.solve(so3.exp_integral(phi), self.translation[..., None])[..., 0]
        return np.concatenate([rho, phi], axis=-1)

    def as_matrix(self) -> np.ndarray:
        """The homogeneous matrices (..., 4, 4)."""
        return arrays.homogeneous(self.rotation, self.translation)

    def inverse(self) -> SE3:
        """`T_b_a` of `T_a_b`."""
        transposed = self.rotation.swapaxes(-1, -2)
        return SE3(transposed, -(transposed @ self.translation[..., None])[..., 0])

    def adjoint(self) -> np.ndarray:
        """The adjoint matrices (..., 6, 6): T exp(x) T^-1 = exp(adjoint @ x)."""
        Ad = np.zeros((*self.batch, 6, 6))
        Ad[..., :3, :3] = Ad[..., 3:, 3:] = self.rotation
        Ad[..., :3, 3:] = so3.hat(self.translation) @ self.rotation
        return Ad

    def act(self, points: np.ndarray) -> np.ndarray:
        """The transformed points (..., 3), float64.

        An unbatched transform accepts points of any shape. The batch of a batched transform corresponds to the leading dimensions
        of the points: a batch (N,) transforms (N, 3) one by one and (N, H, W, 3) image by image; fewer dimensions broadcast.
        """
        return arrays.transform_points(self.rotation, self.translation, points)

    def sim3(self, scale: float | np.ndarray = 1.0) -> Sim3:
        """The similarity X -> scale * rotation @ X + translation."""
        return Sim3(self.rotation, self.translation, np.broadcast_to(scale, self.batch))

    @overload
    def __matmul__(self, other: SE3) -> SE3: ...

    @overload
    def __matmul__(self, other: np.ndarray) -> np.ndarray: ...

    def __matmul__(self, other: Any) -> Any:
        """`T_a_b @ T_b_c` is `T_a_c`; `T_a_b @ X_b` is `act`."""
        if isinstance(other, SE3):
            moved = (self.rotation @ other.translation[..., None])[..., 0]
            return SE3(self.rotation @ other.rotation, moved + self.translation)
        return self.act(other) if isinstance(other, np.ndarray) else NotImplemented

    def __getitem__(self, index: Any) -> SE3:
        """The transforms at an index of the batch."""
        return SE3(self.rotation[arrays.batch_index(index, 2)], self.translation[arrays.batch_index(index, 1)])


@dataclass(frozen=True, eq=False)
class Sim3(_Transform):
    """A batch of similarities `T_a_b`: X_a = scale * rotation @ X_b + translation.

    rotation: (..., 3, 3) float64 orthonormal. translation: (..., 3) float64, in the unit of a. scale: (...,) float64, positive,
    units of a per unit of b. The leading dimensions are the batch. The arrays are read-only copies. The constructor trusts its
    arrays; `from_matrix` and `from_quaternion_xyzw` check theirs.
    Tangent vectors (..., 7) hold the translation part rho, the rotation part phi in radians, and the logarithm of the scale.
    Perturbations act from the left: `Sim3.exp(xi) @ T`.
    """

    rotation: np.ndarray
    translation: np.ndarray
    scale: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", arrays.read_only(self.rotation))
        object.__setattr__(self, "translation", arrays.read_only(self.translation))
        object.__setattr__(self, "scale", arrays.read_only(self.scale))

    @staticmethod
    def identity(batch: tuple[int, ...] = ()) -> Sim3:
        """The identity transform."""
        return SE3.identity(batch).sim3()

    @staticmethod
    def from_matrix(M: np.ndarray) -> Sim3:
        """From homogeneous matrices (..., 4, 4) whose upper left block is a positive scale times a rotation.

        Raises:
            GeometryError: wrong shape, not finite, last row not 0 0 0 1, or not a scaled rotation.
        """
        M = arrays.check_homogeneous(M)
        scale = np.cbrt(np.abs(np.linalg.det(M[..., :3, :3])))
        _check_scale(scale)
        return Sim3(so3.nearest_rotation(M[..., :3, :3] / scale[..., None, None]), M[..., :3, 3], scale)

    @staticmethod
    def from_quaternion_xyzw(q: np.ndarray, t: np.ndarray, scale: float | np.ndarray = 1.0) -> Sim3:
        """From quaternions (..., 4), order xyzw, normalised here, translations (..., 3), and scales, one for all or (...,).

        Raises:
            GeometryError: wrong shape, a zero quaternion, a scale that is not positive, or numbers that are not finite.
        """
        scale = np.asarray(scale, dtype=np.float64)
        _check_scale(scale)
        rigid = SE3.from_quaternion_xyzw(q, t)
        if scale.ndim:
            arrays.check_batch(rigid.batch, scale.shape)
        return rigid.sim3(scale)

    @staticmethod
    def exp(xi: np.ndarray) -> Sim3:
        """The transform of a tangent vector (..., 7): translation rho, rotation phi, log scale."""
        xi = np.asarray(xi, dtype=np.float64)
        phi, log_scale = xi[..., 3:6], xi[..., 6]
        translation = (so3.exp_integral(phi, log_scale) @ xi[..., :3, None])[..., 0]
        return Sim3(so3.exp(phi), translation, np.exp(log_scale))

    def log(self) -> np.ndarray:
        """The tangent vector (..., 7) whose `exp` is this transform; its rotation part is at most pi long."""
        phi, log_scale = so3.log(self.rotation), np.log(self.scale)
        rho = np.linalg.solve(so3.exp_integral(phi, log_scale), self.translation[..., None])[..., 0]
        return np.concatenate([rho, phi, log_scale[..., None]], axis=-1)

    def as_matrix(self) -> np.ndarray:
        """The homogeneous matrices (..., 4, 4)."""
        return arrays.homogeneous(self._linear, self.translation)

    def se3(self) -> SE3:
        """The pose without its scale: rotation and translation unchanged."""
        return SE3(self.rotation, self.translation)

    def inverse(self) -> Sim3:
        """`T_b_a` of `T_a_b`."""
        transposed, shrink = self.rotation.swapaxes(-1, -2), 1.0 / self.scale
        return Sim3(transposed, -shrink[..., None] * (transposed @ self.translation[..., None])[..., 0], shrink)

    def adjoint(self) -> np.ndarray:
        """The adjoint matrices (..., 7, 7): T exp(x) T^-1 = exp(adjoint @ x)."""
        Ad = np.zeros((*self.batch, 7, 7))
        Ad[..., :3, :3] = self._linear
        Ad[..., 3:6, 3:6] = self.rotation
        Ad[..., :3, 3:6] = so3.hat(self.translation) @ self.rotation
        Ad[..., :3, 6] = -self.translation
        Ad[..., 6, 6] = 1.0
        return Ad

    def act(self, points: np.ndarray) -> np.ndarray:
        """The transformed points (..., 3), float64; batches as in `SE3.act`."""
        return arrays.transform_points(self._linear, self.translation, points)

    @overload
    def __matmul__(self, other: Sim3 | SE3) -> Sim3: ...

    @overload
    def __matmul__(self, other: np.ndarray) -> np.ndarray: ...

    def __matmul__(self, other: Any) -> Any:
        """`T_a_b @ T_b_c` is `T_a_c`, also when one of them is rigid; `T_a_b @ X_b` is `act`."""
        if isinstance(other, np.ndarray):
            return self.act(other)
        if not isinstance(other, Sim3 | SE3):
            return NotImplemented
        moved = (self._linear @ other.translation[..., None])[..., 0] + self.translation
        scale = self.scale * other.scale if isinstance(other, Sim3) else np.broadcast_to(self.scale, moved.shape[:-1])
        return Sim3(self.rotation @ other.rotation, moved, scale)

    def __rmatmul__(self, other: SE3) -> Sim3:
        """`T_a_b @ T_b_c` with a rigid `T_a_b`."""
        return other.sim3() @ self if isinstance(other, SE3) else NotImplemented

    def __getitem__(self, index: Any) -> Sim3:
        """The transforms at an index of the batch."""
        rotation, translation, scale = (arrays.batch_index(index, trailing) for trailing in (2, 1, 0))
        return Sim3(self.rotation[rotation], self.translation[translation], self.scale[scale])

    @property
    def _linear(self) -> np.ndarray:
        return self.scale[..., None, None] * self.rotation


def _check_scale(scale: np.ndarray) -> None:
    if not (np.isfinite(scale) & (scale > 0.0)).all():
        raise GeometryError(f"A scale is {np.min(scale):.3g}; every scale must be positive and finite.")
