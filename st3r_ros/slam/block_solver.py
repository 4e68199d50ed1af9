# SPDX-License-Identifier: Apache-2.0
"""Symmetric positive definite systems of 7 x 7 blocks: dense on a GPU and when small, sparse on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

DENSE_BLOCKS = {"cpu": 40, "cuda": 500}
SIZE = 7


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

    def solve(self) -> torch.Tensor:
        """The x (n, 7) of H x = g, not finite when H is singular."""
        n = len(self.diagonal)
        if n <= DENSE_BLOCKS.get(self.g.device.type, 0):
            return self._dense()
        return torch.from_numpy(self._sparse()).to(self.g.device)

    def _dense(self) -> torch.Tensor:
        n = len(self.diagonal)
        H = self.off.new_zeros(n * n, SIZE, SIZE)
        H.index_add_(0, self.row * n + self.column, self.off)
        H.index_add_(0, self.column * n + self.row, self.off.transpose(1, 2))
        each = torch.arange(n, device=H.device) * (n + 1)
        H.index_add_(0, each, self.diagonal)
        H = H.view(n, n, SIZE, SIZE).transpose(1, 2).reshape(SIZE * n, SIZE * n)
        L, info = torch.linalg.cholesky_ex(H)
        x = torch.cholesky_solve(self.g.reshape(-1, 1), L).view(n, SIZE)
        return torch.where(info == 0, x, torch.nan)

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
