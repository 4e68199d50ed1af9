# SPDX-License-Identifier: Apache-2.0
"""A mapping node whose images name a body's frame: the robot drives where it drives, and the cloud is in that frame's axes."""

from functools import partial

import numpy as np
from rclpy.node import Node
from ros_harness import Ros, give, wait_until
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros import conversions
from st3r_ros.ros.input.image_input import ImageInput
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.qos import latched, stream
from st3r_ros.ros.tf.transforms import OPTICAL
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.types import MappingState

FRAMES = list(SimulatedSequence(SimulationConfig(seed=2, frames=14, fps=8.0, width=320, height=240)))
T_BASE_BODY = SE3(np.eye(3), np.array([0.2, 0.0, 0.5]))


CLOUDS = "/st3r_mapping/keyframe_cloud"


class Robot(Node):
    """Has its camera at `T_base_image`, and hears the keyframes' clouds and where TF has its base in the map."""

    def __init__(self, image_frame: str, T_base_image: SE3) -> None:
        super().__init__("robot")
        self.clouds: list[PointCloud2] = []
        self.poses: list[SE3] = []
        self.create_subscription(PointCloud2, CLOUDS, self.clouds.append, stream(100))
        self.create_subscription(TFMessage, "/tf", self._on_tf, stream(100))
        placed = conversions.transform_message(T_base_image, 0, "/base_link", f"/{image_frame}")
        self._static = self.create_publisher(TFMessage, "/tf_static", latched())
        self._static.publish(TFMessage(transforms=[placed]))

    def _on_tf(self, message: TFMessage) -> None:
        told = [item for item in message.transforms if item.child_frame_id == "base_link"]
        self.poses += [conversions.transform_from_message(item.transform) for item in told]


def drive(ros: Ros, image_frame: str, T_base_image: SE3) -> tuple[list[PointCloud2], list[SE3]]:
    """The keyframes' clouds, and the poses of the base that TF is told, of a node that is shown the sequence."""
    node, robot = MappingNode(Stop()), Robot(image_frame, T_base_image)
    node.start()
    ros.spin(robot)
    wait_until(lambda: node.source.find_anchor(image_frame) is not None, "the camera's place")
    wait_until(lambda: node.count_subscribers(CLOUDS) and node.count_subscribers("/tf") > 1, "the robot to listen")
    inputs: list[ImageInput] = []
    node.worker.submit = lambda item, surely=False: inputs.append(item) or 0
    for frame in FRAMES:
        give(node, "/camera_info", conversions.camera_message(frame.camera, frame.stamp_ns, image_frame, 320, 240))
        give(node, "/image", conversions.image_message(frame, f"/{image_frame}"))
        node.worker.run(partial(node.session.process, inputs.pop())).result()
        node.worker.run(partial(node.session.catch_up, wait=True)).result()  # so that both runs are alike
    newest = list(node.session.mapper.map.keyframes.values())[-1].stamp_ns
    tracked = node.session.run.recorder.state_counts[MappingState.TRACKING]
    wait_until(lambda: len(robot.poses) == tracked, "a pose of every tracked image")
    wait_until(
        lambda: robot.clouds and conversions.stamp_to_ns(robot.clouds[-1].header.stamp) == newest, "the newest keyframe's cloud"
    )
    ros.stop_nodes()
    node.close()
    return robot.clouds, robot.poses


def ahead(cloud: PointCloud2, axis: int) -> np.ndarray:
    """How far the points of a cloud are along an axis."""
    points = np.frombuffer(cloud.data, "<f4").reshape(-1, 5)[:, :3]
    return points[np.isfinite(points).all(axis=1), axis]


def test_the_base_moves_the_same_way_whatever_the_axes(ros: Ros) -> None:
    ros.init("-p", "input_wait:=0.0", "-p", "cloud.min_conf:=0.0")
    clouds, poses = drive(ros, "camera_optical_frame", T_BASE_BODY @ OPTICAL)
    body_clouds, body_poses = drive(ros, "camera_link", T_BASE_BODY)
    assert len(poses) == len(body_poses) > 5
    for pose, body_pose in zip(poses, body_poses, strict=True):
        np.testing.assert_allclose(body_pose.as_matrix(), pose.as_matrix(), atol=1e-6)
    assert {cloud.header.frame_id for cloud in body_clouds} == {"camera_link"}
    seen, body_seen = ahead(clouds[-1], 2), ahead(body_clouds[-1], 0)
    assert len(seen) > 100 and (seen > 0).all()
    np.testing.assert_allclose(body_seen, seen, rtol=1e-5)
