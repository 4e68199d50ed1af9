# SPDX-License-Identifier: Apache-2.0
"""How many points are drawn while a view turns: few where drawing is slow, all where it is fast."""

import itertools
from collections.abc import Iterator

from st3r_ros.viewer.turning import AT_REST, FEWEST_POINTS, FIRST_POINTS, Turning

ALL = 1_000_000


def turn(turning: Turning, steps: Iterator[float], seconds: float, begin: float = 0.0) -> float:
    """A browser that tells of its view after each of the steps, in seconds; when it has ended."""
    now = begin
    while now < begin + seconds:
        now += next(steps)
        turning.moved(0, now, min(ALL, turning.limit(now)))
    return now


def in_pairs(drawing_s: float) -> Iterator[float]:
    """viser's page tells twice for a picture."""
    return itertools.cycle([drawing_s, 0.01])


def test_a_browser_that_has_not_been_turned_yet_draws_some() -> None:
    turning = Turning()
    assert not turning.is_on(0.0)
    assert turning.limit(0.0) == AT_REST * FIRST_POINTS
    turning.moved(0, 0.0, ALL)  # its first view
    assert not turning.is_on(0.0)


def test_a_fast_browser_soon_draws_all() -> None:
    turning = Turning()
    end = turn(turning, itertools.repeat(1 / 60), 3.0)
    assert turning.is_on(end)
    assert turning.limit(end) >= ALL


def test_a_slow_browser_draws_few_and_more_at_rest() -> None:
    turning = Turning()
    end = turn(turning, in_pairs(0.4), 10.0)
    assert turning.limit(end) == FEWEST_POINTS
    assert turning.is_on(end + 0.4)  # between two of its pictures
    assert turning.limit(end + 2.0) == AT_REST * FEWEST_POINTS


def test_a_browser_draws_as_many_as_it_can() -> None:
    """Drawing takes 2 us a point here: with 40,000 it is fast, with 80,000 slow."""
    turning, now = Turning(), 0.0
    for step in itertools.islice(in_pairs(1.0), 400):
        now += step if step < 1.0 else 2e-6 * turning.points
        turning.moved(0, now, turning.limit(now))
    assert 20_000 <= turning.points <= 80_000


def test_a_hand_that_pauses_is_no_slow_browser() -> None:
    turning = Turning()
    steps = itertools.cycle([1.0, *[1 / 60] * 5])
    turn(turning, steps, 20.0)
    assert turning.points >= FIRST_POINTS


def test_what_was_too_much_is_tried_again_later() -> None:
    turning = Turning()
    slow = turn(turning, in_pairs(0.4), 10.0)
    end = turn(turning, itertools.repeat(1 / 60), 3.0, begin=slow)
    assert turning.points <= FIRST_POINTS
    turn(turning, itertools.repeat(1 / 60), 3.0, begin=end + 60.0)
    assert turning.points > FIRST_POINTS


def test_each_browser_is_measured_for_itself() -> None:
    """Two slow ones do not look like a fast one."""
    turning = Turning()
    for tick in range(40):
        for client in (0, 1):
            turning.moved(client, 0.3 * tick + 0.02 * client, FIRST_POINTS)
    assert turning.points == FEWEST_POINTS
