# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from st3r_ros.solver.damped import Estimate, Schedule, minimize, minimize_unseen


@dataclass(frozen=True, eq=False)
class Valley(Estimate):
    """Rosenbrock's valley, a sum of two squares with its minimum 0 at (1, 1)."""

    at: torch.Tensor
    residual: torch.Tensor
    J: torch.Tensor
    cost: torch.Tensor

    @staticmethod
    def of(x: float | torch.Tensor, y: float | torch.Tensor) -> Valley:
        x, y = (torch.as_tensor(v, dtype=torch.float64) for v in (x, y))
        r = torch.stack([10.0 * (y - x * x), 1.0 - x])
        J = torch.stack([torch.stack([-20.0 * x, 0 * x + 10.0]), torch.stack([0 * x - 1.0, 0 * x])])
        return Valley(torch.stack([x, y]), r, J, 0.5 * r.square().sum())

    def stepped(self, damping: float | torch.Tensor) -> Valley:
        H = self.J.T @ self.J
        H = H + damping * torch.diag_embed(H.diagonal())
        return Valley.of(*(self.at - torch.linalg.solve_ex(H, self.J.T @ self.residual)[0]))


@dataclass(frozen=True, eq=False)
class Narrowing(Estimate):
    """(x - 3)^2 / 2 by one Newton step; weighed four times before that is how it is to be."""

    x: float
    times: int = 0

    @property
    def cost(self) -> float:
        return 0.5 * (self.x - 3.0) ** 2

    @property
    def final(self) -> bool:
        return self.times >= 4

    def stepped(self, damping: float | torch.Tensor) -> Narrowing:
        return replace(self, x=self.x - (self.x - 3.0) / (1.0 + float(damping)))

    def reweighed(self) -> Narrowing:
        return replace(self, times=self.times + 1)


@dataclass(frozen=True, eq=False)
class Cliff(Estimate):
    """No step helps; each one gives what `beyond` says."""

    beyond: float
    cost: float = 1.0

    def stepped(self, damping: float | torch.Tensor) -> Cliff:
        return replace(self, cost=self.beyond)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (2.0, -3.0), (0.0, 0.0)])
def test_it_finds_the_minimum_and_stops_there(start):
    found = minimize(Valley.of(*start), Schedule(iterations=100, enough=1e-12))
    np.testing.assert_allclose(found.estimate.at, (1.0, 1.0), atol=1e-4)
    assert found.converged and found.iterations < 60


@pytest.mark.parametrize("start", [(-1.2, 1.0), (2.0, -3.0)])
def test_without_a_look_at_any_value_the_steps_are_the_same(start):
    """The schedule with which nothing stops early."""
    schedule = Schedule(iterations=12)
    seen, unseen = minimize(Valley.of(*start), schedule).estimate, minimize_unseen(Valley.of(*start), schedule)
    np.testing.assert_allclose(unseen.at, seen.at, rtol=1e-12)
    assert float(unseen.cost) == pytest.approx(float(seen.cost))


def test_without_a_look_nothing_is_asked_of_the_device():
    """The meta device, whose tensors have no values, refuses to give any."""
    start = Valley.of(torch.zeros((), device="meta"), torch.zeros((), device="meta"))
    assert minimize_unseen(start, Schedule(iterations=3)).at.device.type == "meta"


@pytest.mark.parametrize("beyond", [2.0, np.nan, np.inf])
def test_a_step_that_does_not_help_is_not_taken(beyond):
    found = minimize(Cliff(beyond), Schedule(iterations=30, damping=1e-2, most=1e2))
    assert found.estimate.cost == 1.0 and found.converged and found.iterations == 5


def test_a_small_gain_or_share_of_the_cost_is_the_last():
    for schedule in (Schedule(30, enough=0.2), Schedule(30, share=0.2)):
        found = minimize(Cliff(0.9), schedule)
        assert (found.estimate.cost, found.iterations, found.converged) == (0.9, 1, True)
    assert minimize(Cliff(0.7), Schedule(1, share=0.2)).converged is False


def test_it_goes_on_until_the_residuals_are_weighed_as_they_are_to_be():
    found = minimize(Narrowing(10.0), Schedule(iterations=30, share=1e-3, enough=1e-9))
    assert found.converged and found.estimate.final and found.iterations == 5
    assert not minimize(Narrowing(10.0), Schedule(iterations=3, share=1e-3)).converged
