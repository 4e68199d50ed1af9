# SPDX-License-Identifier: Apache-2.0
import time
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.logging import get_logger
from tf2_msgs.msg import TFMessage

from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.conversions import transform_message
from st3r_ros.ros.tf.camera_placement import Odometry
from st3r_ros.ros.tf.tree import TransformTree


@pytest.fixture
def tree() -> TransformTree:
    return TransformTree()


def hear(tree: TransformTree, stamp_ns: int, x: float) -> None:
    T_odom_base = SE3(np.eye(3), np.array([x, 0.0, 0.0]))
    tree.add(TFMessage(transforms=[transform_message(T_odom_base, stamp_ns, "odom", "base_link")]))


def test_it_gives_the_pose_at_the_stamp(tree: TransformTree) -> None:
    odometry = Odometry(tree, "odom", 0.0, get_logger("test"))
    assert not odometry.known("base_link")
    hear(tree, 100, 1.0)
    hear(tree, 200, 2.0)
    assert odometry.known("base_link")
    pose = odometry.pose("base_link", 150)
    assert pose is not None
    np.testing.assert_allclose(pose.translation, [1.5, 0.0, 0.0])


def test_without_odometry_one_image_waits_and_the_next_ones_do_not(tree: TransformTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("st3r_ros.ros.tf.camera_placement.RETRY_S", 1000.0)
    patience: list[float] = []
    real = tree.lookup

    def lookup(*where: object, patience_s: float = 0.0) -> SE3 | None:
        patience.append(patience_s)
        return real(*where, patience_s=patience_s)

    monkeypatch.setattr(tree, "lookup", lookup)
    odometry = Odometry(tree, "odom", 0.2, get_logger("test"))
    begin = time.monotonic()
    assert odometry.pose("base_link", 100) is None
    assert time.monotonic() - begin >= 0.2
    for stamp in range(101, 121):
        assert odometry.pose("base_link", stamp) is None
    assert sum(patience) == patience[0] == 0.2
    hear(tree, 200, 1.0)
    assert odometry.pose("base_link", 200) is not None


def test_patience_comes_back(tree: TransformTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("st3r_ros.ros.tf.camera_placement.RETRY_S", 0.1)
    odometry = Odometry(tree, "odom", 0.05, get_logger("test"))
    assert odometry.pose("base_link", 100) is None
    time.sleep(0.11)
    begin = time.monotonic()
    assert odometry.pose("base_link", 100) is None
    assert time.monotonic() - begin >= 0.05


def test_odometry_that_cannot_be_true_is_named(tree: TransformTree) -> None:
    told: list[str] = []
    odometry = Odometry(tree, "odom", 0.0, SimpleNamespace(warning=lambda text, **_: told.append(text)))
    hear(tree, 100, 1.0)
    hear(tree, 200, float("nan"))
    assert odometry.pose("base_link", 150) is None
    assert "odom -> base_link in TF cannot be used: its translation is (nan, 0, 0) m." in told[0]
    assert "clocks" not in told[0]
    hear(tree, 300, 3.0)
    pose = odometry.pose("base_link", 200)
    assert pose is not None
    np.testing.assert_allclose(pose.translation, [2.0, 0.0, 0.0])
    assert odometry.pose("base_link", 400) is None
    assert "clocks" in told[1]
