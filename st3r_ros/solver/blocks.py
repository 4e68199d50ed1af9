# SPDX-License-Identifier: Apache-2.0
"""Symmetric positive definite systems of 7 x 7 blocks: dense on a GPU and when small, sparse on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

DENSE_BLOCKS = {"cpu": 40, "cuda": 500}
SIZE = 7


def solve_dense(H: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """The x (k,) of H x = g for H (k, k), NaN where H is not positive definite. Does not wait for the device."""
    return solve_dense_many(H, g[:, None])[:, 0]


def solve_dense_many(H: torch.Tensor, G: torch.Tensor) -> torch.Tensor:
    """The X (k, m) of H X = G, as `solve_dense`."""
    L, info = torch.linalg.cholesky_ex(H)
    return torch.where(info == 0, torch.cholesky_solve(G, L), torch.nan)


@dataclass(frozen=True, eq=False)
class BlockSystem:
    """diagonal: (n, 7, 7). off: (L, 7, 7) at block rows `row` (L,) and columns `column` (L,); blocks at the same place are added.

    Of each off-diagonal block and its transpose only one is given. g: (n, 7). All float64.
    """

    diagonal: torch.Tensor
    off: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    g: torch.Tensor

    def damped(self, damping: float | torch.Tensor, floor: float = 1e-9) -> BlockSystem:
        """With `damping` times the diagonal, and a little that holds what nothing else does, added to it."""
        each = self.diagonal.diagonal(dim1=1, dim2=2)
        return replace(self, diagonal=self.diagonal + torch.diag_embed(damping * each + floor))

    def fixed(self, free: torch.Tensor) -> BlockSystem:
        """With a solution of 0 for the blocks that are not free (n,) bool: the gauge."""
        eye = torch.eye(SIZE, dtype=self.g.dtype, device=self.g.device)
        tied = free[self.row] & free[self.column]
        return BlockSystem(
            torch.where(free[:, None, None], self.diagonal, eye),
            self.off * tied[:, None, None],
            self.row,
            self.column,
            self.g * free[:, None],
        )

    def dense(self) -> torch.Tensor:
        """The matrix H (7 n, 7 n)."""
        n = len(self.diagonal)
        H = self.off.new_zeros(n * n, SIZE, SIZE)
        H.index_add_(0, self.row * n + self.column, self.off)
        H.index_add_(0, self.column * n + self.row, self.off.transpose(1, 2))
        H.index_add_(0, torch.arange(n, device=H.device) * (n + 1), self.diagonal)
        return H.view(n, n, SIZE, SIZE).transpose(1, 2).reshape(SIZE * n, SIZE * n)

    def solve(self) -> torch.Tensor:
        """The x (n, 7) of H x = g, not finite when H is singular."""
        if len(self.diagonal) <= DENSE_BLOCKS.get(self.g.device.type, 0):
            return solve_dense(self.dense(), self.g.reshape(-1)).view(-1, SIZE)
        return torch.from_numpy(self._sparse()).to(self.g.device)

    def _sparse(self) -> np.ndarray:
        diagonal, off, row, column, g = (v.cpu().numpy() for v in (self.diagonal, self.off, self.row, self.column, self.g))
        n = len(diagonal)
        blocks = np.concatenate([diagonal, off, off.swapaxes(1, 2)])
        rows, columns = np.concatenate([np.arange(n), row, column]), np.concatenate([np.arange(n), column, row])
        inside = np.arange(SIZE)
        at_row = np.broadcast_to(SIZE * rows[:, None, None] + inside[:, None], blocks.shape)
        at_column = np.broadcast_to(SIZE * columns[:, None, None] + inside, blocks.shape)
        H = scipy.sparse.coo_matrix((blocks.ravel(), (at_row.ravel(), at_column.ravel())), (SIZE * n, SIZE * n)).tocsc()
        try:
            factors = scipy.sparse.linalg.splu(H, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        except RuntimeError:  # singular
            return np.full((n, SIZE), np.nan)
        return factors.solve(g.ravel()).reshape(n, SIZE)
