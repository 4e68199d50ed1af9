# SPDX-License-Identifier: Apache-2.0
"""A mapping node whose images name a body's frame: the robot drives where it drives, and the cloud is in that frame's axes."""

from functools import partial

import numpy as np
from ros_harness import Ros
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros import conversions
from st3r_ros.ros.input.image_input import ImageInput
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.tf.transforms import OPTICAL
from st3r_ros.sim.sequence import SimulatedSequence

FRAMES = list(SimulatedSequence(SimulationConfig(seed=2, frames=14, fps=8.0, width=320, height=240)))
T_BASE_BODY = SE3(np.eye(3), np.array([0.2, 0.0, 0.5]))


class Clouds(list[PointCloud2]):
    """In the place of the publisher of ~/keyframe_cloud."""

    publish = list.append

    def get_subscription_count(self) -> int:
        return 1


def drive(image_frame: str, T_base_image: SE3) -> tuple[Clouds, list[SE3]]:
    """The keyframes' clouds, and the poses of the base that TF is told, of a node that is shown the sequence."""
    node = MappingNode(Stop())
    node.start()
    message = TFMessage(transforms=[conversions.transform_message(T_base_image, 0, "/base_link", f"/{image_frame}")])
    node.source._tf.tree.add(message, static=True)
    inputs: list[ImageInput] = []
    node.source._deliver = inputs.append
    outputs, clouds, poses = node.session.outputs, Clouds(), []
    outputs._keyframe_cloud = clouds
    outputs._transforms.send_pose = lambda T, stamp_ns, frame_id, config: poses.append(T)
    for frame in FRAMES:
        node.source._calibration._on_info(conversions.camera_message(frame.camera, frame.stamp_ns, image_frame, 320, 240))
        node.source._on_image(conversions.image_message(frame, f"/{image_frame}"))
        node.worker.run(partial(node.session.process, inputs.pop())).result()
    node.close()
    return clouds, poses


def ahead(cloud: PointCloud2, axis: int) -> np.ndarray:
    """How far the points of a cloud are along an axis."""
    points = np.frombuffer(cloud.data, "<f4").reshape(-1, 5)[:, :3]
    return points[np.isfinite(points).all(axis=1), axis]


def test_the_base_moves_the_same_way_whatever_the_axes(ros: Ros) -> None:
    ros.init("-p", "input_wait:=0.0", "-p", "cloud.min_conf:=0.0")
    clouds, poses = drive("camera_optical_frame", T_BASE_BODY @ OPTICAL)
    body_clouds, body_poses = drive("camera_link", T_BASE_BODY)
    assert len(poses) == len(body_poses) > 5
    for pose, body_pose in zip(poses, body_poses, strict=True):
        np.testing.assert_allclose(body_pose.as_matrix(), pose.as_matrix(), atol=1e-6)
    assert {cloud.header.frame_id for cloud in body_clouds} == {"camera_link"}
    seen, body_seen = ahead(clouds[-1], 2), ahead(body_clouds[-1], 0)
    assert len(seen) > 100 and (seen > 0).all()
    np.testing.assert_allclose(body_seen, seen, rtol=1e-5)
