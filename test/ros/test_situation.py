# SPDX-License-Identifier: Apache-2.0
import pytest

from st3r_ros.ros.nodes.situation import EVENT_S, Situation
from st3r_ros.types import MappingState

TRACKING, INITIALIZING, LOST = MappingState.TRACKING, MappingState.INITIALIZING, MappingState.LOST


def test_every_state_has_its_sentence() -> None:
    sentences = [Situation().text(state) for state in MappingState]
    assert len(set(sentences)) == len(MappingState) and all(sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize("state", [INITIALIZING, LOST, TRACKING])
def test_a_condition_ends_with_its_state_and_with_the_next_one(state: MappingState) -> None:
    situation = Situation()
    situation.set_condition(state, "Skipped an image.")
    assert situation.text(state) == "Skipped an image."
    assert all("Skipped" not in situation.text(other) for other in MappingState if other is not state)
    situation.set_condition(state, "")
    assert situation.text(state) == Situation().text(state)


def test_an_event_is_told_for_a_while_and_a_condition_goes_before_it() -> None:
    now = 100.0
    situation = Situation(lambda: now)
    situation.set_event("Closed a loop.")
    assert situation.text(TRACKING) == situation.text(MappingState.RELOCALIZED) == "Closed a loop."
    assert situation.text(LOST) == Situation().text(LOST)
    situation.set_condition(TRACKING, "Skipped an image.")
    assert situation.text(TRACKING) == "Skipped an image."
    situation.set_condition(TRACKING, "")
    assert situation.text(TRACKING) == "Closed a loop."
    now += EVENT_S
    assert situation.text(TRACKING) == "Tracking."
