# SPDX-License-Identifier: Apache-2.0
"""Odometry that contradicts the camera only over some seconds."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.optimization.odometry_way import OdometryWay
from st3r_ros.types import FramePose, Keyframe, MapScale

PERIOD_NS = 100_000_000
DRIVE = SE3.exp(np.array([0.0, 0.0, 0.05, 0.0, 0.03, 0.0]))
"""Half a metre per second, 17 degrees per second about the vertical."""
MIRROR = np.diag([-1.0, 1.0, 1.0])


def mirrored(T: SE3) -> SE3:
    return SE3(MIRROR @ T.rotation @ MIRROR, MIRROR @ T.translation)


def frozen(T: SE3) -> SE3:
    return SE3.identity()


def half_as_far(T: SE3) -> SE3:
    return SE3(T.rotation, 0.6 * T.translation)


class Way:
    """A camera that drives along a map that is made up."""

    def __init__(self, *, metric: bool) -> None:
        self.map, self.way = KeyframeMap(), OdometryWay()
        self.map.scale = MapScale("network", 0.05) if metric else MapScale()
        image = np.zeros((2, 2, 3), np.uint8)
        self.map.add_keyframe(Keyframe(0, 0, 0, Sim3.identity(), torch.zeros(2, 2, 3), torch.zeros(2, 2), image, np.eye(3)))
        self.T_world_cam, self.count = SE3.identity(), 0

    def drive(self, seconds: float, tells: Callable[[SE3], SE3] = lambda T: T, step: SE3 = DRIVE) -> str:
        """Odometry tells some of the truth; what is said at the end."""
        for _ in range(round(10 * seconds)):
            self.T_world_cam = self.T_world_cam @ step
            self.map.frames.append(FramePose(self.count, self.count * PERIOD_NS, 0, self.T_world_cam.sim3(1.0)))
            self.count += 1
            self.way.observe(self.map, tells(self.T_world_cam))
        return self.way.doubt


@pytest.mark.parametrize("metric", [True, False])
def test_odometry_that_is_right_or_slips_a_little_is_not_doubted(metric):
    assert Way(metric=metric).drive(20.0) == ""
    assert Way(metric=metric).drive(20.0, half_as_far) == ""
    rng = np.random.default_rng(0)
    assert Way(metric=metric).drive(20.0, lambda T: T @ SE3.exp(rng.normal(0.0, 0.03, 6))) == ""


@pytest.mark.parametrize(
    ("tells", "metric", "words"),
    [
        (frozen, False, "it stands still while the camera turned by"),
        (mirrored, False, "it turned otherwise than the camera within"),
        (lambda T: SE3(T.rotation, 100.0 * T.translation), True, "it moved otherwise than the camera within"),
        (lambda T: SE3(T.rotation, MIRROR @ T.translation), True, "it moved otherwise than the camera within"),
    ],
)
def test_what_contradicts_the_camera_is_said_until_it_has_gone_well_for_a_while(tells, metric, words):
    way = Way(metric=metric)
    assert words in way.drive(6.0, tells)
    way.way.break_off()
    assert words in way.drive(2.0), "a short way tells little"
    assert way.drive(5.0) == ""


STRAIGHT = SE3.exp(np.array([0.0, 0.0, 0.05, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize(("share", "said"), [(0.0, True), (0.01, True), (0.05, False), (10.0, False)])
def test_encoders_that_are_dead_are_told_by_what_the_camera_sees(share, said):
    way = Way(metric=False)
    keyframe = way.map.keyframes[0]
    keyframe.X[..., 2], keyframe.conf[:] = 2.0, 1.0
    doubt = way.drive(6.0, lambda T: SE3(T.rotation, share * T.translation))
    assert ("times the depth it sees" in doubt) == said


def test_without_a_scale_lengths_tell_nothing():
    straight = STRAIGHT
    assert Way(metric=False).drive(10.0, lambda T: SE3(T.rotation, 100.0 * T.translation), straight) == ""
    assert Way(metric=False).drive(10.0, step=SE3.identity()) == ""


def test_a_map_that_begins_anew_begins_with_any_odometry():
    way = Way(metric=True)
    way.drive(3.0)
    way.map.frames.clear()
    assert way.drive(3.0, lambda T: SE3(T.rotation, T.translation + np.array([40.0, 0.0, 0.0]))) == ""
