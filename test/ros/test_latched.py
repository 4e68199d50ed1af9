# SPDX-License-Identifier: Apache-2.0
"""When latched topics are sent, with a clock of its own: nothing here waits."""

from types import SimpleNamespace
from typing import Any

import pytest

from st3r_ros.products.steps import Steps
from st3r_ros.ros.outputs import latched
from st3r_ros.ros.outputs.latched import BUILD_SHARE, FLUSH_S, SPARE_S, TURN_S, GradualOutput, LatchedOutput

STEP_S = 0.03
STEPS = 40


class Bench:
    """A clock, a publisher that keeps what it is given, and messages whose making takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.content, self.steps_done = 100.0, 0, 0
        self.sent: list[Any] = []
        self.subscribers = 1
        self.publisher: Any = SimpleNamespace(
            is_activated=True, get_subscription_count=lambda: self.subscribers, publish=self.sent.append
        )
        monkeypatch.setattr(latched, "time", SimpleNamespace(monotonic=lambda: self.now))

    def begin(self) -> Steps[int]:
        content = self.content
        for _ in range(STEPS):
            self.now += STEP_S
            self.steps_done += 1
            yield
        return content

    def build(self) -> int:
        self.now += 1.0
        return self.content

    def poll(self, output: Any, *, frames: int, period: float = 0.0, idle: bool = False, frame_s: float = 0.1) -> float:
        """Poll after every frame; the longest that a poll took."""
        longest = 0.0
        for _ in range(frames):
            self.now += frame_s
            begin = self.now
            output.poll(period, idle=idle)
            longest = max(longest, self.now - begin)
        return longest


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_a_long_message_is_made_between_the_frames_in_its_share_of_the_time(bench: Bench) -> None:
    output = GradualOutput(bench.publisher, bench.begin)
    output.mark()
    begin = bench.now
    assert bench.poll(output, frames=20) <= TURN_S + STEP_S
    assert bench.sent == []
    while not bench.sent:
        bench.poll(output, frames=1)
    assert STEPS * STEP_S / (bench.now - begin) == pytest.approx(BUILD_SHARE, rel=0.25)
    assert bench.sent == [0]


def test_spare_time_between_the_frames_is_used_in_short_turns_and_costs_no_share(bench: Bench) -> None:
    output = GradualOutput(bench.publisher, bench.begin)
    assert not output.go_on()  # nothing is in the making
    output.mark()
    bench.poll(output, frames=1)
    begin = bench.now
    assert output.go_on()
    assert SPARE_S <= bench.now - begin <= SPARE_S + STEP_S
    for _ in range(10):
        output.go_on()
    done = bench.steps_done
    bench.poll(output, frames=5)
    assert bench.steps_done > done
    while output.go_on():
        pass
    assert bench.sent == [0]


def test_at_the_end_the_whole_content_is_sent(bench: Bench) -> None:
    output = GradualOutput(bench.publisher, bench.begin, lambda: "interim")
    output.finish()
    assert bench.sent == []  # nothing has changed
    output.mark()
    bench.poll(output, frames=3)
    bench.content = 5
    output.finish()
    assert bench.sent == [5]


def test_when_idle_it_is_made_sooner_and_still_in_turns(bench: Bench) -> None:
    output = GradualOutput(bench.publisher, bench.begin)
    output.mark()
    assert TURN_S <= bench.poll(output, frames=15, idle=True) <= TURN_S + STEP_S
    bench.poll(output, frames=10, idle=True)
    assert bench.sent == [0]


def test_a_message_shows_the_content_of_its_beginning_and_the_next_one_what_came_meanwhile(bench: Bench) -> None:
    output = GradualOutput(bench.publisher, bench.begin)
    output.mark()
    bench.poll(output, frames=1, idle=True)
    bench.content = 1
    output.mark()
    bench.poll(output, frames=100, idle=True)
    assert bench.sent == [0, 1]
    bench.poll(output, frames=100, idle=True)
    assert bench.sent == [0, 1]


def test_a_period_lies_between_the_beginnings_of_two_messages(bench: Bench) -> None:
    output = GradualOutput(bench.publisher, bench.begin)
    for _ in range(100):
        output.mark()
        bench.poll(output, frames=1, idle=True, period=7.0)
    assert len(bench.sent) == 2


def test_where_nobody_listens_nothing_is_done_until_somebody_does(bench: Bench) -> None:
    output = GradualOutput(bench.publisher, bench.begin)
    bench.subscribers = 0
    output.mark()
    bench.poll(output, frames=20, idle=True)
    output.flush()
    assert bench.steps_done == 0
    bench.subscribers = 1
    bench.poll(output, frames=40, idle=True)
    assert bench.sent == [0]


def test_flush_sends_what_can_be_had_at_once_and_the_whole_follows(bench: Bench) -> None:
    output = GradualOutput(bench.publisher, bench.begin, lambda: "interim")
    bench.poll(output, frames=3, idle=True)
    output.flush()
    assert bench.sent == []  # nothing has changed
    output.mark()
    bench.poll(output, frames=3, idle=True)
    bench.content = 5
    begin = bench.now
    output.flush()
    assert bench.now - begin <= FLUSH_S + STEP_S
    assert bench.sent == ["interim"]
    bench.poll(output, frames=40, idle=True)
    assert bench.sent == ["interim", 5]


def test_flush_sends_a_message_that_is_soon_made_whole(bench: Bench) -> None:
    def short() -> Steps[str]:
        bench.now += 0.01
        yield
        return "whole"

    output = GradualOutput(bench.publisher, short, lambda: "interim")
    output.mark()
    output.flush()
    output.flush()
    assert bench.sent == ["whole"]


def test_steps_without_a_result_send_nothing(bench: Bench) -> None:
    def nothing() -> Steps[None]:
        yield

    output = GradualOutput(bench.publisher, nothing)
    output.mark()
    bench.poll(output, frames=5)
    assert bench.sent == []


def test_steps_that_fail_are_reported_and_begin_anew_with_the_next_change(bench: Bench) -> None:
    def failing() -> Steps[int]:
        yield
        if bench.content == 0:
            raise RuntimeError("broken")
        return bench.content

    output = GradualOutput(bench.publisher, failing)
    output.mark()
    with pytest.raises(RuntimeError, match="broken"):
        bench.poll(output, frames=5, idle=True)
    bench.content = 1
    output.mark()
    bench.poll(output, frames=5, idle=True)
    assert bench.sent == [1]


def test_a_whole_message_that_takes_long_is_sent_less_often(bench: Bench) -> None:
    output = LatchedOutput(bench.publisher, bench.build)
    for _ in range(200):
        output.mark()
        bench.poll(output, frames=1, period=0.5)
    spent = len(bench.sent) * 1.0
    assert 0.1 < spent / (200 * 0.1 + spent) <= BUILD_SHARE + 0.05
