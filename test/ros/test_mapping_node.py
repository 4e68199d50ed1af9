# SPDX-License-Identifier: Apache-2.0
"""One mapping node that maps a short simulated sequence from real topics. The tests share it, in any order."""

import array
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rcl_interfaces.msg import Log
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rendered import Rendered
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import KeyframeGraph, MappingStatus
from st3r_ros.ros import conversions
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.qos import latched, stream
from st3r_ros.ros.tf.transforms import OPTICAL
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.types import Frame, Trajectory

FIRST_NS = 1_700_000_000_123_456_789
T_BASE_CAM = SE3(OPTICAL.rotation, np.array([0.3, -0.1, 0.5]))
FRAMES = Rendered(SimulatedSequence(SimulationConfig(frames=30, fps=8.0, width=320, height=240)), FIRST_NS)
FRAME_NAMES = ("-p", "base_frame:=/base_link", "-p", "map_frame:=/map")
"""With the slash of ROS 1, which nothing that goes out has."""
TOPICS: dict[str, tuple[type, QoSProfile]] = {
    "/st3r_mapping/status": (MappingStatus, latched()),
    "/st3r_mapping/pose": (PoseWithCovarianceStamped, stream(100)),
    "/st3r_mapping/path": (Path, latched()),
    "/st3r_mapping/keyframes": (KeyframeGraph, latched()),
    "/st3r_mapping/keyframe_cloud": (PointCloud2, stream(100)),
    "/tf": (TFMessage, stream(100)),
    "/rosout": (Log, latched(1000)),
}


class Robot(Node):
    """A camera driver, the static TF of the camera, and a subscriber of everything but the map."""

    def __init__(self, mapping: MappingNode) -> None:
        super().__init__("robot")
        self.mapping = mapping
        self.images = self.create_publisher(Image, "image", 5)
        self.infos = self.create_publisher(CameraInfo, "camera_info", 5)
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.static = self.create_publisher(TFMessage, "/tf_static", kept)
        self.static.publish(TFMessage(transforms=[conversions.transform_message(T_BASE_CAM, 0, "base_link", "/camera")]))
        self.heard: dict[str, list[Any]] = defaultdict(list)
        for topic, (kind, qos) in TOPICS.items():
            self.create_subscription(kind, topic, self.heard[topic].append, qos)
        self.clients_of = {name: self.create_client(Trigger, f"/st3r_mapping/{name}") for name in ("reset", "pause", "resume")}

    @property
    def status(self) -> MappingStatus:
        """The newest status."""
        return self.heard["/st3r_mapping/status"][-1] if self.heard["/st3r_mapping/status"] else MappingStatus()

    def send(self, frame: Frame, **changes: Any) -> None:
        """Publish a frame, changed, and wait until the node has dealt with it."""
        message = conversions.image_message(frame, "/camera")  # a ROS 1 name
        for name, value in changes.items():
            setattr(message, name, value)
        done = handled(self.status)
        self.infos.publish(conversions.camera_message(frame.camera, frame.stamp_ns, "camera", 320, 240))
        self.images.publish(message)
        wait_until(lambda: handled(self.status) > done, f"frame {frame.id} to be handled")

    def walk(self) -> None:
        """Send the sequence, stamped after what was sent before."""
        begin = max(stamp_of(self.status) + 10**9, FIRST_NS)
        for frame in FRAMES:
            self.send(replace(frame, stamp_ns=begin + frame.stamp_ns - FIRST_NS))

    def call(self, service: str) -> Trigger.Response:
        """Call a service and wait for its answer."""
        future = self.clients_of[service].call_async(Trigger.Request())
        wait_until(future.done, f"the answer of {service}")
        return future.result()


def handled(status: MappingStatus) -> int:
    return status.frames_processed + status.frames_skipped + status.frames_dropped


def stamp_of(message: Any) -> int:
    return conversions.stamp_to_ns(message.header.stamp)


@pytest.fixture(scope="module")
def module_ros() -> Iterator[Ros]:
    ros = Ros()
    yield ros
    ros.stop()


@dataclass(frozen=True)
class Walk:
    """What was heard while the camera showed the whole sequence to the mapping node, and the trajectory in the map then."""

    robot: Robot
    status: MappingStatus
    heard: dict[str, list[Any]]
    trajectory: Trajectory


@pytest.fixture(scope="module")
def walk(module_ros: Ros) -> Walk:
    module_ros.init("-p", "map_publish_period:=0.0", "-p", "status_period:=0.02", "-p", "cloud.min_conf:=0.5", *FRAME_NAMES)
    mapping = MappingNode(Stop())
    robot = Robot(mapping)
    mapping.start()
    module_ros.spin(mapping)
    module_ros.spin(robot)
    publishers = (robot.images, robot.infos, robot.static)
    wait_until(lambda: all(publisher.get_subscription_count() for publisher in publishers), "the node to listen")
    wait_until(lambda: robot.heard["/st3r_mapping/status"], "a status")
    while robot.status.frames_processed == 0:  # the first images wait for camera_info and TF
        robot.send(FRAMES[0])
    assert robot.call("reset").success
    wait_until(lambda: handled(robot.status) == 0, "an empty status")
    for frame in FRAMES:
        robot.send(frame)
    last = FRAMES[-1].stamp_ns
    wait_until(lambda: stamp_of(robot.heard["/st3r_mapping/path"][-1]) == last, "the last path")
    wait_until(lambda: stamp_of(robot.heard["/st3r_mapping/pose"][-1]) == last, "the last pose")
    wait_until(lambda: stamp_of(robot.heard["/tf"][-1].transforms[-1]) == last, "the last transform")
    wait_until(lambda: len(robot.heard["/st3r_mapping/keyframes"][-1].keyframes) == robot.status.keyframes, "the last keyframe")
    newest = robot.heard["/st3r_mapping/keyframes"][-1].keyframes[-1].stamp
    wait_until(lambda: robot.heard["/st3r_mapping/keyframe_cloud"][-1].header.stamp == newest, "its cloud")
    heard = {topic: list(messages) for topic, messages in robot.heard.items()}
    return Walk(robot, robot.status, heard, mapping.session.mapper.map.trajectory())


@pytest.fixture
def robot(walk: Walk) -> Robot:
    """A robot that is tracked, whatever another test has done to the map."""
    if walk.robot.status.state != MappingStatus.TRACKING:
        walk.robot.walk()
    return walk.robot


def test_the_status_tells_what_happened(walk: Walk) -> None:
    status = walk.status
    assert (status.frames_received, status.frames_processed) == (len(FRAMES), len(FRAMES))
    assert (status.frames_dropped, status.frames_skipped) == (0, 0)
    assert status.state == MappingStatus.TRACKING
    assert status.frames_tracked > 0.5 * len(FRAMES)
    assert status.keyframes >= 2
    assert stamp_of(status) == FRAMES[-1].stamp_ns
    assert status.scale_source == "none"
    assert np.isnan(status.scale_sigma)
    assert 0 < status.fps < 1000
    assert len(status.stage_names) == len(status.stage_median_ms) == len(status.stage_p95_ms)
    assert "total" in status.stage_names
    states = [message.state for message in walk.heard["/st3r_mapping/status"]]
    assert states[0] == MappingStatus.WAITING
    assert MappingStatus.INITIALIZING in states
    for message in walk.heard["/st3r_mapping/status"]:  # the message of a state ends with it
        assert ("sideways" in message.message) == (message.state == MappingStatus.INITIALIZING)
    log = walk.robot.heard["/rosout"]
    wait_until(lambda: any(line.msg == "The map has begun." for line in log), "the line that the map has begun")
    assert sum("sideways" in line.msg for line in log) < states.count(MappingStatus.INITIALIZING)  # not with every image


def test_pose_tf_and_path_carry_the_stamps_of_the_images(walk: Walk) -> None:
    sent = [frame.stamp_ns for frame in FRAMES]
    poses = {stamp_of(message): message for message in walk.heard["/st3r_mapping/pose"]}
    transforms = {stamp_of(item): item for message in walk.heard["/tf"] for item in message.transforms}
    path = walk.heard["/st3r_mapping/path"][-1]
    assert poses.keys() == transforms.keys()
    assert set(poses) <= set(sent)
    stamps = [stamp_of(pose) for pose in path.poses]
    assert stamps == [stamp for stamp in sent if stamp in set(stamps)]
    assert set(poses) <= set(stamps)
    assert len(stamps) == walk.status.frames_tracked
    assert {path.header.frame_id, *(pose.header.frame_id for pose in path.poses)} == {"map"}
    for stamp, transform in transforms.items():
        assert (transform.header.frame_id, transform.child_frame_id) == ("map", "base_link")
        pose = poses[stamp].pose.pose
        T = transform.transform
        assert (T.translation.x, T.translation.y, T.translation.z) == (pose.position.x, pose.position.y, pose.position.z)
        assert T.rotation == pose.orientation


def test_the_path_is_that_of_the_base_and_starts_at_the_origin(walk: Walk) -> None:
    trajectory = walk.trajectory
    T_world_cam = SE3.from_quaternion_xyzw(trajectory.quaternions_xyzw, trajectory.positions)
    expected = T_BASE_CAM @ T_world_cam @ T_BASE_CAM.inverse()
    path = walk.heard["/st3r_mapping/path"][-1]
    positions = [[item.pose.position.x, item.pose.position.y, item.pose.position.z] for item in path.poses]
    np.testing.assert_allclose(positions, expected.translation, atol=1e-9)
    np.testing.assert_allclose(positions[0], np.zeros(3), atol=1e-9)
    start = path.poses[0].pose.orientation
    np.testing.assert_allclose([start.x, start.y, start.z, start.w], [0.0, 0.0, 0.0, 1.0], atol=1e-9)


def test_covariances_are_covariances(walk: Walk) -> None:
    assert walk.heard["/st3r_mapping/pose"]
    for message in walk.heard["/st3r_mapping/pose"]:
        covariance = np.reshape(message.pose.covariance, (6, 6))
        np.testing.assert_allclose(covariance, covariance.T, rtol=1e-6, atol=1e-15)
        assert np.linalg.eigvalsh(covariance).min() > 0
        assert np.sqrt(np.diag(covariance)).max() < 1.0


def test_the_keyframe_graph_is_whole(walk: Walk) -> None:
    graph = walk.heard["/st3r_mapping/keyframes"][-1]
    ids = [keyframe.id for keyframe in graph.keyframes]
    assert ids == sorted(set(ids))
    assert len(ids) == walk.status.keyframes
    assert all(edge.i in ids and edge.j in ids and edge.matches > 0 for edge in graph.edges)
    assert len(graph.edges) >= len(ids) - 1
    assert {conversions.stamp_to_ns(keyframe.stamp) for keyframe in graph.keyframes} <= {frame.stamp_ns for frame in FRAMES}
    assert all(keyframe.scale > 0 for keyframe in graph.keyframes)


def test_the_newest_keyframe_comes_as_an_organised_cloud(walk: Walk) -> None:
    cloud = walk.heard["/st3r_mapping/keyframe_cloud"][-1]
    newest = walk.heard["/st3r_mapping/keyframes"][-1].keyframes[-1]
    assert (cloud.height, cloud.width) == (240, 320)
    assert cloud.header.frame_id == "camera"
    assert cloud.header.stamp == newest.stamp
    z = [np.frombuffer(heard.data, "<f4").reshape(-1, 5)[:, 2] for heard in walk.heard["/st3r_mapping/keyframe_cloud"]]
    assert all((depth[np.isfinite(depth)] > 0).all() for depth in z)
    assert max(np.isfinite(depth).mean() for depth in z) > 0.01


def test_a_late_subscriber_gets_the_latched_map(robot: Robot) -> None:
    late = Node("late")
    clouds: list[PointCloud2] = []
    subscription = late.create_subscription(PointCloud2, "/st3r_mapping/map_cloud", clouds.append, latched())
    ros = Ros()
    ros.spin(late)
    try:
        wait_until(lambda: clouds, "the map, of which nobody had heard before")
        late.destroy_subscription(subscription)
        late.create_subscription(PointCloud2, "/st3r_mapping/map_cloud", clouds.append, latched())
        wait_until(lambda: len(clouds) > 1, "the latched map")
    finally:
        ros.stop_nodes()
    assert clouds[0].header.frame_id == "map"
    assert clouds[0].width > 1000
    assert clouds[0] == clouds[1]
    points = np.frombuffer(clouds[0].data, "<f4").reshape(-1, 5)[:, :3]
    camera = T_BASE_CAM.translation
    assert np.median(points[:, 0]) > camera[0] + 0.5  # the room is in front of the robot


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "foo"}, "foo"),
        ({"data": array.array("B", bytes(100))}, "100 bytes"),
        ({"step": 7}, "step"),
    ],
)
def test_an_unusable_image_is_skipped_and_the_stream_goes_on(robot: Robot, changes: dict, reason: str) -> None:
    before = robot.status
    last = FRAMES[-1]
    robot.send(Frame(0, stamp_of(before) + 10**6, last.image, last.camera), **changes)
    assert robot.status.frames_skipped == before.frames_skipped + 1
    assert robot.status.frames_processed == before.frames_processed
    assert reason in robot.status.message
    robot.send(Frame(0, stamp_of(before) + 2 * 10**6, last.image, last.camera))
    assert robot.status.frames_processed == before.frames_processed + 1
    assert robot.status.state == MappingStatus.TRACKING
    assert "Skipped" not in robot.status.message


def test_an_image_that_is_not_later_than_the_last_is_skipped(robot: Robot) -> None:
    before = robot.status
    for step in (0, -(10**6)):
        robot.send(Frame(0, stamp_of(before) + step, FRAMES[-1].image, FRAMES[-1].camera))
    assert robot.status.frames_skipped == before.frames_skipped + 2
    assert "not later" in robot.status.message


def test_an_image_of_another_size_is_skipped(robot: Robot) -> None:
    before = robot.status
    small = np.ascontiguousarray(FRAMES[-1].image[:120, :160])
    robot.send(Frame(0, stamp_of(before) + 10**6, small, FRAMES[-1].camera))
    assert robot.status.frames_skipped == before.frames_skipped + 1
    assert "160x120" in robot.status.message


def test_pause_ignores_images_and_resume_goes_on(robot: Robot) -> None:
    answer = robot.call("pause")
    assert answer.success
    wait_until(lambda: robot.status.state == MappingStatus.PAUSED, "the state PAUSED")
    assert "until ~/resume" in robot.status.message
    before, begin = robot.status, time.monotonic()
    message = conversions.image_message(FRAMES[-1], "camera")
    message.header = conversions.header(stamp_of(before) + 10**6, "camera")
    robot.images.publish(message)
    wait_until(lambda: robot.mapping.source.last_image > begin, "the image to arrive")
    assert robot.call("resume").success
    wait_until(lambda: robot.status.state == MappingStatus.TRACKING, "the state TRACKING")
    assert "Paused" not in robot.status.message
    robot.send(Frame(0, stamp_of(before) + 10**7, FRAMES[-1].image, FRAMES[-1].camera))
    assert robot.status.frames_processed == before.frames_processed + 1


def test_when_time_goes_back_tracking_starts_again_in_the_same_map(robot: Robot) -> None:
    keyframes = robot.status.keyframes
    back = stamp_of(robot.status) - 10**11 - FRAMES[-1].stamp_ns
    for frame in FRAMES[-4:]:
        robot.send(replace(frame, stamp_ns=frame.stamp_ns + back))
    assert robot.status.state in (MappingStatus.TRACKING, MappingStatus.RELOCALIZED)
    assert robot.status.keyframes >= keyframes
    assert stamp_of(robot.status) == FRAMES[-1].stamp_ns + back


def test_live_parameters_change_the_map_that_is_published(robot: Robot) -> None:
    clouds: list[PointCloud2] = []
    late = Node("late")
    late.create_subscription(PointCloud2, "/st3r_mapping/map_cloud", clouds.append, latched())
    ros = Ros()
    ros.spin(late)
    try:
        wait_until(lambda: clouds, "the map")
        result = robot.mapping.set_parameters_atomically([Parameter("cloud.voxel_size", value=0.5)])
        assert result.successful
        wait_until(lambda: clouds[-1].width < clouds[0].width / 5, "a much thinner map")
        robot.mapping.set_parameters_atomically([Parameter("cloud.voxel_size", value=0.02)])
        wait_until(lambda: clouds[-1].width > clouds[0].width / 2, "the map as before, which other tests look at")
    finally:
        robot.mapping.set_parameters_atomically([Parameter("cloud.voxel_size", value=0.02)])
        ros.stop_nodes()


def test_reset_forgets_everything_when_it_answers(robot: Robot) -> None:
    assert robot.call("reset").success
    assert len(robot.mapping.session.mapper.map.keyframes) == 0
    wait_until(lambda: handled(robot.status) == 0 and robot.status.state == MappingStatus.WAITING, "an empty status")
    assert robot.status.keyframes == 0
    wait_until(lambda: len(robot.heard["/st3r_mapping/path"][-1].poses) == 0, "an empty path")
    robot.send(FRAMES[0])
    assert robot.status.state == MappingStatus.INITIALIZING


def test_silence_is_explained(robot: Robot) -> None:
    wait_until(lambda: "No images on /image" in robot.status.message, "the status to complain")
    assert "does not publish" in robot.status.message
    assert robot.status.fps == 0.0
