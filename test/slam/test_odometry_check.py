# SPDX-License-Identifier: Apache-2.0
"""What is believed of the odometry of a robot that drives along a map that is made up, right in metres."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.optimization.odometry_check import STAYS, OdometryCheck
from st3r_ros.types import FramePose, Keyframe, MapScale

PERIOD_NS = 100_000_000
STEP = SE3.exp(np.array([0.01, 0.0, 0.05, 0.0, 0.02, 0.0]))
"""Half a metre per second, turning."""
T_ODOM_WORLD = SE3.exp(np.array([3.0, -2.0, 0.5, 0.1, 0.2, 1.0]))


def shifted(*xyz: float) -> Callable[[SE3], SE3]:
    return lambda T: SE3(T.rotation, T.translation + np.array(xyz))


def turned(*phi: float) -> Callable[[SE3], SE3]:
    return lambda T: SE3(T.rotation @ SE3.exp(np.array([0.0, 0.0, 0.0, *phi])).rotation, T.translation)


class Drive:
    """A camera in its map. metric: whether the map is known to be in metres."""

    def __init__(self, *, metric: bool = True) -> None:
        self.map, self.check = KeyframeMap(), OdometryCheck()
        self.map.scale = MapScale("network", 0.05) if metric else MapScale()
        image = np.zeros((2, 2, 3), np.uint8)
        self.map.add_keyframe(Keyframe(0, 0, 0, Sim3.identity(), torch.zeros(2, 2, 3), torch.zeros(2, 2), image, np.eye(3)))
        self.T_world_cam = SE3.identity()
        self.count = 0

    def step(self, spoil: Callable[[SE3], SE3] = lambda T: T, *, moves: bool = True, continuous: bool = True) -> bool:
        """The next image, with odometry that is spoilt; whether it is believed."""
        if moves:
            self.T_world_cam = self.T_world_cam @ STEP
        self.map.frames.append(FramePose(self.count, self.count * PERIOD_NS, 0, self.T_world_cam.sim3(1.0)))
        self.count += 1
        return self.check.judge(self.map, spoil(T_ODOM_WORLD @ self.T_world_cam), continuous=continuous)

    def run(self, count: int, spoil: Callable[[SE3], SE3] = lambda T: T) -> list[bool]:
        return [self.step(spoil) for _ in range(count)]


@pytest.mark.parametrize("metric", [True, False])
def test_true_odometry_is_believed(metric: bool) -> None:
    drive, rng = Drive(metric=metric), np.random.default_rng(0)
    for _ in range(50):
        noise = SE3.exp(rng.normal(0.0, 0.02, 6))
        assert drive.step(lambda T, noise=noise: T @ noise)
    assert drive.check.fault == drive.check.jumped == ""


@pytest.mark.parametrize(
    ("spoil", "metric", "words"),
    [
        (shifted(1e6, 0.0, 0.0), False, "faster than 50 m/s"),
        (shifted(0.0, 8.0, 0.0), False, "faster than 50 m/s"),
        (shifted(0.0, 1.0, 0.0), True, "it moved 1.01 m while the camera moved 0.051 m"),
        (shifted(0.0, 0.4, 0.0), True, "while the camera moved 0.051 m"),
        (shifted(0.0, 0.4, 0.0), False, "it moved 0.4"),
        (turned(0.0, 0.0, 1.0), False, "it turned by 57 degrees while the camera turned by 1"),
        (turned(0.0, 0.0, 0.35), False, "it turned by 20 degrees while the camera turned by 1"),
    ],
)
@pytest.mark.parametrize("length", [1, 2])
def test_a_glitch_is_left_out_and_what_follows_is_believed(
    spoil: Callable[[SE3], SE3], metric: bool, words: str, length: int
) -> None:
    drive = Drive(metric=metric)
    assert all(drive.run(5))
    assert drive.step(spoil) is False
    assert words in drive.check.fault
    assert not any(drive.run(length - 1, spoil))
    assert drive.step() is True
    assert drive.check.fault == drive.check.jumped == ""
    assert all(drive.run(5))


def test_a_jump_that_stays_is_believed_after_a_few_images() -> None:
    drive = Drive()
    drive.run(5)
    reset = shifted(-7.0, 20.0, 0.0)
    assert drive.run(STAYS, reset) == [False] * (STAYS - 1) + [True]
    assert "faster than 50 m/s, and goes on from there" in drive.check.jumped
    assert all(drive.run(5, reset)) and not drive.check.jumped


def test_a_long_glitch_may_go_back_at_once() -> None:
    drive = Drive()
    drive.run(5)
    drive.run(STAYS, shifted(9.0, 0.0, 0.0))
    assert drive.step() is True
    assert "back to where it was before" in drive.check.jumped


def test_odometry_in_millimetres_is_never_believed_while_the_robot_moves() -> None:
    drive = Drive(metric=False)
    millimetres = lambda T: SE3(T.rotation, 1000.0 * T.translation)  # noqa: E731
    drive.step(millimetres)
    assert not any(drive.run(20, millimetres))
    assert "faster than 50 m/s" in drive.check.fault
    assert drive.run(STAYS) == [False] * (STAYS - 1) + [True]  # it has been mended
    assert all(drive.run(5))


def test_slipping_wheels_are_corrected_by_the_map_and_not_refused() -> None:
    drive = Drive()
    drive.run(5)
    for k in range(1, 20):
        assert drive.step(shifted(0.05 * k, 0.0, 0.0), moves=False)


def test_after_the_camera_was_lost_it_is_not_compared() -> None:
    """It may be anywhere: in a corridor that the map has bent, or carried there."""
    drive = Drive()
    drive.run(5)
    drive.T_world_cam = SE3(np.eye(3), np.array([2.0, 0.0, 1.0]))
    stands = drive.map.T_world_cam(-1)
    assert drive.step(lambda T: T_ODOM_WORLD @ stands, continuous=False)


def test_a_map_that_begins_anew_begins_with_any_odometry() -> None:
    drive = Drive()
    drive.run(5)
    drive.map.frames.clear()
    assert drive.step(shifted(100.0, 0.0, 0.0))
