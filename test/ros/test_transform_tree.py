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

from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.conversions import transform_message
from st3r_ros.ros.tf.listener import TransformListener
from st3r_ros.ros.tf.tree import HISTORY_NS, MAX_SAID, TransformFaults, TransformTree

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


def telling_tree(own: str = "") -> tuple[TransformTree, list[str]]:
    """A tree, and what it says of faults."""
    told: list[str] = []
    return TransformTree(faults=TransformFaults(told.append, own)), told


def transform(parent: str = "base", child: str = "camera", **numbers: float) -> TransformStamped:
    """The identity, but for some of x, y, z (metres) and qx, qy, qz, qw."""
    item = transform_message(SE3.identity(), 0, parent, child)
    for name, number in numbers.items():
        setattr(item.transform.rotation if len(name) == 2 else item.transform.translation, name[-1], number)
    return item


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (transform(qw=0.0), "base -> camera in TF cannot be used: its quaternion (x, y, z, w) is (0, 0, 0, 0), of length 0"),
        (transform(qw=2.0), "of length 2 instead of 1"),
        (transform(qw=0.99), "of length 0.99 instead of 1"),
        (transform(qz=float("nan")), "its quaternion (x, y, z, w) is (0, 0, nan, 1)"),
        (transform(qz=1e200), "its quaternion"),
        (transform(y=float("nan")), "its translation is (0, nan, 0) m"),
        (transform(x=float("inf")), "its translation is (inf, 0, 0) m"),
        (transform(x=float("inf"), y=float("-inf")), "its translation"),
        (transform(z=-1e30), "its translation is (0, 0, -1e+30) m"),
        (transform("base", "/base"), "base -> base in TF cannot be used: a frame cannot be its own parent"),
        (transform("", "camera"), "(no name) -> camera in TF cannot be used: a frame without a name"),
        (transform("base", " / "), "base -> (no name) in TF"),
    ],
)
def test_a_transform_that_cannot_be_true_is_left_out_counted_and_named(broken: TransformStamped, words: str) -> None:
    tree, told = telling_tree()
    good = transform("base", "lidar")
    for _ in range(3):
        assert tree.add(TFMessage(transforms=[broken, good])) == [good]
    assert tree.lookup("base", "camera") is None
    assert tree.lookup("base", "lidar") is not None
    assert tree.faults.count == 3
    assert len(told) == 1 and words in told[0]
    assert tree.fault(broken.child_frame_id, "lidar") == told[0]


def test_what_tf2_takes_is_taken() -> None:
    """Rounded quaternions, and the coordinates of a place on the Earth."""
    tree, told = telling_tree()
    tree.add(TFMessage(transforms=[transform(qw=0.996, x=4.5e5, y=5.4e6)]))
    found = tree.lookup("base", "camera")
    assert found is not None and not told
    np.testing.assert_allclose(found.rotation, np.eye(3), atol=1e-12)


def test_a_fault_is_over_when_the_transform_is_right_again() -> None:
    tree, _ = telling_tree()
    tree.add(TFMessage(transforms=[transform("odom", "base"), transform("base", "mast", qw=0.0)]))
    tree.add(TFMessage(transforms=[transform("mast", "camera")]))
    assert "base -> mast" in tree.fault("camera")
    tree.add(TFMessage(transforms=[transform("base", "mast")]))
    assert tree.fault("camera") == "" and tree.faults.count == 1


def test_a_glitch_of_odometry_is_passed_over() -> None:
    tree, told = telling_tree()
    for k, x in enumerate((0.0, 0.1, 1e30, 0.3)):
        tree.add(said(moved(x), k * SECOND // 10))
    assert_same(tree.lookup("odom", "base", 2 * SECOND // 10), moved(0.2))
    assert tree.faults.count == len(told) == 1


@pytest.mark.parametrize("static", [False, True])
def test_two_parents_of_one_frame_are_named_and_both_are_found(static: bool) -> None:
    """Another localizer beside odometry. Of two static ones the last counts, as in tf2."""
    tree, told = telling_tree()
    for k in range(3):
        tree.add(said(moved(1.0 + k), k * SECOND // 10, "odom", "base"), static=static)
        tree.add(said(moved(50.0), k * SECOND // 10, "world", "base"), static=static)
    assert told == ["TF gives base two parents, odom and world, but a frame has one: stop one of their publishers."]
    assert (tree.lookup("odom", "base") is None) == static
    if not static:
        assert_same(tree.lookup("odom", "base", SECOND // 10), moved(2.0))
    assert_same(tree.lookup("world", "base"), moved(50.0))


def test_a_static_transform_and_one_from_elsewhere_are_two_parents() -> None:
    tree, told = telling_tree()
    tree.add(said(moved(1.0), 0, "odom", "base"), static=True)
    tree.add(said(moved(2.0), SECOND, "world", "base"))
    assert len(told) == 1 and "base two parents, odom and world" in told[0]
    assert_same(tree.lookup("odom", "base", SECOND), moved(1.0))


def test_parents_of_which_is_told_elsewhere_are_not_told_twice() -> None:
    tree, told = telling_tree(own="map")
    for k in range(3):
        tree.add(said(moved(1.0), k * SECOND // 10, "map", "base"))
        tree.add(said(moved(1.0), k * SECOND // 10, "odom", "base"))
    assert not told


def test_a_loop_is_named_and_the_direct_transform_counts() -> None:
    tree, told = telling_tree()
    tree.add(said(moved(1.0), 0, "odom", "base"))
    tree.add(said(moved(2.0), 0, "base", "camera"))
    for _ in range(2):
        tree.add(said(moved(7.0), 0, "camera", "odom"))
    assert told == ["TF has a loop, odom -> base -> camera -> odom: stop the publisher of one of these transforms."]
    assert_same(tree.lookup("odom", "base"), moved(1.0))
    assert_same(tree.lookup("base", "camera"), moved(2.0))
    assert sorted(tree.below("base")) == ["camera", "odom"]


def test_a_flood_of_new_names_is_not_kept() -> None:
    tree, told = telling_tree()
    for k in range(1000):
        tree.add(TFMessage(transforms=[transform(child=f"frame{k}", qw=0.0)]))
    assert tree.faults.count == 1000
    assert len(told) == MAX_SAID
    assert sum(tree.fault(f"frame{k}") != "" for k in range(1000)) == MAX_SAID


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
    tree, told = telling_tree()
    tree.add(said(moved(1.0), SECOND, "odom", "base"))
    tree.add(said(moved(2.0), 3 * SECOND, "map", "base"))
    assert tree.lookup("odom", "base") is None
    assert_same(tree.lookup("map", "base", 3 * SECOND), moved(2.0))
    assert tree.parent("base") == "map"
    assert not told


def test_old_transforms_are_forgotten() -> None:
    tree = TransformTree()
    for k in range(6000):
        tree.add(said(moved(k), k * SECOND // 100))
    last = 5999 * SECOND // 100
    assert_same(tree.lookup("odom", "base", last - HISTORY_NS + SECOND), moved(5999 - 400))
    assert tree.lookup("odom", "base", last - 3 * HISTORY_NS) is None
    assert sum(tree.lookup("odom", "base", k * SECOND // 100) is not None for k in range(6000)) <= 1101


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
