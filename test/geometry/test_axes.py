# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from st3r_ros.geometry import so3
from st3r_ros.geometry.axes import OPTICAL, OPTICAL_FORWARD, OPTICAL_UP, same_axes, stands_upright, upright
from st3r_ros.geometry.transforms import SE3


def turned(roll: float = 0.0, pitch: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """The rotation of a frame in its base, degrees; a positive pitch looks down."""
    return so3.exp(np.radians([0.0, 0.0, yaw])) @ so3.exp(np.radians([0.0, pitch, 0.0])) @ so3.exp(np.radians([roll, 0.0, 0.0]))


@pytest.mark.parametrize("angles", [{}, {"yaw": 170}, {"pitch": 45, "yaw": -90}, {"pitch": -30}, {"roll": 10, "pitch": 20}])
def test_a_body_stands_upright_and_its_camera_does_not(angles: dict[str, float]) -> None:
    assert stands_upright(turned(**angles))
    assert not stands_upright(turned(**angles) @ OPTICAL.rotation)


@pytest.mark.parametrize("pitch", [-70, 0, 60, 90])
@pytest.mark.parametrize("roll", [0, 180])
def test_a_camera_is_no_body_however_it_looks(pitch: float, roll: float) -> None:
    """Straight down included; straight up no rotation tells."""
    assert not stands_upright(turned(roll, pitch, 30) @ OPTICAL.rotation)


def test_same_axes() -> None:
    assert same_axes(turned(roll=0.5), np.eye(3))
    assert not same_axes(turned(yaw=3), np.eye(3))


@pytest.mark.parametrize("tilt", [0.0, 0.3, -0.5])
def test_a_world_is_turned_so_that_its_cameras_are_upright(tilt: float) -> None:
    """The world of a map is its first camera, which may look down; the others look to both sides of it."""
    level = so3.exp(np.array([[0.0, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, -0.4, 0.0]]))
    turn = upright(SE3(so3.exp(np.array([tilt, 0.0, 0.0])) @ level, np.zeros((3, 3))))
    cameras = turn.rotation @ so3.exp(np.array([tilt, 0.0, 0.0])) @ level
    np.testing.assert_allclose(cameras @ OPTICAL_UP, np.tile([0.0, 0.0, 1.0], (3, 1)), atol=1e-9)
    np.testing.assert_allclose(cameras[0] @ OPTICAL_FORWARD, [1.0, 0.0, 0.0], atol=1e-9)
    assert np.linalg.det(turn.rotation) == pytest.approx(1.0)


def test_cameras_held_every_way_still_give_a_rotation() -> None:
    flip = np.diag([-1.0, -1.0, 1.0])
    R = upright(SE3(np.stack([np.eye(3), flip]), np.zeros((2, 3)))).rotation
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(R @ OPTICAL_UP, [0.0, 0.0, 1.0], atol=1e-12)
