# SPDX-License-Identifier: Apache-2.0
"""A mapping node on a robot with odometry, which is right but for a little noise. The tests share it, in any order."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rendered import Rendered
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from st3r_ros.config import SimulationConfig
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import KeyframeGraph, MappingStatus
from st3r_ros.ros import conversions
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.qos import latched, stream
from st3r_ros.ros.tf.transforms import OPTICAL
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.optimization.odometry_check import STAYS
from st3r_ros.types import Frame, Trajectory

FIRST_NS = 1_700_000_000_123_456_789
LATE_NS = 10_000_000
T_BASE_CAM = SE3(OPTICAL.rotation, np.array([0.3, -0.1, 0.5]))
TOLERANCE_NS = 100_000_000
SEQUENCE = SimulatedSequence(SimulationConfig(seed=2, frames=180, width=320, height=240), range(45, 180, 3))
FRAMES = Rendered(SEQUENCE, FIRST_NS)
LATCHED_TOPICS = {"path": Path, "keyframes": KeyframeGraph, "map_cloud": PointCloud2}


def odometry() -> list[SE3]:
    """`T_odom_base` of every frame: the true motion, each step wrong by 1 %, from an origin of its own. The floor is level."""
    rng = np.random.default_rng(0)
    T_world_base = SEQUENCE.T_world_cam @ T_BASE_CAM.inverse()
    poses = [SE3.exp(np.array([4.0, -7.0, 0.0, 0.0, 0.0, 2.0])) @ T_world_base[0]]
    for k in range(1, len(FRAMES)):
        step = (T_world_base[k - 1].inverse() @ T_world_base[k]).log()
        poses.append(poses[-1] @ SE3.exp(step * (1.0 + 0.01 * rng.normal(size=6))))
    return poses


class Robot(Node):
    """A camera, its static TF, odometry that comes a little after the images, and a subscriber of what the node publishes."""

    def __init__(self, mapping: MappingNode) -> None:
        super().__init__("robot")
        self.mapping = mapping
        self.images = self.create_publisher(Image, "image", 5)
        self.infos = self.create_publisher(CameraInfo, "camera_info", 5)
        self.tf = self.create_publisher(TFMessage, "/tf", stream(100))
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.static = self.create_publisher(TFMessage, "/tf_static", kept)
        self.static.publish(TFMessage(transforms=[conversions.transform_message(T_BASE_CAM, 0, "base_link", "camera")]))
        self.heard: dict[str, list[Any]] = defaultdict(list)
        for topic, kind in LATCHED_TOPICS.items():
            self.create_subscription(kind, f"/st3r_mapping/{topic}", self.heard[topic].append, latched())
        self.create_subscription(MappingStatus, "/st3r_mapping/status", self.heard["status"].append, latched())
        self.create_subscription(PoseWithCovarianceStamped, "/st3r_mapping/pose", self.heard["pose"].append, stream(100))
        self.create_subscription(TFMessage, "/tf", self._hear_transforms, stream(100))
        self.reset = self.create_client(Trigger, "/st3r_mapping/reset")

    def _hear_transforms(self, message: TFMessage) -> None:
        self.heard["from map"] += [item for item in message.transforms if item.header.frame_id == "map"]

    @property
    def status(self) -> MappingStatus:
        """The newest status."""
        return self.heard["status"][-1] if self.heard["status"] else MappingStatus()

    def drive(self, T_odom_base: SE3, stamp_ns: int) -> None:
        """Say where odometry is."""
        self.tf.publish(TFMessage(transforms=[conversions.transform_message(T_odom_base, stamp_ns, "odom", "base_link")]))

    def send(self, frame: Frame, T_odom_base: SE3 | None) -> None:
        """Publish an image, with odometry before and after it, and wait until the node has dealt with it."""
        done = handled(self.status)
        if T_odom_base is not None:
            self.drive(T_odom_base, frame.stamp_ns - LATE_NS)
        self.infos.publish(conversions.camera_message(frame.camera, frame.stamp_ns, "camera", 320, 240))
        self.images.publish(conversions.image_message(frame, "camera"))
        if T_odom_base is not None:
            time.sleep(0.01)
            self.drive(T_odom_base, frame.stamp_ns + LATE_NS)
        wait_until(lambda: handled(self.status) > done, f"frame {frame.id} to be handled")

    def wait_for_statuses(self, count: int) -> None:
        """Until that many more have come, one every 20 ms."""
        wanted = len(self.heard["status"]) + count
        wait_until(lambda: len(self.heard["status"]) >= wanted, f"{count} statuses")

    def drive_sequence(self, begin_ns: int) -> None:
        """Send the sequence with its odometry, the first image stamped `begin_ns`; wait for the last pose."""
        for frame, T_odom_base in zip(FRAMES, odometry(), strict=True):
            self.send(replace(frame, stamp_ns=begin_ns + frame.stamp_ns - FRAMES[0].stamp_ns), T_odom_base)
        wait_until(lambda: stamp_of(self.heard["pose"][-1]) == stamp_of(self.status), "the last pose")


def handled(status: MappingStatus) -> int:
    return status.frames_processed + status.frames_skipped + status.frames_dropped


def stamp_of(message: Any) -> int:
    return conversions.stamp_to_ns(message.header.stamp)


def pose_of(pose: Any) -> SE3:
    p, q = pose.position, pose.orientation
    return SE3.from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z]))


def truth_in_map() -> Trajectory:
    """The true path of the base, by the stamps of the images."""
    T_world_base = SEQUENCE.T_world_cam @ T_BASE_CAM.inverse()
    return Trajectory(np.array([frame.stamp_ns for frame in FRAMES]), T_world_base.translation, T_world_base.quaternion_xyzw)


def trajectory_of(path: Path) -> Trajectory:
    poses = [pose_of(item.pose) for item in path.poses]
    stamps = np.array([stamp_of(item) for item in path.poses])
    return Trajectory(stamps, np.array([pose.translation for pose in poses]), np.array([pose.quaternion_xyzw for pose in poses]))


@pytest.fixture(scope="module")
def module_ros() -> Iterator[Ros]:
    ros = Ros()
    yield ros
    ros.stop()


@dataclass(frozen=True)
class Journey:
    """What was heard while a robot drove the whole sequence, then the path of the whole."""

    robot: Robot
    status: MappingStatus
    heard: dict[str, list[Any]]
    path: Path


@pytest.fixture(scope="module")
def journey(module_ros: Ros) -> Journey:
    """Path, keyframes and cloud come only when the map has begun, or must."""
    settings = {"odom_frame": "odom", "map_publish_period": "1000.0", "status_period": "0.02", "odom_wait": "2.0"}
    module_ros.init(*(word for name, value in settings.items() for word in ("-p", f"{name}:={value}")))
    mapping = MappingNode(Stop())
    robot = Robot(mapping)
    mapping.start()
    module_ros.spin(mapping)
    module_ros.spin(robot)
    publishers = (robot.images, robot.infos, robot.static, robot.tf)
    wait_until(lambda: all(publisher.get_subscription_count() for publisher in publishers), "the node to listen")
    wait_until(lambda: robot.heard["status"], "a status")
    while robot.status.frames_processed == 0:  # the first images wait for camera_info and TF
        robot.send(FRAMES[0], odometry()[0])
    wait_until(robot.reset.call_async(Trigger.Request()).done, "the reset")
    wait_until(lambda: handled(robot.status) == 0, "an empty status")
    for messages in robot.heard.values():
        messages.clear()
    robot.drive_sequence(FRAMES[0].stamp_ns)
    sent = len(robot.heard["from map"])
    wait_until(lambda: len(robot.heard["from map"]) >= sent + 3, "transforms from after the last pose")
    heard, status = {topic: list(messages) for topic, messages in robot.heard.items()}, robot.status
    assert mapping.set_parameters_atomically([Parameter("map_publish_period", value=0.0)]).successful
    wait_until(lambda: len(robot.heard["path"]) > len(heard["path"]), "the last path")
    return Journey(robot, status, heard, robot.heard["path"][-1])


@pytest.fixture
def robot(journey: Journey) -> Robot:
    """A robot that has driven the sequence, whatever another test has done to the map."""
    robot = journey.robot
    if robot.status.scale_source != "odometry":
        robot.drive_sequence(stamp_of(robot.heard["pose"][-1]) + 10**10)
    return robot


def test_the_map_is_in_metres_by_odometry(journey: Journey) -> None:
    assert journey.status.state == MappingStatus.TRACKING
    assert journey.status.scale_source == "odometry"
    assert 0.009 < journey.status.scale_sigma < 0.05
    sources = [status.scale_source for status in journey.heard["status"]]
    assert sources == sorted(sources)  # first none, then odometry


def test_cloud_keyframes_and_path_get_the_new_unit_with_the_pose(journey: Journey) -> None:
    """In the update that made the map metric; the next ones would have had to wait for a quarter of an hour."""
    published = {stamp_of(item) for item in journey.heard["keyframes"]}
    metric = [stamp_of(status) for status in journey.heard["status"] if status.scale_source == "odometry"]
    # A status of the timer may come before the image that has made the map metric is published.
    change = next(stamp for stamp in metric[:2] if stamp in published)
    messages = {topic: [item for item in journey.heard[topic] if stamp_of(item) == change] for topic in LATCHED_TOPICS}
    path, graph, cloud = (messages[topic][-1] for topic in ("path", "keyframes", "map_cloud"))
    pose = next(pose for pose in journey.heard["pose"] if stamp_of(pose) == change)
    np.testing.assert_allclose(pose_of(path.poses[-1].pose).as_matrix(), pose_of(pose.pose.pose).as_matrix(), atol=1e-9)
    errors = evaluate_trajectory(trajectory_of(path), truth_in_map())
    assert errors.scale == pytest.approx(1.0, abs=0.07)
    positions = {stamp_of(item): item.pose.position for item in path.poses}
    for keyframe in graph.keyframes:
        T_map_base = pose_of(keyframe.pose) @ T_BASE_CAM.inverse()
        base = positions[conversions.stamp_to_ns(keyframe.stamp)]
        np.testing.assert_allclose(T_map_base.translation, [base.x, base.y, base.z], atol=1e-6)
    # What the first image shows has its true depth.
    T_map_cam = pose_of(graph.keyframes[0].pose)
    points = T_map_cam.inverse() @ np.frombuffer(cloud.data, "<f4").reshape(-1, 5)[:, :3].astype(np.float64)
    pixels = SEQUENCE.camera.project(points)
    inside = (points[:, 2] > 0) & (pixels > 0).all(1) & (pixels < [319, 239]).all(1)
    column, row = np.rint(pixels[inside]).astype(int).T
    true_depth = SEQUENCE.renderer.depth(SEQUENCE.camera, SEQUENCE.T_world_cam[0])[row, column]
    assert np.median(points[inside, 2] / true_depth) == pytest.approx(1.0, abs=0.08)


def test_the_path_has_its_true_length(journey: Journey) -> None:
    path, truth = trajectory_of(journey.path), truth_in_map()
    errors = evaluate_trajectory(path, truth)
    assert errors.scale == pytest.approx(1.0, abs=0.05)
    assert errors.ate_se3 < 0.05
    driven = truth.positions[np.searchsorted(truth.stamps_ns, path.stamps_ns)]
    length, true_length = (np.linalg.norm(np.diff(way, axis=0), axis=1).sum() for way in (path.positions, driven))
    assert length == pytest.approx(true_length, rel=0.05)
    assert true_length > 1.5


def test_only_odometry_is_placed_in_the_map(journey: Journey) -> None:
    """The base has a parent, odometry."""
    assert {item.child_frame_id for item in journey.heard["from map"]} == {"odom"}


def test_map_and_odometry_agree_on_the_robot(journey: Journey) -> None:
    T_map_odom = conversions.transform_from_message(journey.heard["from map"][-1].transform)
    T_map_base = T_map_odom @ odometry()[-1]
    np.testing.assert_allclose(T_map_base.as_matrix(), pose_of(journey.heard["pose"][-1].pose.pose).as_matrix(), atol=1e-6)


def test_the_map_is_as_level_as_odometry(journey: Journey) -> None:
    tilt = SEQUENCE.T_world_cam[0] @ T_BASE_CAM.inverse()
    assert tilt.rotation[2, 2] < 0.999  # the first image is not level
    for item in (journey.heard["from map"][0], journey.heard["from map"][-1]):
        up = conversions.transform_from_message(item.transform).rotation[:, 2]
        np.testing.assert_allclose(up, [0.0, 0.0, 1.0], atol=0.05)


def test_the_transform_is_sent_again_and_again_a_little_ahead_of_the_images_time(robot: Robot) -> None:
    sent, newest = len(robot.heard["from map"]), stamp_of(robot.heard["pose"][-1])
    wait_until(lambda: len(robot.heard["from map"]) >= sent + 5, "five more transforms without an image")
    stamps = [stamp_of(item) for item in robot.heard["from map"][sent:]]
    assert stamps == sorted(set(stamps))
    assert newest + TOLERANCE_NS < stamps[0] and stamps[4] < newest + 60 * 10**9
    assert stamps[4] - stamps[0] > 0.15 * 10**9  # five at 20 Hz


def test_an_image_without_odometry_is_mapped_and_odometry_stays_where_it_was(robot: Robot) -> None:
    before, tracked = robot.heard["from map"][-1].transform, robot.status.frames_tracked
    later = stamp_of(robot.status) + 10**9
    robot.send(replace(FRAMES[-1], stamp_ns=later), None)
    wait_until(lambda: robot.status.frames_tracked == tracked + 1, "the image to be tracked")
    wait_until(lambda: stamp_of(robot.heard["pose"][-1]) == later, "its pose")
    sent = len(robot.heard["from map"])
    wait_until(lambda: len(robot.heard["from map"]) >= sent + 2, "more transforms")
    assert robot.heard["from map"][-1].transform == before


def test_odometry_that_cannot_be_true_does_not_move_the_map(robot: Robot) -> None:
    """The robot stands. A pose that is wrong once, one of 1e30 m, and odometry that is reset and stays there."""
    T_odom_base = odometry()[-1]
    wrong = SE3(T_odom_base.rotation, T_odom_base.translation + np.array([5.0, 1.0, 0.0]))
    absurd = SE3(T_odom_base.rotation, np.full(3, 1e30))
    reset = SE3.exp(np.array([-3.0, 30.0, 0.0, 0.0, 0.0, 0.5]))

    def place(T: SE3) -> int:
        """Send the next image, with odometry that is there already; its stamp."""
        later = stamp_of(robot.status) + 2 * 10**8
        for side in (-LATE_NS, LATE_NS):
            robot.drive(T, later + side)
        robot.send(replace(FRAMES[-1], stamp_ns=later), None)
        return later

    def stand(T: SE3) -> SE3:
        """The next image, with odometry; `T_map_odom` after it."""
        later = place(T)
        wait_until(lambda: stamp_of(robot.heard["pose"][-1]) == later, "its pose")
        sent = len(robot.heard["from map"])
        wait_until(lambda: len(robot.heard["from map"]) >= sent + 2, "transforms from after the pose")
        return conversions.transform_from_message(robot.heard["from map"][-1].transform)

    begin = stand(T_odom_base)
    for T in (wrong, T_odom_base, wrong, T_odom_base):
        np.testing.assert_allclose(stand(T).as_matrix(), begin.as_matrix(), atol=0.02)
    refused = robot.mapping.session.odometry_refused
    assert refused >= 2
    robot.drive(absurd, stamp_of(robot.status) + 10**8)
    np.testing.assert_allclose(stand(T_odom_base).as_matrix(), begin.as_matrix(), atol=0.02)
    assert robot.mapping.source.invalid_transforms >= 1
    assert robot.mapping.session.odometry_refused == refused
    for _ in range(STAYS - 1):
        np.testing.assert_allclose(stand(reset).as_matrix(), begin.as_matrix(), atol=0.02)
    assert "faster than 50 m/s" in robot.mapping.session.odometry_fault
    T_map_base = pose_of(robot.heard["pose"][-1].pose.pose)
    np.testing.assert_allclose((stand(reset) @ reset).as_matrix(), T_map_base.as_matrix(), atol=0.02)
    assert "Odometry has jumped" in robot.status.message
    for k in range(7):  # from place to place, for more than a second
        place(SE3(reset.rotation, np.array([0.0, 20.0 * k, 0.0])))
    robot.wait_for_statuses(10)  # transforms that were on their way arrive before
    sent = len(robot.heard["from map"])
    robot.wait_for_statuses(15)
    assert len(robot.heard["from map"]) == sent
    np.testing.assert_allclose((stand(reset) @ reset).as_matrix(), T_map_base.as_matrix(), atol=0.02)
    assert robot.mapping.session.odometry_fault == ""


def test_after_a_reset_nothing_is_said_of_odometry(robot: Robot) -> None:
    reset = robot.reset.call_async(Trigger.Request())
    wait_until(reset.done, "the reset")
    wait_until(lambda: robot.status.scale_source == "none", "a map without scale")
    assert np.isnan(robot.status.scale_sigma)
    robot.wait_for_statuses(10)  # transforms that were on their way arrive before
    sent = len(robot.heard["from map"])
    robot.wait_for_statuses(15)
    assert len(robot.heard["from map"]) == sent
