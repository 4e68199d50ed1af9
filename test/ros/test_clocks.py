# SPDX-License-Identifier: Apache-2.0
"""A node under simulated time that nobody gives, that starts late, or that stops."""

import time
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from ros_harness import Ros, wait_until
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from st3r_ros.config import MappingNodeConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import MappingStatus
from st3r_ros.ros.clocks import ClockWatch, ImageTime, steady_timer
from st3r_ros.ros.conversions import stamp_from_ns, stamp_to_ns
from st3r_ros.ros.nodes.managed_node import ManagedNode
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.nodes.relocalization_node import RelocalizationNode
from st3r_ros.ros.qos import latched, stream
from st3r_ros.ros.tf.transforms import TransformBroadcaster

SECOND = 10**9


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("st3r_ros.ros.clocks.STILL_S", 0.2)


def test_what_is_wrong_with_the_clock_is_said(ros: Ros) -> None:
    ros.init("-p", "use_sim_time:=true")
    node, simulation = Node("listener"), Node("simulation")
    watch = ClockWatch(node)
    assert watch.complaint == ""  # it may come yet
    ticks: list[None] = []
    steady_timer(node, 0.02, lambda: ticks.append(None))
    ros.spin(node)
    wait_until(lambda: len(ticks) > 3, "timers to run")
    wait_until(lambda: "nobody publishes /clock; play with --clock" in watch.complaint, "that nobody publishes it")
    clock = simulation.create_publisher(Clock, "/clock", 1)
    wait_until(lambda: "no time has come on /clock" in watch.complaint, "that nothing comes")

    def runs() -> bool:
        clock.publish(Clock(clock=stamp_from_ns(5 * SECOND)))
        return watch.complaint == ""

    wait_until(runs, "time to come")
    wait_until(lambda: "stands still at 5.00 s: are the simulation or the playback paused?" in watch.complaint, "a pause")
    simulation.destroy_publisher(clock)
    wait_until(lambda: "nobody publishes it any more" in watch.complaint, "the end of the publisher")


def test_without_simulated_time_nothing_is_said(ros: Ros) -> None:
    ros.init()
    node = Node("listener")
    watch = ClockWatch(node)
    time.sleep(0.3)  # longer than a clock may stand still
    assert watch.complaint == ""


@pytest.mark.parametrize(("kind", "name"), [(MappingNode, "st3r_mapping"), (RelocalizationNode, "st3r_relocalization")])
def test_a_node_without_a_clock_and_without_images_says_both(
    ros: Ros, monkeypatch: pytest.MonkeyPatch, kind: type[ManagedNode], name: str
) -> None:
    monkeypatch.setattr("st3r_ros.ros.input.image_input.SILENCE_S", 0.4)
    monkeypatch.setattr("st3r_ros.ros.outputs.diagnostics.PERIOD_S", 0.1)
    ros.init("-p", "use_sim_time:=true", "-r", "image:=/misspelt")
    node, listener = kind(Stop()), Node("listener")
    statuses, arrays = list[Any](), list[DiagnosticArray]()
    listener.create_subscription(MappingStatus, f"/{name}/status", statuses.append, latched())
    listener.create_subscription(DiagnosticArray, "/diagnostics", arrays.append, stream(10))
    ros.spin(listener)
    node.start()
    ros.spin(node)

    def is_said(message: str) -> bool:
        return "No images on /misspelt" in message and "nobody publishes /clock" in message

    def diagnosed() -> bool:
        return bool(arrays) and any(s.level == DiagnosticStatus.ERROR and is_said(s.message) for s in arrays[-1].status)

    wait_until(diagnosed, "the diagnostics to say both")
    if kind is MappingNode:
        wait_until(lambda: statuses and is_said(statuses[-1].message), "the status to say both")


def test_map_to_odom_goes_on_in_the_time_of_the_images(ros: Ros) -> None:
    ros.init("-p", "use_sim_time:=true")
    node, listener, heard = LifecycleNode("mapping"), Node("listener"), list[int]()
    listener.create_subscription(
        TFMessage, "/tf", lambda message: heard.append(stamp_to_ns(message.transforms[0].header.stamp)), stream(100)
    )
    broadcaster = TransformBroadcaster(node)
    config = MappingNodeConfig(odom_frame="odom", transform_tolerance=0.1)
    broadcaster.repeat_every(0.01, lambda: config)
    node.trigger_configure()
    node.trigger_activate()
    for each in (node, listener):
        ros.spin(each)
    wait_until(lambda: node.count_subscribers("/tf") and listener.count_publishers("/tf"), "the listener")
    broadcaster.time = ImageTime(1000 * SECOND, 0)
    broadcaster.send_odometry(SE3.identity(), 1000 * SECOND, config)
    wait_until(lambda: len(heard) >= 5, "five transforms")
    assert heard == sorted(set(heard))
    assert heard[0] >= 1000.1 * SECOND and heard[4] < 1060 * SECOND
    broadcaster.forget_odometry()
