# SPDX-License-Identifier: Apache-2.0
"""Which way is up, by cameras and by odometry."""

import numpy as np
import pytest

from st3r_ros.geometry import so3
from st3r_ros.geometry.axes import OPTICAL
from st3r_ros.geometry.leveling import level_by_cameras, level_by_odometry, tilt_deg
from st3r_ros.geometry.transforms import SE3

UP, FORWARD = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("tilt", [0.0, 0.3, -0.5])
def test_a_world_is_turned_so_that_its_cameras_are_upright(tilt: float) -> None:
    """The world of a map is its first camera, which may look down; the others look to both sides of it."""
    level = so3.exp(np.array([[0.0, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, -0.4, 0.0]]))
    turn = level_by_cameras(so3.exp(np.array([tilt, 0.0, 0.0])) @ level)
    cameras = turn.rotation @ so3.exp(np.array([tilt, 0.0, 0.0])) @ level
    np.testing.assert_allclose(cameras @ UP, np.tile([0.0, 0.0, 1.0], (3, 1)), atol=1e-9)
    np.testing.assert_allclose(cameras[0] @ FORWARD, [1.0, 0.0, 0.0], atol=1e-9)
    assert np.linalg.det(turn.rotation) == pytest.approx(1.0)


def test_cameras_held_every_way_still_give_a_rotation() -> None:
    flip = np.diag([-1.0, -1.0, 1.0])
    R = level_by_cameras(np.stack([np.eye(3), flip])).rotation
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(R @ UP, [0.0, 0.0, 1.0], atol=1e-12)


def test_without_cameras_the_world_is_a_level_camera() -> None:
    np.testing.assert_array_equal(level_by_cameras(np.zeros((0, 3, 3))).rotation, OPTICAL.rotation)


def test_odometry_levels_a_tilted_start_and_keeps_its_heading() -> None:
    pitch = SE3(so3.exp(np.array([0.0, 0.2, 0.0])), np.zeros(3))  # down, about y of a body
    T_odom_base = SE3(so3.exp(np.array([0.0, 0.0, 2.0])), np.array([3.0, 1.0, 0.0])) @ pitch
    T_map_world = level_by_odometry(OPTICAL, T_odom_base @ OPTICAL)
    np.testing.assert_allclose(T_map_world.rotation, pitch.rotation @ OPTICAL.rotation, atol=1e-12)
    np.testing.assert_allclose(T_map_world.translation, 0.0)
    assert tilt_deg(OPTICAL, T_odom_base @ OPTICAL) == pytest.approx(np.degrees(0.2))
