# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st3r_ros.geometry.leveling import level_by_odometry
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.tf.transforms import OPTICAL, MapAnchor, View

T_BASE_CAM = SE3(OPTICAL.rotation, np.array([0.2, 0.0, 0.5]))


def assert_same(a: SE3, b: SE3) -> None:
    np.testing.assert_allclose(a.as_matrix(), b.as_matrix(), atol=1e-9)


def turned(*rotation: float) -> SE3:
    return SE3.exp(np.array([0.0, 0.0, 0.0, *rotation]))


def levelled(anchor: MapAnchor, T_odom_cam: SE3) -> MapAnchor:
    return replace(anchor, T_map_world=level_by_odometry(anchor.T_map_world, T_odom_cam))


def test_optical_axes() -> None:
    right, down, forward = OPTICAL.rotation.T
    np.testing.assert_array_equal([right, down, forward], [[0, -1, 0], [0, 0, -1], [1, 0, 0]])


def test_map_starts_at_the_first_pose_of_the_base() -> None:
    anchor = MapAnchor.on_robot("base_link", T_BASE_CAM)
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


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_odometry_levels_the_map_and_leaves_its_origin_and_heading(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heading, tilt = rng.uniform(-3.0, 3.0), rng.uniform(-0.7, 0.7, 2)
    T_odom_base = SE3(np.eye(3), rng.normal(size=3)) @ turned(0, 0, heading) @ turned(tilt[0], tilt[1], 0)
    anchor = levelled(MapAnchor.on_robot("base_link", T_BASE_CAM), T_odom_base @ T_BASE_CAM)
    T_map_base = anchor.T_map_frame(SE3.identity())
    np.testing.assert_allclose(T_map_base.translation, 0.0, atol=1e-9)
    assert T_map_base.rotation[1, 0] == pytest.approx(0.0, abs=1e-9)  # the robot looks along x, up or down
    assert T_map_base.rotation[0, 0] > 0.0
    T_map_odom = T_map_base @ T_odom_base.inverse()
    np.testing.assert_allclose(T_map_odom.rotation[:, 2], [0.0, 0.0, 1.0], atol=1e-9)


def test_odometry_levels_the_map_of_a_tilted_camera_without_a_robot() -> None:
    T_odom_cam = turned(0, 0, 1.0) @ turned(0, 0.5, 0) @ OPTICAL  # looks down by half a radian
    anchor = levelled(MapAnchor.camera_only("camera"), T_odom_cam)
    ahead = anchor.T_map_frame(SE3.identity()) @ np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(ahead, [np.cos(0.5), 0.0, -np.sin(0.5)], atol=1e-9)


def test_a_level_robot_changes_nothing() -> None:
    anchor = MapAnchor.on_robot("base_link", T_BASE_CAM)
    T_odom_cam = SE3(np.eye(3), np.array([4.0, 5.0, 0.0])) @ turned(0, 0, 2.0) @ T_BASE_CAM
    assert_same(levelled(anchor, T_odom_cam).T_map_world, anchor.T_map_world)


def test_a_view_has_the_pose_of_the_robot_and_its_covariance() -> None:
    """The camera is half a metre above the base: when it may turn about a level axis, the base may move."""
    view = View(MapAnchor.on_robot("base_link", T_BASE_CAM), 1_500_000_000)
    covariance = np.zeros((6, 6))
    covariance[3, 3] = 0.01  # about x of the world, which points right
    message = view.pose_message(SE3.identity(), covariance, "map")
    assert (message.header.frame_id, message.header.stamp.sec, message.header.stamp.nanosec) == ("map", 1, 500_000_000)
    position = message.pose.pose.position
    np.testing.assert_allclose([position.x, position.y, position.z], 0.0, atol=1e-9)
    found = np.reshape(message.pose.covariance, (6, 6))
    assert found[4, 4] == pytest.approx(0.01) and found[0, 0] == pytest.approx(0.01 * 0.5**2)
    assert found[2, 2] == pytest.approx(0.01 * 0.2**2)
