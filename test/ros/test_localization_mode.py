# SPDX-License-Identifier: Apache-2.0
"""A mapping node that saves its map, one that only localizes in it, and one that goes on in it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Pose, PoseWithCovarianceStamped
from nav_msgs.msg import Path as PathMessage
from rclpy.node import Node
from rclpy.parameter import Parameter
from rendered import Rendered
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import MappingStatus
from st3r_ros.ros import conversions
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.qos import latched, stream
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.srv import ExportMap, LoadMap, SaveMap
from st3r_ros.types import Frame

FIRST_NS = 1_700_000_000_000_000_000
SEQUENCE = SimulatedSequence(SimulationConfig(seed=2, frames=40, fps=8.0, width=320, height=240))
FRAMES = Rendered(SEQUENCE, FIRST_NS)
MAPPED, UNSEEN = FRAMES[0:32:2], FRAMES[1:32:2]
NODE = ("-p", "base_frame:=''", "-p", "input_wait:=0.0", "-p", "map_publish_period:=0.0", "-p", "status_period:=0.05")
SERVICES = {"reset": Trigger, "load_map": LoadMap, "save_map": SaveMap, "export_map": ExportMap}


class Robot(Node):
    """A camera and a client of the mapping node."""

    def __init__(self) -> None:
        super().__init__("robot")
        self.images = self.create_publisher(Image, "image", 5)
        self.infos = self.create_publisher(CameraInfo, "camera_info", 5)
        self.initialpose = self.create_publisher(PoseWithCovarianceStamped, "initialpose", 5)
        self.heard: dict[str, list[Any]] = defaultdict(list)
        topics = {
            "status": (MappingStatus, latched()),
            "pose": (PoseWithCovarianceStamped, stream(100)),
            "path": (PathMessage, latched()),
        }
        for topic, (kind, qos) in topics.items():
            self.create_subscription(kind, f"/st3r_mapping/{topic}", self.heard[topic].append, qos)
        self.clients_of = {name: self.create_client(kind, f"/st3r_mapping/{name}") for name, kind in SERVICES.items()}

    @property
    def status(self) -> MappingStatus:
        return self.heard["status"][-1] if self.heard["status"] else MappingStatus()

    def show(self, frame: Frame, **header: Any) -> MappingStatus:
        """Publish an image, wait until the node has dealt with it, and return the status after it."""
        done = handled(self.status)
        self.infos.publish(conversions.camera_message(frame.camera, frame.stamp_ns, "camera", 320, 240))
        self.images.publish(conversions.image_message(frame, "camera"))
        wait_until(lambda: handled(self.status) > done, f"frame {frame.id} to be handled")
        return self.status

    def call(self, service: str, **fields: Any) -> Any:
        assert self.clients_of[service].wait_for_service(20.0)
        future = self.clients_of[service].call_async(SERVICES[service].Request(**fields))
        wait_until(future.done, f"the answer of {service}")
        return future.result()


def handled(status: MappingStatus) -> int:
    return status.frames_processed + status.frames_skipped + status.frames_dropped


def as_se3(pose: Pose) -> SE3:
    p, q = pose.position, pose.orientation
    return SE3.from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z]))


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def start(ros: Ros, *arguments: str) -> tuple[MappingNode, Robot]:
    ros.init(*NODE, *arguments)
    stop = Stop()
    node, robot = MappingNode(stop), Robot()
    node.start()
    assert stop.exit_code == 0
    for each in (node, robot):
        ros.spin(each)
    publishers = (robot.images, robot.infos, robot.initialpose)
    wait_until(lambda: all(publisher.get_subscription_count() for publisher in publishers), "the node to listen")
    wait_until(lambda: robot.heard["status"], "a status")
    return node, robot


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[int, SE3]]]:
    """A map that a node has made of every other frame and saved at its end, and the poses that it told, by stamp."""
    folder = tmp_path_factory.mktemp("maps") / "room"
    ros = Ros()
    try:
        _, robot = start(ros, "-p", f"map_path:={folder}", "-p", "save_on_shutdown:=true")
        for frame in MAPPED:
            robot.show(frame)
        last = MAPPED[-1].stamp_ns
        wait_until(lambda: stamp_of(robot.heard["pose"][-1]) == last, "the last pose")
        told = {stamp_of(message): as_se3(message.pose.pose) for message in robot.heard["pose"]}
        assert not folder.exists()
    finally:
        ros.stop()
    assert (folder / "map.json").is_file()
    yield folder, told


def stamp_of(message: Any) -> int:
    return conversions.stamp_to_ns(message.header.stamp)


def test_a_camera_is_found_at_the_start_and_the_map_stays(ros: Ros, saved: tuple[Path, dict[int, SE3]]) -> None:
    folder, told = saved
    before = digests(folder)
    _, robot = start(ros, "-p", "mode:=localization", "-p", f"map_path:={folder}", "-p", "save_on_shutdown:=true")
    keyframes = robot.status.keyframes
    assert robot.status.state == MappingStatus.LOST and keyframes >= 2 and robot.status.frames_tracked == 0
    states = [robot.show(frame).state for frame in UNSEEN]
    assert states[0] in (MappingStatus.RELOCALIZED, MappingStatus.LOST)
    assert states.count(MappingStatus.TRACKING) >= len(states) // 2
    wait_until(lambda: stamp_of(robot.heard["path"][-1]) == UNSEEN[-1].stamp_ns, "the last path")
    poses = {stamp_of(message): as_se3(message.pose.pose) for message in robot.heard["pose"]}
    assert set(poses) <= {frame.stamp_ns for frame in UNSEEN}
    path = robot.heard["path"][-1].poses
    assert len(path) == len(poses) == robot.status.frames_tracked  # of this run only
    stamps = sorted(told)
    for stamp, pose in poses.items():  # half way between the poses that the mapping told for the frames before and after
        after = np.searchsorted(stamps, stamp)
        if 0 < after < len(stamps):
            between = [told[s].translation for s in stamps[after - 1 : after + 1]]
            assert np.linalg.norm(pose.translation - np.mean(between, axis=0)) < 0.1
    assert robot.status.keyframes == keyframes
    ros.stop_nodes()
    assert digests(folder) == before


def test_somebody_tells_where_the_robot_is(ros: Ros, saved: tuple[Path, dict[int, SE3]]) -> None:
    folder, told = saved
    node, robot = start(ros, "-p", "mode:=localization", "-p", f"map_path:={folder}", "-p", "mapper.relocalization_period:=0.0")
    guesses, arrived = [], []
    real, expect = node.session.mapper.expect, node.session.expect
    node.session.mapper.expect = lambda T: guesses.append(T) or real(T)
    node.session.expect = lambda pose: arrived.append(expect(pose))
    robot.show(UNSEEN[3])

    def tell(frame_id: str, pose: Pose, frame: Frame) -> MappingStatus:
        message = PoseWithCovarianceStamped()
        message.header.frame_id, message.pose.pose = frame_id, pose
        heard = len(arrived)
        robot.initialpose.publish(message)
        wait_until(lambda: len(arrived) > heard, "initialpose to arrive")
        return robot.show(frame)

    pose = told[MAPPED[5].stamp_ns]
    status = tell("map", conversions.pose_message(pose), UNSEEN[5])
    assert status.state == MappingStatus.RELOCALIZED and len(guesses) == 1
    T_map_world = node.session.mapper.map.T_map_world
    np.testing.assert_allclose((T_map_world @ guesses[0]).translation, pose.translation, atol=1e-9)
    level = Pose()  # RViz: where the camera stands, and x is the way it looks
    level.orientation.w = 1.0
    tell("map", level, UNSEEN[6])
    np.testing.assert_allclose(guesses[1].rotation, T_map_world.rotation.T @ ROS_OPTICAL, atol=1e-6)
    tell("odom", level, UNSEEN[7])
    nowhere = Pose()
    nowhere.orientation.w = 0.0
    tell("map", nowhere, UNSEEN[8])
    assert len(guesses) == 2


ROS_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def test_maps_are_loaded_saved_and_exported_live(ros: Ros, saved: tuple[Path, dict[int, SE3]], tmp_path: Path) -> None:
    folder, _ = saved
    node, robot = start(ros)
    for service in ("load_map", "save_map"):
        answer = robot.call(service)
        assert not answer.success and "folder" in answer.message
    assert not robot.call("save_map", folder=str(tmp_path / "empty")).success
    assert not robot.call("export_map", path=str(tmp_path / "empty.ply")).success
    answer = robot.call("load_map", folder=str(tmp_path))
    assert not answer.success and "map.json" in answer.message
    assert not robot.call("load_map", folder="x" * 5000).success
    answer = robot.call("load_map", folder=str(folder))
    assert answer.success and "keyframes" in answer.message
    wait_until(lambda: robot.status.keyframes >= 2, "the loaded map")
    for frame in UNSEEN[:3]:
        robot.show(frame)
    assert node.session.mapper.state.name in ("TRACKING", "RELOCALIZED")
    other = tmp_path / "other"
    assert robot.call("save_map", folder=str(other)).success and (other / "map.json").is_file()
    assert robot.call("save_map").success
    assert robot.call("export_map", path=str(tmp_path / "room.ply")).success and (tmp_path / "room.ply").stat().st_size > 10000
    answer = robot.call("export_map", format="tum", path=str(tmp_path / "tum"))
    assert answer.success and (tmp_path / "tum" / "trajectory.txt").is_file()
    answer = robot.call("export_map", format="obj", path=str(tmp_path / "room.obj"))
    assert not answer.success and "ply" in answer.message
    assert not robot.call("export_map").success
    assert robot.call("reset").success
    wait_until(lambda: robot.status.keyframes == 0, "the empty map")


def test_localizing_waits_for_a_map(ros: Ros, saved: tuple[Path, dict[int, SE3]]) -> None:
    folder, _ = saved
    _, robot = start(ros, "-p", "mode:=localization")
    assert "no map" in robot.show(UNSEEN[2]).message
    assert robot.status.state == MappingStatus.LOST
    assert robot.call("load_map", folder=str(folder)).success
    assert robot.show(UNSEEN[4]).state == MappingStatus.RELOCALIZED
    answer = robot.call("reset")
    assert answer.success and "kept" in answer.message
    wait_until(lambda: robot.status.state == MappingStatus.LOST and robot.status.keyframes > 0, "the map to be searched again")


def test_images_of_another_size_are_refused_with_the_reason(ros: Ros, saved: tuple[Path, dict[int, SE3]]) -> None:
    folder, _ = saved
    _, robot = start(ros, "-p", f"map_path:={folder}")
    image = np.zeros((100, 200, 3), np.uint8)
    status = robot.show(Frame(0, FIRST_NS, image, SEQUENCE.camera))
    assert status.frames_skipped == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-p", "map_path:=/nowhere/at/all"), "/nowhere/at/all"),
        (("-p", "save_on_shutdown:=true"), "map_path is empty"),
    ],
)
def test_a_node_that_cannot_use_its_map_says_so(ros: Ros, capfd: pytest.CaptureFixture, arguments: tuple, sentence: str) -> None:
    ros.init(*NODE, *arguments)
    stop = Stop()
    node = MappingNode(stop)
    node.start()
    assert stop.exit_code == 2
    node.destroy_node()
    captured = capfd.readouterr()
    assert sentence in captured.out + captured.err


def test_mode_is_one_of_two(ros: Ros) -> None:
    ros.init(*NODE, "-p", "mode:=dreaming")
    stop = Stop()
    node = MappingNode(stop)
    node.start()
    assert stop.exit_code == 2
    assert node.get_parameter("mode").type_ == Parameter.Type.STRING
    node.destroy_node()
