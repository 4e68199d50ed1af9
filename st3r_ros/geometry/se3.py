# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms: immutable, batched, float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from st3r_ros.geometry import arrays, so3

if TYPE_CHECKING:
    from st3r_ros.geometry.sim3 import Sim3


@dataclass(frozen=True, eq=False)
class SE3:
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

    @property
    def batch(self) -> tuple[int, ...]:
        """The leading dimensions."""
        return self.translation.shape[:-1]

    @property
    def quaternion_xyzw(self) -> np.ndarray:
        """The rotation as unit quaternions (..., 4), order xyzw, w >= 0."""
        return so3.to_quaternion_xyzw(self.rotation)

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
        from st3r_ros.geometry.sim3 import Sim3

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
