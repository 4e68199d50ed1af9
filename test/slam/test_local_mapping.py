# SPDX-License-Identifier: Apache-2.0
"""What a new keyframe takes time for, beside the tracking."""

from concurrent.futures import Executor, Future

import numpy as np
import pytest
import torch

from st3r_ros.config import SimulationConfig
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.pair import load_pair_model
from st3r_ros.pair.opencv.config import OpenCVPairConfig
from st3r_ros.runtime import background_threads
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.optimization.later import poses_now
from st3r_ros.types import Keyframe, MappingState

FRAMES = 45


class Told(Executor):
    """Works when it is told to, or when somebody waits."""

    def __init__(self) -> None:
        self.waiting: list[Waited] = []

    def submit(self, fn, /, *args, **kwargs):
        self.waiting.append(Waited(lambda: fn(*args, **kwargs)))
        return self.waiting[-1]

    def work(self) -> None:
        while self.waiting:
            self.waiting.pop(0).run()


class Waited(Future):
    def __init__(self, work) -> None:
        super().__init__()
        self._work = work

    def run(self) -> None:
        if self.done():
            return
        try:
            self.set_result(self._work())
        except Exception as error:
            self.set_exception(error)

    def result(self, timeout=None):
        self.run()
        return super().result(timeout)


@pytest.fixture(scope="module")
def sequence() -> SimulatedSequence:
    return SimulatedSequence(SimulationConfig(seed=1, frames=2 * FRAMES, width=320, height=240), range(0, 2 * FRAMES, 2))


@pytest.fixture(scope="module")
def frames(sequence):
    return list(sequence)


def new_mapper(executor: Executor | None) -> Mapper:
    return Mapper(load_pair_model("opencv", config=OpenCVPairConfig(max_features=800)), executor=executor)


def known(keyframe: Keyframe) -> float:
    return float((keyframe.conf > 0).float().mean())


def poses(keyframe_map: KeyframeMap) -> list:
    return [k.T_world_cam.as_matrix().tolist() for k in keyframe_map.keyframes.values()]


def test_with_threads_the_map_is_as_good_and_every_keyframe_complete(sequence, frames):
    with background_threads() as executor:
        mapper = new_mapper(executor)
        updates = [mapper.register_frame(frame) for frame in frames]
        rest = mapper.catch_up(wait=True)
    made = {update.new_keyframe for update in updates} - {None}
    completed = [k for update in updates for k in update.completed_keyframes] + rest.completed
    assert len(made) >= 2 and sorted(completed) == sorted(made)
    assert all(k.descriptor is not None and known(k) > 0.3 for k in mapper.map.keyframes.values())
    assert all(mapper.map.edges_of(k) for k in mapper.map.keyframes)
    error = evaluate_trajectory(mapper.map.trajectory(), sequence.truth)
    assert len(mapper.map.frames) >= FRAMES - 1 and error.ate_sim3 < 0.03 * error.truth_spread


def test_tracking_goes_on_from_carried_depths_and_the_rest_comes_between_two_frames(frames):
    told = Told()
    mapper = new_mapper(told)
    rest = iter(frames)
    made = next(u.new_keyframe for u in map(mapper.register_frame, rest) if u.new_keyframe is not None)
    keyframe = mapper.map.keyframes[made]
    assert 0.0 < known(keyframe) < 0.1 and keyframe.descriptor is None
    edges, before = len(mapper.map.edges), poses(mapper.map)
    update = mapper.register_frame(next(rest))
    assert update.state is MappingState.TRACKING and not update.completed_keyframes
    assert len(mapper.map.edges) == edges and poses(mapper.map) == before

    told.work()
    update = mapper.register_frame(next(rest))
    assert made in update.completed_keyframes and made in update.changed_keyframes
    assert known(keyframe) > 0.3 and keyframe.descriptor is not None


def test_a_new_keyframe_waits_for_the_one_before(frames):
    mapper = new_mapper(Told())
    updates = [mapper.register_frame(frame) for frame in frames]
    made = [u.new_keyframe for u in updates if u.new_keyframe is not None]
    assert len(made) >= 2 and all(k.descriptor is not None for k in list(mapper.map.keyframes.values())[:-1])
    assert all(update.T_world_cam is not None for update in updates[-5:])


def test_a_failure_beside_the_tracking_is_raised_once_and_tracking_goes_on(frames, monkeypatch):
    told = Told()
    mapper = new_mapper(told)
    rest = iter(frames)
    next(u for u in map(mapper.register_frame, rest) if u.new_keyframe is not None)
    told.waiting[0].set_exception(RuntimeError("out of order"))
    with pytest.raises(RuntimeError, match="out of order"):
        mapper.register_frame(next(rest))
    assert mapper.register_frame(next(rest)).T_world_cam is not None


def test_a_reset_drops_what_was_being_found_out(frames):
    told = Told()
    mapper = new_mapper(told)
    next(u for u in map(mapper.register_frame, frames) if u.new_keyframe is not None)
    mapper.reset()
    told.work()
    step = mapper.catch_up(wait=True)
    assert not step.changed and not mapper.map.keyframes


def pose(x: float) -> Sim3:
    return Sim3(np.eye(3), np.array([x, 0.0, 0.0]), np.float64(1.0))


def a_map(*ids: int) -> KeyframeMap:
    made = KeyframeMap()
    for n in ids:
        made.add_keyframe(
            Keyframe(n, n, n, pose(n), torch.zeros(2, 2, 3), torch.zeros(2, 2), np.zeros((2, 2, 3), np.uint8), np.eye(3))
        )
    return made


def test_poses_solved_for_while_the_map_went_on():
    moved = a_map(0, 1, 2, 4, 5)  # 3 was removed since, 5 is new
    moved.rescale(2.0)
    then = {n: pose(n) for n in range(5)}
    found = poses_now(moved, then, {n: pose(n + 0.5) for n in (1, 2, 3, 4)}, [0])
    assert list(found) == [1, 2, 4, 5]
    assert [float(T.translation[0]) for T in found.values()] == pytest.approx([3.0, 5.0, 9.0, 11.0])
    assert all(float(T.scale) == pytest.approx(2.0) for T in found.values())


def test_nothing_moves_where_nothing_is_left_to_tell_by():
    then = {0: pose(0), 1: pose(1)}
    assert poses_now(a_map(1, 2), then, {1: pose(1.5)}, [0]) == {}
    assert poses_now(a_map(0, 2), then, {1: pose(1.5)}, [0]) == {}
