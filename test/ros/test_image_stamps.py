# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest
from builtin_interfaces.msg import Time
from rclpy.node import Node
from ros_harness import Ros
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from st3r_ros.io.stamp_order import StampOrder, Verdict
from st3r_ros.io.stamps import span
from st3r_ros.ros.clocks import ImageTime
from st3r_ros.ros.conversions import stamp_from_ns, stamp_to_ns
from st3r_ros.ros.input.image_stamps import STEADY, StampedMessage, StampManner, StampWatch

SECOND = 10**9
HOUR = 3600 * SECOND
NOW_S = 1_700_000_000
FOLLOWS, CONFIRMS, DOUBTFUL = Verdict


def verdicts(stamps_s: list[float], now_s: float | None = None, period_s: float = 0.1) -> list[Verdict]:
    """Of images that arrive every `period_s` seconds; the clock shows `now_s` at the first, None without a clock."""
    order = StampOrder()
    fits = [now_s is not None and abs(s - now_s - index * period_s) < 1.0 for index, s in enumerate(stamps_s)]
    return [order.check(int(s * SECOND), index * period_s, fits_clock=fits[index]) for index, s in enumerate(stamps_s)]


def skipped(stamps_s: list[float], now_s: float | None = None, period_s: float = 0.1) -> list[float]:
    """The stamps that no image beside them confirms."""
    found = verdicts(stamps_s, now_s, period_s)
    doubtful = [index for index, verdict in enumerate(found) if verdict is DOUBTFUL]
    return [stamps_s[index] for index in doubtful if found[index + 1 : index + 2] != [CONFIRMS]]


@pytest.mark.parametrize(
    ("stamps_s", "strays"),
    [
        ([1, 2, 3], []),
        ([1, 2, 3600, 3, 4], [3600]),  # ahead
        ([7000, 7001, 0, 7002], [0]),  # behind
        ([1, 2, 3600, 3601, 3602], []),  # time has jumped
        ([3600, 3601, 1, 2, 3], []),  # a recording begins again
        ([3600, 1, 2, 3], [3600]),  # the first one
        ([0, 7000, 7001, 7002], [0]),
        ([1, 3600, 2, 3], [1, 3600]),  # of the first two either may be right
        ([1, 2, 9000, 50000, 3, 4], [9000, 50000]),  # two wrong ones that do not agree
        ([1, 3600, 2, 3601, 3, 3602], [1, 3600, 3601, 3602]),  # two cameras share a topic
        ([1, 2, 2.5, 2, 3], []),  # the mapper says what is wrong with these
    ],
)
def test_a_stamp_that_no_neighbour_confirms_is_left_out(stamps_s: list[float], strays: list[float]) -> None:
    assert skipped(stamps_s) == strays


@pytest.mark.parametrize(
    ("stamps_s", "strays"),
    [
        ([NOW_S, NOW_S + 0.1], []),
        ([NOW_S + 3600, NOW_S + 0.1, NOW_S + 0.2], [NOW_S + 3600]),
        ([0, NOW_S + 0.1, NOW_S + 0.2], [0]),
        ([5, 5.1, NOW_S + 0.2, 5.3], [NOW_S + 0.2]),  # one image of a recording has the time of now
        ([5, 5.1, NOW_S + 0.2, NOW_S + 0.3], []),  # the driver's clock was set
    ],
)
def test_the_clock_tells_which_of_the_first_stamps_is_right(stamps_s: list[float], strays: list[float]) -> None:
    assert skipped(stamps_s, now_s=NOW_S) == strays


def test_the_first_stamp_is_right_where_it_agrees_with_the_clock() -> None:
    assert verdicts([NOW_S], now_s=NOW_S) == [FOLLOWS]
    assert verdicts([5.0, 5.1], now_s=NOW_S) == [DOUBTFUL, CONFIRMS]
    assert verdicts([5.0, 5.1]) == [DOUBTFUL, CONFIRMS]


def test_images_that_jump_with_the_clock_are_not_in_doubt() -> None:
    order = StampOrder()
    assert order.check(HOUR, 0.0, fits_clock=True) is order.check(0, 0.1, fits_clock=True) is FOLLOWS


def test_images_with_long_pauses_are_no_strays() -> None:
    assert skipped([0, 60, 120, 180], period_s=60.0) == []
    assert skipped([0, 60, 120, 180], period_s=0.01) == [0]  # played fast, it is learnt


class Watch:
    """A watch, and the images that it passes on."""

    def __init__(self, ros: Ros, *arguments: str) -> None:
        ros.init(*arguments)
        self.node = Node("listener")
        self.watch = StampWatch(self.node)

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def take(self, stamp_ns: int) -> list[StampedMessage]:
        return self.watch.take(Image(header=Header(stamp=stamp_from_ns(stamp_ns))))


def stamps_of(images: list[StampedMessage]) -> list[int]:
    return [stamp_to_ns(image.message.header.stamp) for image in images]


def test_a_jump_loses_no_image_and_an_outlier_comes_with_the_reason(ros: Ros) -> None:
    watch = Watch(ros)
    assert watch.take(HOUR) == []
    both = watch.take(HOUR + SECOND)
    assert stamps_of(both) == [HOUR, HOUR + SECOND]
    assert [image.waited for image in both] == [True, False]
    assert not any(image.error for image in both)
    assert watch.take(3 * HOUR) == []
    stray, good = watch.take(HOUR + 2 * SECOND)
    assert str(stray.error) == "Its stamp 10800.000000000 s is 2.0 h after the last image's."
    assert stamps_of([stray, good]) == [3 * HOUR, HOUR + 2 * SECOND] and good.error is None


def test_a_first_outlier_is_named_by_the_next_image(ros: Ros) -> None:
    watch = Watch(ros)
    assert watch.take(watch.now_ns() + HOUR) == []
    stray, good = watch.take(watch.now_ns())
    assert "is 1.0 h after the next image's" in str(stray.error)
    assert good.error is None


def test_an_image_without_a_successor_is_used_if_it_is_the_first(ros: Ros) -> None:
    watch = Watch(ros)
    watch.take(HOUR)
    assert watch.watch.release(60.0) == []
    assert stamps_of(watch.watch.release(0.0)) == [HOUR]
    assert stamps_of(watch.take(HOUR + SECOND)) == [HOUR + SECOND]
    watch.take(0)
    (stray,) = watch.watch.release(0.0)
    assert "1.0 h before the last image's" in str(stray.error)
    assert stamps_of(watch.take(SECOND)) == [SECOND]  # it agrees with the one that was skipped
    watch.take(HOUR)
    assert watch.watch.restart() == 1
    assert watch.watch.release(0.0) == []


def test_a_stamp_that_is_no_time_is_refused(ros: Ros) -> None:
    watch = Watch(ros)
    (image,) = watch.watch.take(Image(header=Header(stamp=Time(sec=-1))))
    assert "is not a valid time" in str(image.error)


@pytest.mark.parametrize(("shift_ns", "words"), [(0, ""), (HOUR, "1.0 h ahead of this node's clock"), (-HOUR, "")])
def test_a_steady_offset_is_complained_of(ros: Ros, shift_ns: int, words: str) -> None:
    watch = Watch(ros)
    begin = watch.now_ns() + shift_ns
    for index in range(STEADY + 1):
        watch.take(begin + index * SECOND // 10)
    assert words in watch.watch.complaint and bool(words) == bool(watch.watch.complaint)
    assert watch.watch.offset_s == pytest.approx(shift_ns * 1e-9, abs=1.0)


def manner(stamps_s: list[float], offset_s: float | None = 0.0, period_s: float = 0.1) -> tuple[StampManner, list[int]]:
    """What is noticed of these stamps, and at which of them it changed."""
    found, changes = StampManner(), []
    for index, s in enumerate(stamps_s):
        stamp_ns = int((NOW_S + s) * SECOND)
        clock_ns = 0 if offset_s is None else stamp_ns - int(offset_s * SECOND)
        if found.look(ImageTime(stamp_ns, clock_ns, int(index * period_s * SECOND))):
            changes.append(index)
    return found, changes


@pytest.mark.parametrize(("seconds", "kind"), [(0.5, ""), (-3.0, ""), (2.0, "ahead"), (-60.0, "behind"), (None, "")])
def test_an_offset_is_noticed_once_when_it_is_steady(seconds: float | None, kind: str) -> None:
    found, changes = manner([0.1 * index for index in range(STEADY + 5)], seconds)
    assert found.kind == kind and changes == ([STEADY - 1] if kind else [])
    assert found.offset_s == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("factor", "kind"),
    [(1.0, ""), (0.2, ""), (30.0, ""), (300.0, ""), (1e3, "unit"), (1e6, "unit"), (1e-3, "unit"), (0.0, "same")],
)
def test_stamps_in_another_unit_and_equal_ones_are_noticed(factor: float, kind: str) -> None:
    jitter = [0.0, 0.01, -0.01, 0.005, 0.0, -0.02, 0.01, 0.0, 0.01, 0.0]
    stamps_s = [factor * (0.1 * index + jitter[index]) for index in range(10)]
    assert manner(stamps_s)[0].kind == kind


def test_images_go_ahead_of_a_clock_that_stands_still_without_a_complaint_about_their_stamps() -> None:
    found = StampManner()
    for index in range(30):
        found.look(ImageTime((NOW_S + index) * SECOND, (NOW_S + min(index, 5)) * SECOND, index * SECOND))
    assert found.kind == ""


def test_a_jump_is_no_unit() -> None:
    assert manner([0.0, 0.1, 0.2, 100.3, 100.4, 100.5, 100.6, 100.7, 100.8, 100.9])[0].kind == ""


def test_the_time_goes_on_from_the_stamp_of_an_image_unless_it_is_of_the_clock() -> None:
    clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=77 * SECOND))
    assert ImageTime(70 * SECOND, 71 * SECOND).now_ns(clock) == 77 * SECOND
    for stamp_ns, clock_ns in ((5 * SECOND, 71 * SECOND), (75 * SECOND, 71 * SECOND), (70 * SECOND, 0)):
        moment = ImageTime(stamp_ns, clock_ns)
        first, second = moment.now_ns(clock), moment.now_ns(clock)
        assert stamp_ns <= first <= second < stamp_ns + 60 * SECOND


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.0, "3.0 s"), (600.0, "10.0 min"), (3600.0, "1.0 h"), (7200.0, "2.0 h"), (864000.0, "10.0 days"), (1e8, "3.2 years")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
