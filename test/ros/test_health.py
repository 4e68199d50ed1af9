# SPDX-License-Identifier: Apache-2.0
"""What the mapping node says of itself and of its map beside pose, cloud and status: diagnostics, odometry, markers."""

import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rendered import Rendered
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros import conversions
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.qos import latched, stream
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.types import Frame

SEQUENCE = SimulatedSequence(SimulationConfig(seed=2, frames=24, fps=8.0, width=320, height=240))
FIRST_NS = 1_700_000_000_000_000_000
FRAMES = Rendered(SEQUENCE, FIRST_NS)
NODE = ("-p", "input_wait:=0.0", "-p", "status_period:=0.05", "-p", "map_publish_period:=0.0")


class Robot(Node):
    """A camera, and a listener."""

    def __init__(self, reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE) -> None:
        super().__init__("robot")
        self.images = self.create_publisher(Image, "image", QoSProfile(depth=5, reliability=reliability))
        self.infos = self.create_publisher(CameraInfo, "camera_info", 5)
        self.transforms = self.create_publisher(TFMessage, "/tf", 100)
        self.static = self.create_publisher(
            TFMessage, "/tf_static", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        )
        self.heard: dict[str, list[Any]] = defaultdict(list)
        topics = {
            "/diagnostics": (DiagnosticArray, stream(10)),
            "/st3r_mapping/odometry": (Odometry, stream(100)),
            "/st3r_mapping/pose": (PoseWithCovarianceStamped, stream(100)),
            "/st3r_mapping/markers": (MarkerArray, latched()),
            "/tf": (TFMessage, stream(100)),
        }
        for topic, (kind, qos) in topics.items():
            self.create_subscription(kind, topic, self.heard[topic].append, qos)

    def show(self, frame: Frame) -> None:
        self.infos.publish(conversions.camera_message(frame.camera, frame.stamp_ns, "camera", 320, 240))
        self.images.publish(conversions.image_message(frame, "camera"))

    def health(self) -> dict[str, DiagnosticStatus]:
        """The lines of the newest diagnostics of the mapping node."""
        arrays = self.heard["/diagnostics"]
        return {s.name.partition(": ")[2]: s for s in arrays[-1].status} if arrays else {}


def start(ros: Ros, *arguments: str, **robot: Any) -> tuple[MappingNode, Robot]:
    ros.init(*NODE, *arguments)
    node, listener = MappingNode(Stop()), Robot(**robot)
    node.start()
    for each in (node, listener):
        ros.spin(each)
    wait_until(listener.infos.get_subscription_count, "the node to listen")
    return node, listener


def show_all(node: MappingNode, robot: Robot) -> None:
    for index, frame in enumerate(FRAMES):
        robot.show(frame)
        wait_until(lambda n=index: node.session.run.recorder.frames > n, f"frame {index}")


def test_odometry_and_markers_tell_what_pose_and_map_tell(ros: Ros) -> None:
    node, robot = start(ros, "-p", "base_frame:=''")
    wait_until(robot.images.get_subscription_count, "the node to listen to images")
    show_all(node, robot)
    last = FRAMES[-1].stamp_ns
    heard = robot.heard["/st3r_mapping/odometry"]
    wait_until(lambda: heard and conversions.stamp_to_ns(heard[-1].header.stamp) == last, "the last odometry")
    poses = {p.header.stamp.nanosec: p for p in robot.heard["/st3r_mapping/pose"]}
    trajectory = node.session.mapper.map.trajectory()
    for odometry in heard[-5:]:
        assert odometry.child_frame_id == "camera" and odometry.header.frame_id == "map"
        assert odometry.pose == poses[odometry.header.stamp.nanosec].pose
    n = len(trajectory) - 1
    steps = SE3.from_quaternion_xyzw(trajectory.quaternions_xyzw, trajectory.positions)
    T0, T1 = (SE3(steps.rotation[k], steps.translation[k]) for k in (n - 1, n))
    seconds = (trajectory.stamps_ns[n] - trajectory.stamps_ns[n - 1]) * 1e-9
    twist = heard[-1].twist.twist
    found = [twist.linear.x, twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y, twist.angular.z]
    np.testing.assert_allclose(found, (T0.inverse() @ T1).log() / seconds, atol=1e-6)
    variances = np.diag(np.reshape(heard[-1].twist.covariance, (6, 6)))
    assert (variances > 0).all() and (variances < 10).all()

    wait_until(lambda: robot.heard["/st3r_mapping/markers"], "markers")
    keyframes, edges = len(node.session.mapper.map.keyframes), len(node.session.mapper.map.edges)
    wait_until(lambda: len(robot.heard["/st3r_mapping/markers"][-1].markers[0].points) == 16 * keyframes, "all frusta")
    markers = {marker.ns: marker for marker in robot.heard["/st3r_mapping/markers"][-1].markers}
    assert markers["keyframes"].type == Marker.LINE_LIST and len(markers["sequential"].points) == 2 * edges
    assert markers["loop"].action == Marker.DELETE
    apex = markers["keyframes"].points[0]
    first = node.session.mapper.map.T_map_world @ next(iter(node.session.mapper.map.keyframes.values())).T_world_cam.translation
    np.testing.assert_allclose([apex.x, apex.y, apex.z], first, atol=1e-6)


def test_diagnostics_tell_how_the_node_is_in_every_state(ros: Ros) -> None:
    node, robot = start(ros, "-p", "base_frame:=''")
    wait_until(lambda: "tracking" in robot.health(), "diagnostics")
    assert robot.health()["tracking"].level == DiagnosticStatus.WARN  # nothing is tracked yet
    show_all(node, robot)

    def values() -> dict[str, str]:
        return {item.key: item.value for status in robot.health().values() for item in status.values}

    wait_until(lambda: values()["frames processed"] == str(len(FRAMES)), "all images to be counted")
    assert robot.health()["tracking"].level == DiagnosticStatus.OK and values()["state"] == "tracking"
    assert float(values()["process (MB)"]) > 50 and float(values()["total median (ms)"]) > 0
    wait_until(lambda: robot.health()["input"].level == DiagnosticStatus.ERROR, "the silence to be noticed")
    assert "No images on /image" in robot.health()["input"].message
    ros.change(node, "deactivate")
    wait_until(lambda: "not active" in robot.health()["input"].message, "the node to say that it does not listen")
    assert "not active" in robot.health()["tracking"].message
    ros.change(node, "cleanup")
    wait_until(lambda: "lifecycle" in robot.health(), "the node to say that it is not configured")
    assert "not configured" in robot.health()["lifecycle"].message


def test_cleanup_lets_go_of_model_and_map(ros: Ros, loaded_models: list[weakref.ref]) -> None:
    """Else the memory of the GPU would not come back."""
    node, robot = start(ros, "-p", "base_frame:=''")
    show_all(node, robot)
    mapper = node.session.mapper
    assert mapper.map.keyframes
    assert len(loaded_models) == 1
    rest = (mapper, mapper.map, node.session, *mapper.map.keyframes.values())
    held = [*loaded_models, *(weakref.ref(each) for each in rest)]
    del rest
    del mapper
    ros.change(node, "deactivate")
    assert all(each() is not None for each in held)
    ros.change(node, "cleanup")
    assert not [each() for each in held if each() is not None]


def test_who_else_tells_tf_where_the_robot_is_is_named(ros: Ros, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("st3r_ros.ros.tf.listener.LISTEN_S", 1000.0)  # it would listen now and then only
    node, robot = start(ros)
    transform = conversions.transform_message(SE3.identity(), 0, "base_link", "camera")
    robot.static.publish(TFMessage(transforms=[transform]))
    wait_until(lambda: node.source.find_anchor("camera") is not None, "the camera's place")
    show_all(node, robot)
    assert node.source.conflict == ""
    wait_until(lambda: any(t.child_frame_id == "base_link" for m in robot.heard["/tf"] for t in m.transforms), "our transform")
    assert node.source.conflict == ""  # it hears its own
    again = Frame(0, FRAMES[-1].stamp_ns + 10**8, FRAMES[-1].image, FRAMES[-1].camera)

    def conflict() -> bool:
        stamp = again.stamp_ns + len(robot.heard["/tf"])
        robot.transforms.publish(TFMessage(transforms=[conversions.transform_message(SE3.identity(), stamp, "map", "base_link")]))
        return bool(node.source.conflict)

    wait_until(conflict, "the conflict to be noticed")
    assert "map -> base_link" in node.source.conflict and "publish_tf" in node.source.conflict
    robot.show(again)
    wait_until(lambda: "Another publisher" in robot.health()["input"].message, "the diagnostics to tell", 10.0)


def test_qos_of_topics_is_set_by_parameters(ros: Ros) -> None:
    override = ("-p", "qos_overrides./image.subscription.reliability:=reliable")
    node, robot = start(ros, *override, "-p", "base_frame:=''", reliability=ReliabilityPolicy.BEST_EFFORT)
    infos = node.get_subscriptions_info_by_topic("/image")
    assert [info.qos_profile.reliability for info in infos] == [ReliabilityPolicy.RELIABLE]
    assert robot.images.get_subscription_count() == 0  # best effort is less than the node asks for
    for _ in range(2):  # the parameters stay declared
        ros.change(node, "deactivate")
        ros.change(node, "activate")
    ros.change(node, "deactivate")
    ros.change(node, "cleanup")
    ros.change(node, "configure")
    ros.change(node, "activate")
    client = robot.create_client(Trigger, "/st3r_mapping/reset")
    assert client.wait_for_service(10.0)
