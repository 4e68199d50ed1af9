# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import ConfigError
from st3r_ros.sim.sequence import BLACK, WHITE, Disturbance, SimulatedSequence, disturbed

CONFIG = {"seed": 2, "frames": 100, "width": 96, "height": 72}


@pytest.fixture(scope="module")
def plain():
    return SimulatedSequence(SimulationConfig(**CONFIG))


def befallen(plain: SimulatedSequence, *disturbances: Disturbance, selected: range | None = None, **settings):
    """The same world, so the same renderer."""
    sequence = SimulatedSequence(SimulationConfig(**CONFIG, **settings), selected, disturbances)
    vars(sequence)["renderer"] = plain.renderer
    return sequence


@pytest.mark.parametrize(("kidnap", "shows", "count", "level"), [("black", BLACK, 15, 0), ("white", WHITE, 30, 235)])
def test_a_covered_camera_sees_nothing_and_goes_on(plain, kidnap, shows, count, level):
    sequence = befallen(plain, kidnap=kidnap)
    covered = np.flatnonzero(sequence.shown == shows)
    assert covered.tolist() == list(range(50, 50 + count)) and sequence.length == 100
    frames = [sequence.frame(i) for i in (49, 50, 50 + count - 1, 50 + count)]
    assert [abs(frame.image.mean() - level) < 2 for frame in frames] == [False, True, True, False]
    assert not np.array_equal(frames[1].image, frames[2].image) and frames[1].image.std() < 2  # noise, nothing else
    np.testing.assert_array_equal(frames[3].image, plain.frame(50 + count).image)
    assert len(sequence.truth) == 100 - count and not np.isin(sequence.stamps_ns[covered], sequence.truth.stamps_ns).any()
    assert sequence.depth.depth(50).max() == 0 and sequence.depth.depth(49).min() > 0 and len(sequence.depth) == 100
    np.testing.assert_array_equal(sequence.T_world_cam.translation, plain.T_world_cam.translation)


def test_a_jump_leads_to_where_the_camera_was_before(plain):
    sequence = befallen(plain, kidnap="jump")
    assert sequence.shown.tolist() == [*range(60), *range(20, 60)] and (np.diff(sequence.stamps_ns) > 0).all()
    np.testing.assert_array_equal(sequence.T_world_cam.translation[60:], plain.T_world_cam.translation[20:60])
    np.testing.assert_array_equal(sequence.truth.positions, sequence.T_world_cam.translation)
    np.testing.assert_array_equal(sequence.depth.depth(60), plain.depth.depth(20))
    again, before = sequence.frame(60), plain.frame(20)
    difference = np.abs(again.image.astype(int) - before.image)
    assert 0.5 < difference.mean() < 3  # the same view with new noise
    assert again.stamp_ns == plain.stamps_ns[60]


def test_disturbances_follow_each_other_and_the_selection(plain):
    spans = (Disturbance(10, 4, BLACK), Disturbance(14, 4, 0), Disturbance(18, 2, WHITE))
    sequence = befallen(plain, *spans, selected=range(8, 24, 3))
    assert sequence.shown.tolist() == [8, BLACK, 0, 3, 20, 23]
    assert [frame.id for frame in sequence] == list(range(6))
    assert sequence.truth.stamps_ns.tolist() == plain.stamps_ns[[8, 14, 17, 20, 23]].tolist()


def test_a_disturbance_out_of_the_sequence_is_refused():
    for wrong in (Disturbance(95, 10, BLACK), Disturbance(-1, 2, WHITE), Disturbance(5, 10, 95), Disturbance(5, 1, -3)):
        with pytest.raises(ConfigError, match="100 frames"):
            disturbed(100, [wrong])


@pytest.mark.parametrize("kidnap", ["black", "white", "jump"])
@pytest.mark.parametrize("frames", [1, 2, 20])
def test_a_short_sequence_can_be_disturbed_too(kidnap, frames):
    assert SimulatedSequence(SimulationConfig(frames=frames, kidnap=kidnap)).length == frames
