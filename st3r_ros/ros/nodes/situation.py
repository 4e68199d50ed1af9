# SPDX-License-Identifier: Apache-2.0
"""The status sentence: the current condition, a recent event, or the meaning of the state."""

from __future__ import annotations

import time
from collections.abc import Callable

from st3r_ros.types import MappingState

EVENT_S = 10.0
"""Seconds for which an event is shown."""
NOT_ACTIVE = "Not subscribed: the node is not active."
PAUSED = "Paused: images are ignored until ~/resume."
TRACKED = (MappingState.TRACKING, MappingState.RELOCALIZED)
_STATES = {
    MappingState.WAITING: "Waiting for the first image.",
    MappingState.INITIALIZING: "Waiting for the camera to move sideways.",
    MappingState.TRACKING: "Tracking.",
    MappingState.LOST: "Lost: searching for a known place.",
    MappingState.RELOCALIZED: "The camera was found again.",
    MappingState.PAUSED: PAUSED,
}


class Situation:
    """The status sentence of a session. Each sentence ends with the state it belongs to.

    A condition holds until the next one; an event is shown for `EVENT_S` seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._condition: tuple[MappingState, str] = MappingState.WAITING, ""
        self._event, self._since = "", 0.0

    def set_condition(self, state: MappingState, text: str) -> None:
        """Sets the current condition; "" for the meaning of the state."""
        self._condition = state, text

    def set_event(self, text: str) -> None:
        """Reports an event during tracking."""
        self._condition = MappingState.TRACKING, ""
        self._event, self._since = text, self._clock()

    def text(self, state: MappingState) -> str:
        """The sentence for a session in this state."""
        then, condition = self._condition
        if condition and then is state:
            return condition
        if state in TRACKED and self._event and self._clock() - self._since < EVENT_S:
            return self._event
        return _STATES[state]
