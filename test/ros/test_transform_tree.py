# SPDX-License-Identifier: Apache-2.0
import threading
import time

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import Ros, wait_until
from tf2_msgs.msg import TFMessage

from st3r_ros.geometry.se3 import SE3
from st3r_ros.ros.conversions import transform_message
from st3r_ros.ros.transform_tree import HISTORY_NS, TransformListener, TransformTree

SECOND = 1_000_000_000


def said(T: SE3, stamp_ns: int, parent: str = "odom", child: str = "base") -> TFMessage:
    return TFMessage(transforms=[transform_message(T, stamp_ns, parent, child)])


def moved(x: float) -> SE3:
    return SE3(np.eye(3), np.array([x, 0.0, 0.0]))


def assert_same(a: SE3 | None, b: SE3) -> None:
    assert a is not None
    np.testing.assert_allclose(a.as_matrix(), b.as_matrix(), atol=1e-9)


# Newest transforms ---------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.booleans())
def test_any_two_frames_of_a_tree_are_connected_rightly(seed: int, count: int, static: bool) -> None:
    rng = np.random.default_rng(seed)
    parents = {child: int(rng.integers(0, child)) for child in range(1, count)}
    steps = {child: SE3.exp(rng.normal(size=6)) for child in parents}
    T_root = {0: SE3.identity()}
    for child, parent in parents.items():
        T_root[child] = T_root[parent] @ steps[child]
    tree = TransformTree()
    for child in rng.permutation(list(parents)).tolist():
        tree.add(said(steps[child], 5, f"f{parents[child]}", f"/f{child}"), static=static)
    for a, b in rng.integers(0, count, (5, 2)).tolist():
        assert_same(tree.lookup(f"f{a}", f"f{b}"), T_root[a].inverse() @ T_root[b])
        assert_same(tree.lookup(f"f{a}", f"f{b}", 5), T_root[a].inverse() @ T_root[b])
    assert tree.lookup("f0", "elsewhere") is None
    assert tree.parent("f0") is None
    assert tree.parent("f1") == "f0"


def test_the_newest_transform_counts_and_a_loop_ends() -> None:
    tree = TransformTree()
    for x in (1.0, 2.0):
        tree.add(said(moved(x), 0, "base", "camera"))
    assert_same(tree.lookup("base", "camera"), moved(2.0))
    tree.add(said(SE3.identity(), 0, "camera", "base"))
    assert tree.lookup("map", "camera") is None


@pytest.mark.parametrize("fault", ["zero quaternion", "not a number"])
def test_a_transform_that_is_none_is_left_out(fault: str) -> None:
    broken = TransformStamped(child_frame_id="camera")
    broken.header.frame_id = "base"
    if fault == "zero quaternion":
        broken.transform.rotation.w = 0.0
    else:
        broken.transform.translation.y = float("nan")
    tree = TransformTree()
    tree.add(TFMessage(transforms=[broken, transform_message(SE3.identity(), 0, "base", "lidar")]))
    assert tree.lookup("base", "camera") is None
    assert tree.lookup("base", "lidar") is not None


# At a stamp ----------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_between_two_transforms_the_robot_turns_and_moves_evenly(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    T_odom_base, turn, step = SE3.exp(rng.normal(size=6)), rng.normal(size=3), rng.normal(size=3)
    turn *= rng.uniform(0.0, 3.0) / np.linalg.norm(turn)  # past half a turn the shorter way is the other one
    T_base_cam = SE3.exp(rng.normal(size=6))

    def at(share: float) -> SE3:
        turned = T_odom_base.rotation @ SE3.exp(np.concatenate([np.zeros(3), share * turn])).rotation
        return SE3(turned, T_odom_base.translation + share * step)

    tree = TransformTree()
    for k in (0, 1):
        tree.add(said(at(k), 7 * SECOND + k * SECOND // 10))
    tree.add(said(T_base_cam, 0, "base", "camera"), static=True)
    stamp = 7 * SECOND + int(share * SECOND / 10)
    found = tree.lookup("odom", "camera", stamp)
    assert found is not None
    np.testing.assert_allclose(found.as_matrix(), (at(share) @ T_base_cam).as_matrix(), atol=1e-6)


def test_there_is_nothing_before_the_first_and_after_the_last_transform() -> None:
    tree = TransformTree()
    assert tree.lookup("odom", "base", 5) is None
    for stamp in (10, 20):
        tree.add(said(moved(stamp), stamp))
    assert [tree.lookup("odom", "base", stamp) is None for stamp in (9, 10, 15, 20, 21)] == [True, False, False, False, True]


def test_late_and_repeated_transforms_do_no_harm() -> None:
    tree = TransformTree()
    for stamp, x in ((10, 1.0), (20, 2.0), (15, 9.0), (20, 2.5)):
        tree.add(said(moved(x), stamp))
    assert_same(tree.lookup("odom", "base", 15), moved(1.75))


def test_when_time_begins_again_the_old_transforms_are_forgotten() -> None:
    tree = TransformTree()
    for stamp in (100, 101):
        tree.add(said(moved(stamp), stamp * SECOND))
    tree.add(said(moved(3.0), 3 * SECOND))
    tree.add(said(moved(4.0), 4 * SECOND))
    assert_same(tree.lookup("odom", "base", 3 * SECOND), moved(3.0))
    assert tree.lookup("odom", "base", 50 * SECOND) is None


def test_a_frame_that_gets_another_parent_leaves_the_old_one() -> None:
    tree = TransformTree()
    tree.add(said(moved(1.0), 10, "odom", "base"))
    tree.add(said(moved(2.0), 20, "map", "base"))
    assert tree.lookup("odom", "base") is None
    assert_same(tree.lookup("map", "base", 20), moved(2.0))


def test_old_transforms_are_forgotten() -> None:
    tree = TransformTree()
    for k in range(6000):
        tree.add(said(moved(k), k * SECOND // 100))
    last = 5999 * SECOND // 100
    assert_same(tree.lookup("odom", "base", last - HISTORY_NS + SECOND), moved(5999 - 400))
    assert tree.lookup("odom", "base", last - 3 * HISTORY_NS) is None
    assert len(tree._links["base"].stamps_ns) <= 1101


def test_one_thread_waits_for_what_another_hears() -> None:
    tree = TransformTree()
    tree.add(said(moved(1.0), SECOND))

    def hear() -> None:
        for k in (2, 3):
            time.sleep(0.05)
            tree.add(said(moved(k), k * SECOND))

    thread = threading.Thread(target=hear)
    thread.start()
    found = tree.lookup("odom", "base", 3 * SECOND, patience_s=10.0)
    thread.join()
    assert_same(found, moved(3.0))
    begin = time.monotonic()
    assert tree.lookup("odom", "base", 4 * SECOND, patience_s=0.05) is None
    assert time.monotonic() - begin >= 0.05


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
        dynamic.publish(TFMessage(transforms=[transform_message(T_base_mast, 7, "base", "mast")]))
        return listener.tree.lookup("base", "camera", 7) is not None

    wait_until(connected, "the transform from base to camera")
    assert_same(listener.tree.lookup("base", "camera"), T_base_mast @ T_mast_camera)
    assert listener.listening
    listener.close()
    assert not listener.listening
    wait_until(lambda: dynamic.get_subscription_count() == 0, "the listener to leave")
