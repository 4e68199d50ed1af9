# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from st3r_ros.geometry import so3
from st3r_ros.geometry.axes import OPTICAL, same_axes, stands_upright


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
