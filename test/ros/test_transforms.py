# SPDX-License-Identifier: Apache-2.0
import numpy as np
from geometry_msgs.msg import TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import Ros, wait_until
from tf2_msgs.msg import TFMessage

from st3r_ros.geometry.se3 import SE3
from st3r_ros.ros.conversions import transform_message
from st3r_ros.ros.transforms import OPTICAL, MapAnchor, TransformListener, TransformTree


def assert_same(a: SE3 | None, b: SE3) -> None:
    assert a is not None
    np.testing.assert_allclose(a.as_matrix(), b.as_matrix(), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_any_two_frames_of_a_tree_are_connected_rightly(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    parents = {child: int(rng.integers(0, child)) for child in range(1, count)}
    steps = {child: SE3.exp(rng.normal(size=6)) for child in parents}
    T_root = {0: SE3.identity()}
    for child, parent in parents.items():
        T_root[child] = T_root[parent] @ steps[child]
    tree = TransformTree()
    for child in rng.permutation(list(parents)).tolist():
        tree.add(TFMessage(transforms=[transform_message(steps[child], 0, f"f{parents[child]}", f"/f{child}")]))
    for a, b in rng.integers(0, count, (5, 2)).tolist():
        assert_same(tree.lookup(f"f{a}", f"f{b}"), T_root[a].inverse() @ T_root[b])
    assert tree.lookup("f0", "elsewhere") is None


def test_the_newest_transform_counts_and_a_loop_ends() -> None:
    tree = TransformTree()
    for x in (1.0, 2.0):
        tree.add(TFMessage(transforms=[transform_message(SE3(np.eye(3), np.array([x, 0, 0])), 0, "base", "camera")]))
    assert_same(tree.lookup("base", "camera"), SE3(np.eye(3), np.array([2.0, 0, 0])))
    tree.add(TFMessage(transforms=[transform_message(SE3.identity(), 0, "camera", "base")]))
    assert tree.lookup("map", "camera") is None


def test_a_transform_that_is_none_is_left_out() -> None:
    broken = TransformStamped(child_frame_id="camera")
    broken.header.frame_id = "base"
    broken.transform.rotation.w = 0.0
    tree = TransformTree()
    tree.add(TFMessage(transforms=[broken, transform_message(SE3.identity(), 0, "base", "lidar")]))
    assert tree.lookup("base", "camera") is None
    assert tree.lookup("base", "lidar") is not None


def test_optical_axes() -> None:
    right, down, forward = OPTICAL.rotation.T
    np.testing.assert_array_equal([right, down, forward], [[0, -1, 0], [0, 0, -1], [1, 0, 0]])


def test_map_starts_at_the_first_pose_of_the_base() -> None:
    T_base_cam = SE3(OPTICAL.rotation, np.array([0.2, 0.0, 0.5]))
    anchor = MapAnchor.on_robot("base_link", T_base_cam)
    assert_same(anchor.T_map_frame(SE3.identity()), SE3.identity())
    # The robot drives a metre forward: its camera moves a metre along the optical axis.
    driven = anchor.T_map_frame(SE3(np.eye(3), np.array([0.0, 0.0, 1.0])))
    assert_same(driven, SE3(np.eye(3), np.array([1.0, 0.0, 0.0])))


def test_without_a_robot_the_map_is_level_with_the_first_image() -> None:
    anchor = MapAnchor.camera_only("camera")
    assert anchor.frame_id == "camera"
    assert_same(anchor.T_map_frame(SE3.identity()), OPTICAL)
    np.testing.assert_allclose(anchor.T_map_world @ np.array([0.0, 0.0, 3.0]), [3.0, 0.0, 0.0])
    np.testing.assert_allclose(anchor.T_map_world @ np.array([0.0, -1.0, 0.0]), [0.0, 0.0, 1.0])


def test_the_listener_hears_static_transforms_sent_before_it_came(ros: Ros) -> None:
    ros.init()
    node = Node("listener")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = node.create_publisher(TFMessage, "/tf_static", latched)
    dynamic = node.create_publisher(TFMessage, "/tf", 10)
    T_mast_camera, T_base_mast = SE3.exp(np.arange(6) * 0.1), SE3.exp(np.arange(6) * -0.2)
    static.publish(TFMessage(transforms=[transform_message(T_mast_camera, 0, "mast", "camera")]))
    listener = TransformListener(node)
    ros.spin(node)

    def connected() -> bool:
        dynamic.publish(TFMessage(transforms=[transform_message(T_base_mast, 0, "base", "mast")]))
        return listener.tree.lookup("base", "camera") is not None

    wait_until(connected, "the transform from base to camera")
    assert_same(listener.tree.lookup("base", "camera"), T_base_mast @ T_mast_camera)
    listener.close()
    wait_until(lambda: dynamic.get_subscription_count() == 0, "the listener to leave")
