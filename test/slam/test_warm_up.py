# SPDX-License-Identifier: Apache-2.0
"""The warm-up goes through every stage that real images go through."""

import pytest

from st3r_ros.pair import load_pair_model
from st3r_ros.pair.opencv.config import OpenCVPairConfig
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import MappingState
from st3r_ros.warm_up import warm_up


@pytest.fixture
def updates(monkeypatch):
    """What the mapper of the warm-up says about each image."""
    seen = []
    register = Mapper.register_frame

    def noted(self, frame):
        seen.append(register(self, frame))
        return seen[-1]

    monkeypatch.setattr(Mapper, "register_frame", noted)
    return seen


def test_it_starts_a_map_makes_keyframes_loses_and_finds_the_camera(updates):
    assert warm_up(load_pair_model("opencv", config=OpenCVPairConfig())) > 0.0
    states = [update.state for update in updates]
    assert {MappingState.INITIALIZING, MappingState.TRACKING} < set(states)
    assert states[-2:] == [MappingState.LOST, MappingState.RELOCALIZED]
    assert len({update.new_keyframe for update in updates} - {None}) >= 2


def test_it_ends_when_it_is_cancelled(updates):
    warm_up(load_pair_model("opencv", config=OpenCVPairConfig()), cancelled=lambda: len(updates) >= 2)
    assert len(updates) == 2
