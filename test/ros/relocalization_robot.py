# SPDX-License-Identifier: Apache-2.0
"""A relocalization node in a simulated room, and a robot that shows it images and calls it."""

import array
import math
from collections import defaultdict
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose, PoseWithCovarianceStamped
from rclpy.node import Node
from rendered import Rendered
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.maps.save import save_map
from st3r_ros.msg import RelocalizationResult
from st3r_ros.pair import load_pair_model
from st3r_ros.ros import conversions
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.nodes.relocalization_node import RelocalizationNode
from st3r_ros.ros.qos import latched, stream
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.mapper import Mapper
from st3r_ros.srv import LoadMap, Relocalize, SetReference
from st3r_ros.types import Frame

FIRST_NS = 1_700_000_000_123_456_789
SEQUENCE = SimulatedSequence(SimulationConfig(frames=24, fps=8.0, width=320, height=240))
FRAMES = Rendered(SEQUENCE, FIRST_NS)
QUERY = 6
NAME = "/st3r_relocalization"
SERVICES = {"set_reference": SetReference, "relocalize": Relocalize, "load_map": LoadMap}
UNSEEN = Frame(0, FIRST_NS, np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8), SEQUENCE.camera)
NODE = ("-p", "input_wait:=0.0", "-p", "image_wait:=10.0", "-p", "reference_frame:=/dock")


class Robot(Node):
    """A camera driver, and a listener and client of the relocalization node. watching: whether it looks at the matches."""

    beside: RelocalizationNode

    def __init__(self, *, watching: bool = True) -> None:
        super().__init__("robot")
        self.images = self.create_publisher(Image, "image", 5)
        self.infos = self.create_publisher(CameraInfo, "camera_info", 5)
        self.heard: dict[str, list[Any]] = defaultdict(list)
        topics = {"result": (RelocalizationResult, latched()), "pose": (PoseWithCovarianceStamped, stream(100))}
        if watching:
            topics["matches"] = (Image, stream(10))
        for topic, (kind, qos) in topics.items():
            self.create_subscription(kind, f"{NAME}/{topic}", self.heard[topic].append, qos)
        self.create_subscription(TFMessage, "/tf", self.heard["tf"].append, stream(100))
        self.services_of = {name: self.create_client(kind, f"{NAME}/{name}") for name, kind in SERVICES.items()}

    def send(self, frame: Frame) -> None:
        """Publish a frame with its calibration."""
        self.infos.publish(conversions.camera_message(frame.camera, frame.stamp_ns, "camera", 320, 240))
        self.images.publish(image_of(frame))

    def call(self, service: str, request: Any = None, while_waiting: Callable[[], None] = lambda: None, **fields: Any) -> Any:
        """Call a service and wait for its answer."""
        client = self.services_of[service]
        assert client.wait_for_service(20.0)
        future = client.call_async(SERVICES[service].Request(**fields) if request is None else request)

        def answered() -> bool:
            while_waiting()
            return future.done()

        wait_until(answered, f"the answer of {service}")
        return future.result()

    def forget(self) -> None:
        """Forget what was heard."""
        for messages in self.heard.values():
            messages.clear()


def image_of(frame: Frame) -> Image:
    return conversions.image_message(frame, "/camera")  # a ROS 1 name; nothing that goes out has the slash


def info_of(frame: Frame) -> CameraInfo:
    return conversions.camera_message(frame.camera, 0, "camera", 320, 240)


@lru_cache
def millimetres(index: int) -> bytes:
    """The true depth of a frame, 16 bit."""
    return np.rint(SEQUENCE.depth.depth(index) * 1000).astype("<u2").tobytes()


def depth_of(index: int) -> Image:
    return Image(height=240, width=320, encoding="16UC1", step=640, data=array.array("B", millimetres(index)))


def stamp_of(message: Any) -> int:
    return conversions.stamp_to_ns(message.header.stamp)


def as_se3(pose: Pose) -> SE3:
    p, q = pose.position, pose.orientation
    return SE3.from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z]))


def truth(query: int, reference: int = 0) -> SE3:
    return SEQUENCE.T_world_cam[reference].inverse() @ SEQUENCE.T_world_cam[query]


def assert_close(found: SE3, expected: SE3, position: float = 0.05, angle_deg: float = 0.5) -> None:
    error = (expected.inverse() @ found).log()
    assert np.linalg.norm(error[:3]) < position
    assert math.degrees(np.linalg.norm(error[3:])) < angle_deg


def start(ros: Ros, *arguments: object) -> RelocalizationNode:
    """An active node that spins."""
    ros.init(*NODE, *map(str, arguments))
    stop = Stop()
    node = RelocalizationNode(stop)
    node.start()
    assert stop.exit_code == 0
    ros.spin(node)
    return node


def with_robot(ros: Ros, *arguments: object, watching: bool = True) -> Robot:
    """A robot beside an active node, once they have found each other."""
    node = start(ros, *arguments)
    robot = Robot(watching=watching)
    robot.beside = node
    ros.spin(robot)
    wait_until(lambda: robot.images.get_subscription_count() and robot.infos.get_subscription_count(), "the node to listen")
    wait_until(lambda: robot.count_publishers(f"{NAME}/result") and robot.count_publishers("/tf"), "the node's publishers")
    return robot


@cache
def mapped() -> KeyframeMap:
    """The map of the sequence."""
    mapper = Mapper(load_pair_model("opencv"))
    for frame in FRAMES:
        mapper.register_frame(frame)
    assert len(mapper.map.keyframes) >= 2
    return mapper.map


def saved_map(folder: Path) -> Path:
    """The map of the sequence, saved in a folder, which is returned."""
    save_map(folder, mapped(), pair_model="opencv")
    return folder
