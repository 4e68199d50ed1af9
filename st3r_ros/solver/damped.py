# SPDX-License-Identifier: Apache-2.0
"""The damped solver: Levenberg-Marquardt over whatever can be linearized and stepped.

It imports nothing of the package, so that the refinements of `geometry` are stated to it like the problems of `slam`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Generic, TypeVar

import torch

S = TypeVar("S", bound="Estimate")


class Estimate(ABC):
    """Values of the variables with the equations there: a frozen dataclass, of tensors where the solver may not wait.

    cost: the robust cost, a number or a tensor (). final: whether the residuals are weighted as they are to be at the end.
    """

    cost: float | torch.Tensor
    final: bool = True

    @abstractmethod
    def stepped(self: S, damping: float | torch.Tensor) -> S:
        """The estimate after one damped step, with the residuals weighted as here."""

    def reweighed(self: S) -> S:
        """The same values with the residuals weighted anew, as for graduated non-convexity: after every step that is taken."""
        return self


@dataclass(frozen=True)
class Schedule:
    """At most `iterations` steps; the last is one that lowers the cost by less than `enough`, or less than this `share` of it.

    damping: at first; times a tenth after a step that is taken, at least `least`; times `raised` after one that is not, at least
    `retry`. When it is above `most`, no step helps.
    """

    iterations: int
    enough: float = 0.0
    share: float = 0.0
    damping: float = 1e-4
    least: float = 1e-8
    most: float = 1e6
    raised: float = 10.0
    retry: float = 0.0


@dataclass(frozen=True)
class Minimum(Generic[S]):
    """The best estimate, the number of steps tried, and whether the solver stopped by itself."""

    estimate: S
    iterations: int
    converged: bool


def minimize(best: S, schedule: Schedule) -> Minimum[S]:
    """Levenberg-Marquardt: a step is taken only when the cost falls. Looks at the cost after each step, to stop early."""
    damping = schedule.damping
    for iteration in range(1, schedule.iterations + 1):
        tried = best.stepped(damping)
        gain = float(best.cost - tried.cost)
        taken = gain >= 0.0
        small = taken and gain < schedule.enough + schedule.share * float(best.cost)
        damping = max(0.1 * damping, schedule.least) if taken else max(schedule.raised * damping, schedule.retry)
        stuck = damping > schedule.most
        best = tried if taken else best
        if (small or stuck) and best.final:
            return Minimum(best, iteration, True)
        if taken or stuck:
            best, damping = best.reweighed(), schedule.damping if stuck else damping
    return Minimum(best, schedule.iterations, False)


def minimize_unseen(best: S, schedule: Schedule) -> S:
    """The same without a look at any value: for a device that should not be waited for, and for capture as one graph.

    All `iterations` steps are tried, so the residuals cannot be weighted anew.
    """
    damping = torch.full_like(torch.as_tensor(best.cost), schedule.damping)
    for _ in range(schedule.iterations):
        tried = best.stepped(damping)
        better = tried.cost < torch.as_tensor(best.cost)
        best = _either(better, tried, best)
        damping = torch.where(better, 0.1 * damping, (schedule.raised * damping).clamp_min(schedule.retry))
        damping = damping.clamp(schedule.least, schedule.most)
    return best


def _either(first: torch.Tensor, a: S, b: S) -> S:
    """Every tensor of a where `first` () holds, of b elsewhere."""
    changed = {}
    for field in fields(a):  # type: ignore[arg-type]
        of_a, of_b = getattr(a, field.name), getattr(b, field.name)
        if isinstance(of_a, torch.Tensor) and of_a is not of_b:
            changed[field.name] = torch.where(first, of_a, of_b)
        elif is_dataclass(of_a) and of_a is not of_b:
            changed[field.name] = _either(first, of_a, of_b)  # type: ignore[type-var]
    return replace(a, **changed)  # type: ignore[type-var]
