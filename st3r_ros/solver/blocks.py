# SPDX-License-Identifier: Apache-2.0
"""Symmetric positive definite systems of square blocks of one size: dense on a GPU and when small, sparse on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

DENSE_BLOCKS = {"cpu": 40, "cuda": 500}
FULL_BLOCKS, FULL_SHARE = 200, 0.3
"""Where so large a share of the blocks is given, up to so many are solved as dense too: elimination would fill the rest."""


def solve_dense(H: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """The x (k,) of H x = g for H (k, k), NaN where H is not positive definite. Does not wait for the device."""
    return solve_dense_many(H, g[:, None])[:, 0]


def solve_dense_many(H: torch.Tensor, G: torch.Tensor) -> torch.Tensor:
    """The X (k, m) of H X = G, as `solve_dense`."""
    L, info = torch.linalg.cholesky_ex(H)
    return torch.where(info == 0, torch.cholesky_solve(G, L), torch.nan)


@dataclass(frozen=True, eq=False)
class BlockSystem:
    """diagonal: (n, s, s). off: (L, s, s) at block rows `row` (L,) and columns `column` (L,); blocks at the same place are added.

    Of each off-diagonal block and its transpose only one is given. g: (n, s), or (n, s, m) for m right sides. All float64.
    """

    diagonal: torch.Tensor
    off: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    g: torch.Tensor

    @property
    def size(self) -> int:
        """Rows s of a block: 7 for similarities, 6 for poses."""
        return self.diagonal.shape[1]

    def damped(self, damping: float | torch.Tensor, floor: float = 1e-9) -> BlockSystem:
        """With `damping` times the diagonal, and a little that holds what nothing else does, added to it."""
        each = self.diagonal.diagonal(dim1=1, dim2=2)
        return replace(self, diagonal=self.diagonal + torch.diag_embed(damping * each + floor))

    def fixed(self, free: torch.Tensor) -> BlockSystem:
        """With a solution of 0 for the blocks that are not free (n,) bool: the gauge."""
        eye = torch.eye(self.size, dtype=self.g.dtype, device=self.g.device)
        tied = free[self.row] & free[self.column]
        return BlockSystem(
            torch.where(free[:, None, None], self.diagonal, eye),
            self.off * tied[:, None, None],
            self.row,
            self.column,
            self.g * free.view(-1, *[1] * (self.g.ndim - 1)),
        )

    def dense(self) -> torch.Tensor:
        """The matrix H (s n, s n)."""
        n, size = len(self.diagonal), self.size
        H = self.off.new_zeros(n * n, size, size)
        H.index_add_(0, self.row * n + self.column, self.off)
        H.index_add_(0, self.column * n + self.row, self.off.transpose(1, 2))
        H.index_add_(0, torch.arange(n, device=H.device) * (n + 1), self.diagonal)
        return H.view(n, n, size, size).transpose(1, 2).reshape(size * n, size * n)

    def solve(self) -> torch.Tensor:
        """The x of H x = g, of the shape of g, not finite when H is singular."""
        n = len(self.diagonal)
        full = n <= FULL_BLOCKS and 2 * len(self.off) > FULL_SHARE * n * n
        if full or n <= DENSE_BLOCKS.get(self.g.device.type, 0):
            return solve_dense_many(self.dense(), self.g.reshape(self.size * len(self.g), -1)).view(self.g.shape)
        return torch.from_numpy(self._sparse()).to(self.g.device)

    def _sparse(self) -> np.ndarray:
        diagonal, off, row, column, g = (v.cpu().numpy() for v in (self.diagonal, self.off, self.row, self.column, self.g))
        n, size = len(diagonal), self.size
        blocks = np.concatenate([diagonal, off, off.swapaxes(1, 2)])
        rows, columns = np.concatenate([np.arange(n), row, column]), np.concatenate([np.arange(n), column, row])
        inside = np.arange(size)
        at_row = np.broadcast_to(size * rows[:, None, None] + inside[:, None], blocks.shape)
        at_column = np.broadcast_to(size * columns[:, None, None] + inside, blocks.shape)
        H = scipy.sparse.coo_matrix((blocks.ravel(), (at_row.ravel(), at_column.ravel())), (size * n, size * n)).tocsc()
        try:
            factors = scipy.sparse.linalg.splu(H, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        except RuntimeError:  # singular
            return np.full(g.shape, np.nan)
        return factors.solve(g.reshape(size * n, -1)).reshape(g.shape)
