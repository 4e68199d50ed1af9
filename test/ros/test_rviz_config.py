# SPDX-License-Identifier: Apache-2.0
"""config/st3r.rviz against the live graph: each display's topic exists, carries what the display shows, and their QoS meet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo
from ros_harness import Ros, wait_until

from st3r_ros.ros.nodes.camera_node import CameraNode
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.nodes.relocalization_node import RelocalizationNode

VIEW: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "config" / "st3r.rviz").read_text())["Visualization Manager"]
PLUGINS = "rviz_default_plugins/"
SHOWN = {
    "PointCloud2": "sensor_msgs/msg/PointCloud2",
    "Path": "nav_msgs/msg/Path",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "PoseWithCovariance": "geometry_msgs/msg/PoseWithCovarianceStamped",
    "Odometry": "nav_msgs/msg/Odometry",
    "Map": "nav_msgs/msg/OccupancyGrid",
    "Image": "sensor_msgs/msg/Image",
}
"""What a display subscribes to; the others (Grid, TF) have no topic."""
DISPLAYS = [display for display in VIEW["Displays"] if "Topic" in display]
RELIABILITIES = {"Reliable": ReliabilityPolicy.RELIABLE, "Best Effort": ReliabilityPolicy.BEST_EFFORT}
DURABILITIES = {"Transient Local": DurabilityPolicy.TRANSIENT_LOCAL, "Volatile": DurabilityPolicy.VOLATILE}


def qos_of(topic: dict[str, Any]) -> QoSProfile:
    """The QoS of a Topic entry, in which RViz knows these keys and no others."""
    assert set(topic) == {"Value", "Depth", "History Policy", "Reliability Policy", "Durability Policy"}
    assert topic["History Policy"] == "Keep Last"
    reliability, durability = RELIABILITIES[topic["Reliability Policy"]], DURABILITIES[topic["Durability Policy"]]
    return QoSProfile(depth=topic["Depth"], reliability=reliability, durability=durability)


def seen(info: TopicEndpointInfo) -> QoSProfile:
    """The QoS of an endpoint as far as a discovery tells it for both sides."""
    return QoSProfile(depth=1, reliability=info.qos_profile.reliability, durability=info.qos_profile.durability)


@pytest.fixture(scope="module")
def graph() -> Iterator[Node]:
    """A node in the graph of all three nodes."""
    ros = Ros()
    ros.init("-p", "base_frame:=''")
    try:
        for kind in (MappingNode, RelocalizationNode):
            stop = Stop()
            node = kind(stop)
            ros.spin(node)
            node.start()
            assert stop.exit_code == 0
        ros.spin(CameraNode(Stop()))  # it offers its topics before it plays
        view = Node("rviz")
        ros.spin(view)
        yield view
    finally:
        ros.stop()


@pytest.mark.parametrize("display", DISPLAYS, ids=lambda display: display["Name"])
def test_a_display_gets_what_it_shows(graph: Node, display: dict[str, Any]) -> None:
    topic, asked = display["Topic"]["Value"], qos_of(display["Topic"])
    wait_until(lambda: graph.get_publishers_info_by_topic(topic), f"somebody to publish {topic}")
    for info in graph.get_publishers_info_by_topic(topic):
        assert info.topic_type == SHOWN[display["Class"].removeprefix(PLUGINS)]
        offered = seen(info)
        compatible, reason = qos_check_compatible(offered, asked)
        assert compatible != QoSCompatibility.ERROR, reason
        assert asked.durability == offered.durability  # what is latched would not be seen until it changes next


def test_an_initial_pose_gets_to_the_mapping_node(graph: Node) -> None:
    tool = next(tool for tool in VIEW["Tools"] if tool["Class"] == f"{PLUGINS}SetInitialPose")
    topic = tool["Topic"]["Value"]
    wait_until(lambda: graph.get_subscriptions_info_by_topic(topic), f"somebody to listen to {topic}")
    for info in graph.get_subscriptions_info_by_topic(topic):
        assert info.topic_type == SHOWN["PoseWithCovariance"]
        compatible, reason = qos_check_compatible(qos_of(tool["Topic"]), seen(info))
        assert compatible != QoSCompatibility.ERROR, reason


def test_the_first_look_is_the_map_and_what_costs_is_off() -> None:
    assert VIEW["Global Options"]["Fixed Frame"] == "map"
    kinds = {display["Class"].removeprefix(PLUGINS) for display in VIEW["Displays"]}
    assert kinds == {*SHOWN, "Grid", "TF"}
    enabled = {display["Name"]: display["Enabled"] for display in VIEW["Displays"]}
    shown = {"Grid", "Map", "Path", "Keyframes and edges", "Pose", "Image"}
    assert {name for name, is_on in enabled.items() if is_on} == shown
    image = next(display for display in DISPLAYS if display["Name"] == "Image")
    assert image["Topic"]["Reliability Policy"] == "Best Effort"
