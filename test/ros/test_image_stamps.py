# SPDX-License-Identifier: Apache-2.0
import pytest
from builtin_interfaces.msg import Time
from rclpy.node import Node
from ros_harness import Ros

from st3r_ros.config import MappingNodeConfig
from st3r_ros.ros.image_stamps import STEADY, ClockOffset, StampOrder, StampWatch, span

SECOND = 10**9
HOUR = 3600 * SECOND


def left_out(stamps_s: list[float], period_s: float = 0.1) -> list[float]:
    """The stamps that are left out of images that arrive every `period_s` seconds."""
    order = StampOrder()
    return [s for index, s in enumerate(stamps_s) if order.check(int(s * SECOND), 100.0 + index * period_s)]


@pytest.mark.parametrize(
    ("stamps_s", "strays"),
    [
        ([1, 2, 3], []),
        ([1, 2, 3600, 3, 4], [3600]),  # one stray image ahead
        ([7000, 7001, 0, 7002], [0]),  # one behind
        ([1, 2, 3600, 3601, 3602], [3600]),  # time has jumped: one image is lost
        ([3600, 3601, 1, 2, 3], [1]),  # a recording begins again
        ([3600, 1, 2, 3], [1]),  # the first one was the stray
        ([1, 3600, 2, 3601, 3, 3602], [3600, 3601, 3602]),  # two cameras share a topic
        ([1, 2, 2.5, 2, 3], []),  # the mapper says what is wrong with these
    ],
)
def test_a_single_stray_stamp_is_left_out(stamps_s: list[float], strays: list[float]) -> None:
    assert left_out(stamps_s) == strays


def test_images_with_long_pauses_are_no_strays() -> None:
    assert left_out([0, 60, 120, 180], period_s=60.0) == []
    assert left_out([0, 60, 120, 180], period_s=0.01) == [60]  # played fast, it is learnt


def test_a_stamp_of_now_is_never_a_stray() -> None:
    order = StampOrder()
    assert order.check(HOUR, 0.0) == order.check(0, 0.1, fits_clock=True) == ""


def test_the_reason_has_the_figures() -> None:
    order = StampOrder()
    order.check(2 * HOUR, 0.0)
    reason = order.check(HOUR, 0.1)
    assert "3600.000000000 s" in reason and "1.0 h before" in reason


def test_an_offset_is_noticed_when_it_is_steady_and_once() -> None:
    offset = ClockOffset()
    assert [offset.look(3600.0 + n * 0.1) for n in range(STEADY + 3)] == [False] * (STEADY - 1) + [True] + [False] * 3
    assert offset.kind == "ahead"
    assert offset.seconds == pytest.approx(3600.5)
    assert not any(offset.look(-0.1) for _ in range(STEADY - 1))
    assert offset.look(-0.1) and offset.kind == ""


@pytest.mark.parametrize(("seconds", "kind"), [(0.5, ""), (-3.0, ""), (2.0, "ahead"), (-60.0, "behind"), (None, "no clock")])
def test_kinds_of_offsets(seconds: float | None, kind: str) -> None:
    offset = ClockOffset()
    for _ in range(STEADY):
        offset.look(seconds)
    assert offset.kind == kind


@pytest.mark.parametrize(
    ("shift_s", "odom_frame", "words"),
    [
        (0, "", ""),
        (3600, "", "1.0 h ahead of this node's clock"),
        (-3600, "", ""),
        (-3600, "odom", "1.0 h behind the clock by which map -> odom is stamped"),
    ],
)
def test_what_is_complained_of(ros: Ros, shift_s: int, odom_frame: str, words: str) -> None:
    ros.init()
    node = Node("listener")
    watch = StampWatch(node, MappingNodeConfig(odom_frame=odom_frame))
    for _ in range(STEADY):
        now = node.get_clock().now().to_msg()
        assert watch.look(Time(sec=now.sec + shift_s, nanosec=now.nanosec)) is None
    assert words in watch.complaint and bool(words) == bool(watch.complaint)
    assert watch.offset_s == pytest.approx(shift_s, abs=1.0)
    assert "is not a valid time" in str(watch.look(Time(sec=-1)))


def test_no_clock_is_complained_of(ros: Ros) -> None:
    ros.init("-p", "use_sim_time:=true")
    watch = StampWatch(Node("listener"), MappingNodeConfig())
    for n in range(STEADY):
        watch.look(Time(sec=1_700_000_000 + n))
    assert "/clock has no publisher" in watch.complaint


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.0, "3.0 s"), (600.0, "10.0 min"), (3600.0, "1.0 h"), (7200.0, "2.0 h"), (864000.0, "10.0 days"), (1e8, "3.2 years")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
