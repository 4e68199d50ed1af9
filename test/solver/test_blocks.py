# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
import torch

from st3r_ros.solver.blocks import BlockSystem, solve_dense


def chain(blocks: int) -> tuple[BlockSystem, np.ndarray]:
    """A ring of blocks with one place given twice, the other way round, and the same matrix written out (7 n, 7 n)."""
    rng = np.random.default_rng(0)
    row, column = np.arange(blocks - 1), np.arange(1, blocks)
    row, column = np.append(row, [0, 1]), np.append(column, [blocks - 1, 0])
    J = rng.normal(size=(len(row), 20, 14))
    H = np.zeros((blocks, blocks, 7, 7))
    diagonal, off = np.zeros((blocks, 7, 7)), np.zeros((len(row), 7, 7))
    for n, (a, b) in enumerate(zip(row, column, strict=True)):
        block = J[n].T @ J[n]
        diagonal[a] += block[:7, :7]
        diagonal[b] += block[7:, 7:]
        off[n] = block[:7, 7:]
        H[a, b] += off[n]
        H[b, a] += off[n].T
    H[range(blocks), range(blocks)] += diagonal
    system = BlockSystem(*(torch.from_numpy(v) for v in (diagonal, off, row, column, rng.normal(size=(blocks, 7)))))
    return system, H.transpose(0, 2, 1, 3).reshape(7 * blocks, -1)


@pytest.mark.parametrize("blocks", [6, 60])
def test_the_block_solver_solves_dense_and_sparse(blocks):
    system, H = chain(blocks)
    np.testing.assert_allclose(system.dense(), H, rtol=1e-12)
    expected = np.linalg.solve(H, system.g.reshape(-1))
    np.testing.assert_allclose(system.solve().reshape(-1), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("blocks", [6, 60])
def test_blocks_that_are_fixed_stay_and_the_others_solve_what_is_left(blocks):
    system, H = chain(blocks)
    free = torch.ones(blocks, dtype=torch.bool)
    free[[0, 3]] = False
    rest = np.flatnonzero(np.repeat(free.numpy(), 7))
    x = system.fixed(free).solve()
    assert not x[~free].any()
    expected = np.linalg.solve(H[np.ix_(rest, rest)], system.g.reshape(-1).numpy()[rest])
    np.testing.assert_allclose(x[free].reshape(-1), expected, rtol=1e-6, atol=1e-9)


def test_damping_adds_a_share_of_the_diagonal():
    system, H = chain(4)
    np.testing.assert_allclose(system.damped(0.5, 2.0).dense(), H + np.diag(0.5 * np.diag(H) + 2.0), rtol=1e-12)


@pytest.mark.parametrize("blocks", [6, 60])
def test_a_singular_system_has_no_finite_solution(blocks):
    zero, none = torch.zeros(blocks, 7, 7, dtype=torch.float64), torch.zeros(0, dtype=torch.long)
    system = BlockSystem(zero, zero[:0], none, none, torch.ones(blocks, 7, dtype=torch.float64))
    assert not torch.isfinite(system.solve()).any()
    assert not torch.isfinite(solve_dense(torch.diag(torch.tensor([1.0, -1.0])), torch.ones(2))).any()
    assert torch.isnan(replace(system, diagonal=system.diagonal + torch.nan).solve()).all()
