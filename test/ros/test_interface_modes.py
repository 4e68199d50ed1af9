# SPDX-License-Identifier: Apache-2.0
"""The ROS interface in its modes: TF with and without a robot and odometry, lifecycle, namespaces, remapping, simulated time."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ament_index_python.packages import get_package_prefix
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, Quaternion, TransformStamped, Vector3
from interface_client import EVERYTHING, LATCHED, Client, stamp
from lifecycle_msgs.msg import Transition
from rclpy.qos import QoSProfile
from rendered import Rendered
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from st3r_ros.config import SimulationConfig
from st3r_ros.msg import MappingStatus
from st3r_ros.ros import conversions
from st3r_ros.ros.nodes.camera_node import CameraNode
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.nodes.relocalization_node import RelocalizationNode
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.types import Frame

FIRST_NS = 1_700_000_000_123_456_789
SEQUENCE = SimulatedSequence(SimulationConfig(seed=2, frames=24, fps=8.0, width=320, height=240))
FRAMES = Rendered(SEQUENCE, FIRST_NS)
STAMPS = {FIRST_NS + stamp_ns for stamp_ns in SEQUENCE.stamps_ns.tolist()}
OPTICAL = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
"""Of an optical frame in a body that looks along its x; REP-103."""
QUICK = {"status_period": 0.05, "map_publish_period": 0.0}


def arguments(settings: dict[str, Any]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-p", f"{name}:={json.dumps(value)}")]


def edge(parent: str, child: str, at: tuple[float, float, float], rotation: Quaternion, stamp_ns: int = 0) -> TFMessage:
    x, y, z = at
    item = TransformStamped(child_frame_id=child)
    item.header.frame_id, item.header.stamp = parent, conversions.stamp_from_ns(stamp_ns)
    item.transform.translation, item.transform.rotation = Vector3(x=x, y=y, z=z), rotation
    return TFMessage(transforms=[item])


class Robot(Client):
    """A camera on a robot: image and camera_info in a namespace, TF."""

    def __init__(self, namespace: str = "", frame: str = "camera") -> None:
        super().__init__(f"robot{namespace.replace('/', '_')}")
        self.frame, self.node = frame, f"{namespace}/st3r_mapping"
        self.images = self.create_publisher(Image, f"{namespace}/image", 5)
        self.infos = self.create_publisher(CameraInfo, f"{namespace}/camera_info", 5)
        self.tf = self.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
        self.tf_static = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.status = self.hear(f"{self.node}/status", MappingStatus, LATCHED)
        self.poses = self.hear(f"{self.node}/pose", PoseWithCovarianceStamped)
        self.hear("/tf", TFMessage)

    def show(self, frame: Frame) -> None:
        self.infos.publish(conversions.camera_message(frame.camera, frame.stamp_ns, self.frame, 320, 240))
        self.images.publish(conversions.image_message(frame, self.frame))

    def handled(self) -> int:
        if not self.status:
            return 0
        status = self.status[-1]
        return int(status.frames_processed + status.frames_skipped + status.frames_dropped)

    def drive(self, odometry: bool = False) -> None:
        """Show every image, the next when the last has been dealt with, in step with odometry where there is any."""
        wait_until(lambda: self.images.get_subscription_count() and self.infos.get_subscription_count(), f"{self.node} to listen")
        wait_until(lambda: self.status, "a status")
        for index, frame in enumerate(FRAMES):
            done = self.handled()
            if odometry:
                for late_ns in (-(10**7), 10**7):
                    self.tf.publish(
                        edge("odom", "base_link", (index * 0.03, 0.0, 0.0), Quaternion(w=1.0), frame.stamp_ns + late_ns)
                    )
            self.show(frame)
            wait_until(lambda n=done: self.handled() > n, f"image {index} to be dealt with")
        wait_until(lambda: self.poses, "a pose")

    def edges(self, *parents: str) -> dict[tuple[str, str], list[int]]:
        """The stamps of every edge of TF below some parents."""
        found: dict[tuple[str, str], list[int]] = {}
        for message in self.heard["/tf"]:
            for item in message.transforms:
                if item.header.frame_id in parents:
                    found.setdefault((item.header.frame_id, item.child_frame_id), []).append(stamp(item.header))
        return found


def mapping(ros: Ros, **settings: Any) -> Robot:
    """A mapping node and a robot."""
    ros.init(*arguments(QUICK | settings))
    robot, stop = Robot(), Stop()
    ros.spin(robot)
    node = MappingNode(stop)
    ros.spin(node)
    node.start()
    assert stop.exit_code == 0
    return robot


def test_with_a_robot_tf_tells_where_its_base_is_at_the_stamps_of_the_images(ros: Ros) -> None:
    robot = mapping(ros)
    robot.tf_static.publish(edge("base_link", "camera", (0.3, 0.0, 0.5), OPTICAL))
    wait_until(robot.tf_static.get_subscription_count, "the node to listen to TF")
    robot.drive()
    wait_until(lambda: len(robot.edges("map").get(("map", "base_link"), [])) == len(robot.poses), "a transform for each pose")
    assert set(robot.edges("map")) == {("map", "base_link")}
    stamps = [stamp(pose.header) for pose in robot.poses]
    assert robot.edges("map")["map", "base_link"] == stamps
    assert set(stamps) <= STAMPS
    assert {pose.header.frame_id for pose in robot.poses} == {"map"}
    first = robot.poses[0].pose.pose.position
    assert np.linalg.norm([first.x, first.y, first.z]) < 2.0  # the map begins at the base, not at the camera


def test_a_camera_without_a_place_on_the_robot_looks_forward_and_that_is_said_once(
    ros: Ros, capfd: pytest.CaptureFixture[str]
) -> None:
    ros.init(*arguments(QUICK | {"input_wait": 0.0}))
    robot, stop = Robot(), Stop()
    ros.spin(robot)
    node = MappingNode(stop)
    ros.spin(node)
    node.start()
    assert stop.exit_code == 0
    robot.drive()
    wait_until(lambda: robot.edges("map"), "TF")
    assert set(robot.edges("map")) == {("map", "base_link")}
    said = [words for words in capfd.readouterr().err.splitlines() if "No TF from base_link" in words]
    assert len(said) == 1 and "look forward" in said[0]


def test_with_odometry_only_odometry_is_placed_in_the_map_and_that_again_and_again(ros: Ros) -> None:
    robot = mapping(ros, odom_frame="odom", odom_wait=2.0)
    robot.tf_static.publish(edge("base_link", "camera", (0.3, 0.0, 0.5), OPTICAL))
    wait_until(
        lambda: robot.tf_static.get_subscription_count() and robot.tf.get_subscription_count() > 1, "the node to listen to TF"
    )
    robot.drive(odometry=True)
    wait_until(lambda: robot.edges("map"), "map -> odom")
    count = len(robot.edges("map")["map", "odom"])
    wait_until(lambda: len(robot.edges("map")["map", "odom"]) > count + 5, "map -> odom without images")
    assert set(robot.edges("map")) == {("map", "odom")}
    ahead = robot.edges("map")["map", "odom"][count + 1 :]
    assert all(min(STAMPS) < at < max(STAMPS) + 60 * 10**9 for at in ahead)  # the time of the images, not of the node
    assert ahead == sorted(set(ahead))
    assert {stamp(pose.header) for pose in robot.poses} <= STAMPS


@pytest.mark.parametrize("name", ["/st3r_mapping", "/st3r_relocalization"])
def test_the_lifecycle_goes_round_by_its_services_and_ends(ros: Ros, name: str) -> None:
    ros.init("-p", "autostart:=false")
    client = Client()
    ros.spin(client)
    ros.spin((MappingNode if name == "/st3r_mapping" else RelocalizationNode)(Stop()))

    def listens() -> bool:
        return any(f"/{info.node_name}" == name for info in client.get_subscriptions_info_by_topic("/image"))

    assert client.state(name) == "unconfigured"
    for transition, state, active in (
        (Transition.TRANSITION_CONFIGURE, "inactive", False),
        (Transition.TRANSITION_ACTIVATE, "active", True),
        (Transition.TRANSITION_DEACTIVATE, "inactive", False),
        (Transition.TRANSITION_CLEANUP, "unconfigured", False),
        (Transition.TRANSITION_CONFIGURE, "inactive", False),
        (Transition.TRANSITION_ACTIVATE, "active", True),
        (Transition.TRANSITION_ACTIVE_SHUTDOWN, "finalized", False),
    ):
        assert client.transition(name, transition)
        assert client.state(name) == state
        wait_until(lambda wanted=active: listens() is wanted, f"the images to be heard in the state {state}: {active}")


def test_the_defaults_are_those_of_the_interface(ros: Ros) -> None:
    ros.init("-p", "autostart:=false")
    client = Client()
    for node in (client, MappingNode(Stop()), RelocalizationNode(Stop()), CameraNode(Stop())):
        ros.spin(node)
    mapping = {"base_frame": "base_link", "map_frame": "map", "odom_frame": "", "publish_tf": True, "mode": "mapping"}
    mapping |= {"transform_publish_period": 0.05, "transform_tolerance": 0.1, "image_transport": "raw", "use_sim_time": False}
    assert mapping.items() <= client.parameters("/st3r_mapping").items()
    assert {"rate": 0.0, "use_sim_time": False}.items() <= client.parameters("/st3r_relocalization").items()
    camera = {"source": "", "rate": 1.0, "loop": False, "publish_clock": False}
    assert camera.items() <= client.parameters("/st3r_camera").items()
    choices = client.descriptors("/st3r_mapping", ["mode", "image_transport"])
    assert choices["mode"].additional_constraints == "One of: mapping, localization."
    assert choices["image_transport"].additional_constraints == "One of: raw, compressed, foxglove, ffmpeg."


@pytest.fixture
def two_robots() -> Iterator[None]:
    """Two mapping nodes as processes, in the namespaces /a and /b, with frames of their own."""
    program = Path(get_package_prefix("st3r_ros"), "lib", "st3r_ros", "mapping_node")
    running = []
    for name in ("a", "b"):
        frames = {"map_frame": f"{name}/map", "base_frame": ""}
        words = ["--ros-args", "-r", f"__ns:=/{name}", *arguments(QUICK | frames | {"input_wait": 0.0})]
        running.append(subprocess.Popen([sys.executable, str(program), *words], env=os.environ, start_new_session=True))
    yield
    for process in running:
        process.terminate()
    assert [process.wait(30.0) for process in running] == [0, 0]


def test_two_robots_in_one_graph_do_not_cross(ros: Ros, two_robots: None) -> None:
    ros.init()
    a, b = Robot("/a", "a/camera"), Robot("/b", "b/camera")
    ros.spin(a)
    ros.spin(b)
    wait_until(lambda: b.status, "the other robot's status", 60.0)
    a.drive()
    for message in b.status:
        assert message.frames_received == 0 and message.state == MappingStatus.WAITING
    assert not b.poses
    assert set(a.edges("a/map", "b/map", "map")) == {("a/map", "a/camera")}
    b.drive()
    wait_until(lambda: ("b/map", "b/camera") in a.edges("b/map"), "TF of the other robot")
    assert set(a.edges("a/map", "b/map", "map")) == {("a/map", "a/camera"), ("b/map", "b/camera")}
    frames = {pose.header.frame_id for pose in a.poses}, {pose.header.frame_id for pose in b.poses}
    assert frames == ({"a/map"}, {"b/map"})
    own = {name for name, _ in a.get_publisher_names_and_types_by_node("st3r_mapping", "/a")}
    shared = {"/tf", "/diagnostics", "/rosout", "/parameter_events"}
    assert {name for name in own if not name.startswith("/a/st3r_mapping/")} == shared
    assert a.call("/a/st3r_mapping/reset", Trigger).success
    wait_until(lambda: a.status[-1].keyframes == 0, "an empty map")
    assert b.status[-1].keyframes > 0


def test_what_the_pair_model_assumes_of_an_uncalibrated_camera_is_said_once(ros: Ros, capfd: pytest.CaptureFixture[str]) -> None:
    robot = mapping(ros, base_frame="", input_wait=0.0, **{"opencv.assumed_fov_deg": 75.0})
    wait_until(robot.images.get_subscription_count, "the node to listen")
    for frame in FRAMES[:3]:
        done = robot.handled()
        robot.images.publish(conversions.image_message(frame, robot.frame))
        wait_until(lambda n=done: robot.handled() > n, "an image to be dealt with")
    said = [words for words in capfd.readouterr().err.splitlines() if "field of view" in words]
    assert len(said) == 1
    assert said[0].endswith("the camera is taken as uncalibrated; a horizontal field of view of 75 degrees is assumed.")


def test_camera_info_is_the_sibling_of_the_image_wherever_that_is_remapped_to(ros: Ros) -> None:
    ros.init("-r", "st3r_mapping:image:=/front/image_raw", "-r", "st3r_relocalization:image:=/rear/image_raw")
    client = Client()
    ros.spin(client)
    for kind in (MappingNode, RelocalizationNode):
        node = kind(Stop())
        ros.spin(node)
        node.start()
    topics = {"st3r_mapping": "/front", "st3r_relocalization": "/rear"}
    for node, folder in topics.items():
        for topic in (f"{folder}/image_raw", f"{folder}/camera_info"):
            wait_until(
                lambda topic=topic, node=node: (
                    [info.node_name for info in client.get_subscriptions_info_by_topic(topic)] == [node]
                ),
                f"{node} to listen to {topic}",
            )
    for topic in ("/image", "/camera_info"):  # a process that another test has killed may be seen for a while
        wait_until(lambda topic=topic: not client.get_subscriptions_info_by_topic(topic), f"nobody to listen to {topic}", 60.0)


def test_with_simulated_time_a_looping_recording_is_followed_by_its_clock(ros: Ros) -> None:
    source = "sim:room?seed=2&frames=24&fps=8&width=320&height=240"
    camera = {"source": source, "loop": True, "publish_clock": True, "rate": 1.0}
    ros.init(
        *arguments(QUICK | {"use_sim_time": True, "base_frame": ""}),
        *arguments({f"st3r_camera:{name}": value for name, value in camera.items()}),
    )
    robot = Robot()
    stamps: list[int] = []
    robot.create_subscription(Image, "/image", lambda image: stamps.append(stamp(image.header)), EVERYTHING)
    health = robot.hear("/diagnostics", DiagnosticArray)
    ros.spin(robot)
    for kind in (MappingNode, CameraNode):
        stop = Stop()
        node = kind(stop)
        ros.spin(node)
        node.start()
        assert stop.exit_code == 0

    def went_back() -> bool:
        told = [stamp(pose.header) for pose in robot.poses]
        return any(later < earlier - 10**9 for earlier, later in itertools.pairwise(told))

    wait_until(went_back, "poses in two rounds", 60.0)
    told, known = len(robot.status), len(robot.poses)
    wait_until(lambda: len(robot.status) > told + 5 and len(robot.poses) > known + 5, "status and poses after that", 60.0)
    end = max(stamps)
    assert end < 10 * 10**9  # the recording's own time
    assert {stamp(pose.header) for pose in robot.poses} <= set(stamps)
    wait_until(lambda: len(health) > 1, "diagnostics")
    assert all(0 <= stamp(array.header) <= end for array in health)
