# SPDX-License-Identifier: Apache-2.0
"""Images of simulated worlds, made once in a run of the tests: painting a world takes a second or two."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from st3r_ros.sim.renderer import Renderer
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.types import Frame

KEPT = 8  # worlds at once, up to a hundred megabytes each
OWN_RENDERER = SimulatedSequence.__dict__["renderer"]
"""Paints a world for each sequence anew; for the tests of that."""


def share_worlds() -> None:
    """Let all sequences of a world have one renderer, which is immutable but for what it has painted."""
    made: dict[tuple[str, int, float], Renderer] = {}

    def renderer(sequence: SimulatedSequence) -> Renderer:
        config = sequence.config
        world = (config.world, config.seed, config.length)
        found = made.get(world)
        if found is None:
            if len(made) >= KEPT:
                made.pop(next(iter(made)))
            found = made[world] = OWN_RENDERER.func(sequence)
        return found

    SimulatedSequence.renderer = property(renderer)  # type: ignore[assignment, method-assign]


class Rendered(Sequence[Frame]):
    """The images of a sequence as a list, each rendered when it is first looked at. first_ns: added to their stamps."""

    def __init__(self, sequence: SimulatedSequence, first_ns: int = 0, numbers: range | None = None) -> None:
        self._sequence, self._first_ns = sequence, first_ns
        self._numbers = range(sequence.length) if numbers is None else numbers
        self._frame = cache(self._render)

    def _render(self, number: int) -> Frame:
        frame = self._sequence.frame(number)
        return replace(frame, stamp_ns=self._first_ns + frame.stamp_ns)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        numbers = self._numbers[index]
        return Rendered(self._sequence, self._first_ns, numbers) if isinstance(index, slice) else self._frame(numbers)
