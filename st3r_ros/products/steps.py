# SPDX-License-Identifier: Apache-2.0
"""Long computations in small steps, with other work in between."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A generator that yields after each small piece of work and returns the result."""


def finish(steps: Steps[T]) -> T:
    """Runs all steps; returns the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value
