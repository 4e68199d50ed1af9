# SPDX-License-Identifier: Apache-2.0
"""Transforms that cannot be true: named with their frames, and counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from geometry_msgs.msg import Transform

FARTHEST_M = 1e8
"""Metres; a longer translation is an error: the Earth, in whose frames (ECEF, UTM) robots are placed, is not as large."""
NOT_UNIT = 0.01
"""Deviation of a quaternion's squared length from 1 beyond which tf2 ignores a transform too."""
MAX_SAID = 30
"""Faults that are said; more have frame names that are made up anew."""


class TransformFaults:
    """The faults of the transforms of TF. count: of the transforms left out.

    say: says each fault once. own: a parent of frames whose other parents are told of elsewhere, "" for none.
    """

    def __init__(self, say: Callable[[str], object] = lambda sentence: None, own: str = "") -> None:
        self.count = 0
        self._say, self._own = say, own
        self._said: set[tuple[str, ...]] = set()
        self._current: dict[str, str] = {}

    def admit(self, parent: str, child: str, transform: Transform) -> bool:
        """Whether a transform can be used; otherwise it is counted, and said once."""
        fault = fault_of(parent, child, transform)
        if not fault:
            if self._current:
                self._current.pop(child, None)
            return True
        self.count += 1
        sentence = f"The transform {parent or '(no name)'} -> {child or '(no name)'} in TF cannot be used: {fault}."
        if len(self._current) < MAX_SAID or child in self._current:
            self._current[child] = sentence
        self._say_once(sentence, "fault", parent, child)
        return False

    def of(self, frames: Iterable[str]) -> str:
        """One sentence about a transform of one of these frames to its parent, if the newest one cannot be used; else ""."""
        return next((self._current[frame] for frame in frames if frame in self._current), "")

    def two_parents(self, child: str, parents: tuple[str, str]) -> None:
        """Two publishers give a frame two parents."""
        if self._own not in parents:
            a, b = sorted(parents)
            sentence = f"TF gives {child} two parents, {a} and {b}, but a frame has one: stop one of their publishers."
            self._say_once(sentence, "parents", child)

    def loop(self, frames: Iterable[str]) -> None:
        """Each frame is the parent of the next one, and the last one of the first."""
        names = list(frames)
        way = " -> ".join([*names, names[0]])
        self._say_once(f"TF has a loop, {way}: stop the publisher of one of these transforms.", "loop", *sorted(names))

    def _say_once(self, sentence: str, *key: str) -> None:
        if key not in self._said and len(self._said) < MAX_SAID:
            self._said.add(key)
            self._say(sentence)


def fault_of(parent: str, child: str, transform: Transform) -> str:
    """Why no transform can be like this, "" where it can. parent, child: as `frame_name` gives them."""
    t, q = transform.translation, transform.rotation
    if not (parent and child):
        return "a frame without a name"
    if parent == child:
        return "a frame cannot be its own parent"
    if not max(abs(t.x), abs(t.y), abs(t.z)) <= FARTHEST_M or math.isnan(t.x + t.y + t.z):
        return f"its translation is ({t.x:g}, {t.y:g}, {t.z:g}) m"
    square = q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w
    if not abs(square - 1.0) <= NOT_UNIT:
        numbers = f"its quaternion (x, y, z, w) is ({q.x:g}, {q.y:g}, {q.z:g}, {q.w:g})"
        return f"{numbers}, of length {math.sqrt(square):.3g} instead of 1" if math.isfinite(square) else numbers
    return ""
