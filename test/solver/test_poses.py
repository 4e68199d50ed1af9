# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.solver.poses import Pairs, sim3_adjoint, sim3_exp


@pytest.mark.parametrize("length", [1e-9, 1e-3, 0.3, 1.0])
def test_the_exponential_is_that_of_sim3(length):
    xi = np.random.default_rng(0).normal(size=(20, 7))
    xi *= length / np.abs(xi).max(axis=1, keepdims=True)
    np.testing.assert_allclose(sim3_exp(torch.from_numpy(xi)), Sim3.exp(xi).as_matrix(), atol=1e-9)
    np.testing.assert_array_equal(sim3_exp(torch.from_numpy(xi))[:, 3], np.tile((0.0, 0.0, 0.0, 1.0), (20, 1)))


@pytest.mark.parametrize("seed", range(3))
def test_the_adjoint_is_that_of_sim3(seed):
    T = Sim3.exp(np.random.default_rng(seed).normal(size=(5, 7)))
    expected = [T[n].adjoint() for n in range(5)]
    np.testing.assert_allclose(sim3_adjoint(torch.from_numpy(T.as_matrix())), expected, atol=1e-12)


def cameras() -> tuple[Pairs, torch.Tensor]:
    """Four pairs among three cameras."""
    pairs = Pairs(torch.tensor([0, 2, 1, 0]), torch.tensor([1, 0, 2, 2]))
    return pairs, torch.from_numpy(Sim3.exp(np.random.default_rng(1).normal(0, 0.4, (3, 7))).as_matrix())


def test_steps_of_the_poses_move_the_pairs_as_said():
    pairs, poses = cameras()
    T, steps = pairs.relative(poses), torch.from_numpy(1e-6 * np.random.default_rng(2).normal(size=(3, 7)))
    moved = pairs.relative(poses @ sim3_exp(steps))
    np.testing.assert_allclose(moved, sim3_exp(pairs.moved(sim3_adjoint(T), steps)) @ T, atol=1e-10)


def test_the_equations_of_the_poses_are_those_of_the_pairs():
    """Of half the sum of (tangent - t) B (tangent - t) over the pairs, whatever the steps."""
    pairs, poses = cameras()
    rng = np.random.default_rng(3)
    J, t = torch.from_numpy(rng.normal(size=(4, 9, 7))), torch.from_numpy(rng.normal(size=(4, 7)))
    B, Ad = J.mT @ J, sim3_adjoint(pairs.relative(poses))
    steps = torch.from_numpy(rng.normal(size=(3, 7))).requires_grad_()
    off = pairs.moved(Ad, steps) - t
    cost = 0.5 * (off[:, None] @ B @ off[..., None]).sum()
    (gradient,) = torch.autograd.grad(cost, steps)
    system = pairs.system(Ad, B, -(B @ t[..., None])[..., 0], 3)
    found = system.dense() @ steps.detach().reshape(-1) + system.g.reshape(-1)
    np.testing.assert_allclose(found, gradient.reshape(-1), rtol=1e-9)
