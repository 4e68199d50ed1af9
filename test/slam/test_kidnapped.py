# SPDX-License-Identifier: Apache-2.0
"""A camera that is covered, or carried away: lost while it sees nothing known, without a pose, and found again."""

import numpy as np
import pytest

from st3r_ros.config import SimulationConfig
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.pair import load_pair_model
from st3r_ros.sim.sequence import BLACK, WHITE, Disturbance, SimulatedSequence
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import MappingState

FIRST = 60
COVERED = {"black": (BLACK, 15), "white": (WHITE, 30), "jump": (12, 40)}


@pytest.mark.parametrize(
    "kind", ["jump", pytest.param("black", marks=pytest.mark.full), pytest.param("white", marks=pytest.mark.full)]
)
def test_a_kidnapped_camera_is_found_again_and_has_no_pose_while_it_is_lost(kind):
    shows, count = COVERED[kind]
    config = SimulationConfig(seed=4, frames=120, width=320, height=240)
    sequence = SimulatedSequence(config, disturbances=[Disturbance(FIRST, count, shows)])
    mapper = Mapper(load_pair_model("opencv"))
    updates = [mapper.register_frame(frame) for frame in sequence]
    for update in updates:
        assert (update.T_world_cam is None) == (update.state in (MappingState.LOST, MappingState.INITIALIZING))
    after = [update.state for update in updates[FIRST:]]
    if kind != "jump":
        assert set(after[1:count]) == {MappingState.LOST}
    placed = [state in (MappingState.TRACKING, MappingState.RELOCALIZED) for state in after]
    assert all(placed[-5:]) and np.mean(placed[count if kind != "jump" else 0 :]) > 0.7
    errors = evaluate_trajectory(mapper.map.trajectory(), sequence.truth)
    assert errors.ate_sim3 < 0.05 * errors.truth_spread
