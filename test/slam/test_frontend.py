# SPDX-License-Identifier: Apache-2.0
"""A frame against keyframes that do not agree about it."""

import dataclasses

import numpy as np
import pytest
import torch

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.pair import load_pair_model
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.slam.tracking.frontend import Frontend
from st3r_ros.slam.tracking.tracker import Tracked, Tracker
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Frame, Keyframe

WORLD = SimulationConfig(seed=1, frames=120, width=320, height=240)
SUDDEN = Sim3.exp(np.array([0.2, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]))
OFF = Sim3.exp(np.array([0.3, 0.0, 0.1, 0.0, 0.15, 0.0, 0.0]))


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    """A map of several keyframes."""
    mapper = Mapper(load_pair_model("opencv"))
    for frame in SimulatedSequence(WORLD, range(0, 90, 2)):
        mapper.register_frame(frame)
    return mapper


def misled(tracked: Tracked, trusted: int) -> Tracked:
    """A pose that is far off, on which so many trusted matches agree."""
    result = dataclasses.replace(tracked.result, T_kf_cam=tracked.result.T_kf_cam @ OFF, trusted=trusted)
    return dataclasses.replace(tracked, result=result)


def contradicted(mapper: Mapper, share: float) -> tuple[Frontend, Keyframe, Keyframe, Tracked | None]:
    """What is made of the view of a keyframe whose pose against the one before it is far off; share: of its own matches."""
    workspace = Workspace.of(load_pair_model("opencv"), mapper.map)
    frontend = Frontend(workspace, Relocalizer(workspace.model))
    current, seen = list(mapper.map.keyframes.values())[-2:]
    frontend.enter(current)
    guess = current.T_world_cam.inverse() @ seen.T_world_cam
    tracked = workspace.tracker.track(seen.features, current, workspace.store.of(current), guess)
    by_itself = workspace.tracker.track(seen.features, seen, workspace.store.of(seen), Sim3.identity())
    assert tracked is not None and by_itself is not None
    return frontend, current, seen, frontend.switch(seen.features, misled(tracked, int(share * by_itself.trusted)))


def test_a_pose_that_another_keyframe_contradicts_with_many_more_matches_is_replaced(mapper):
    frontend, _, seen, found = contradicted(mapper, 0.15)
    assert found is not None and frontend.keyframe is not None
    T_world_cam = frontend.keyframe.T_world_cam @ found.result.T_kf_cam
    error = (T_world_cam.se3().inverse() @ seen.T_world_cam.se3()).log()
    assert np.linalg.norm(error[:3]) < 0.02 and np.degrees(np.linalg.norm(error[3:])) < 1.0


def test_one_that_is_contradicted_by_about_as_many_stays(mapper):
    frontend, current, _, found = contradicted(mapper, 0.8)
    assert found is None and frontend.keyframe is current


@pytest.mark.parametrize(("close", "believed"), [(1.0, True), (0.4, False)])
def test_a_sudden_motion_is_believed_only_where_its_points_lie_close(mapper, close, believed):
    workspace = Workspace.of(load_pair_model("opencv"), mapper.map)
    keyframe, seen = list(mapper.map.keyframes.values())[:2]
    features, guess = workspace.store.of(seen), keyframe.T_world_cam.inverse() @ seen.T_world_cam
    still = workspace.tracker.track(features, keyframe, workspace.store.of(keyframe), guess)
    assert still is not None

    class Jumps(Tracker):
        def track(self, *_: object, **__: object) -> Tracked:
            result = dataclasses.replace(
                still.result, T_kf_cam=still.result.T_kf_cam @ SUDDEN, close=int(close * still.result.known)
            )
            return dataclasses.replace(still, result=result)

    frontend = Frontend(
        dataclasses.replace(workspace, tracker=Jumps(workspace.model, workspace.config)), Relocalizer(workspace.model)
    )
    frontend.enter(keyframe)
    frontend.accept(Frame(0, 0, keyframe.image), features, still)
    assert (frontend.follow(Frame(1, 10**8, keyframe.image), features) is not None) == believed


def with_few_depths(keyframe: Keyframe, known: int) -> Keyframe:
    """The keyframe with depth at so many of its points only."""
    conf = torch.zeros_like(keyframe.conf, dtype=torch.float32)
    column, row = keyframe.features.points[:: len(keyframe.features.points) // known][:known].round().astype(int).T
    conf[row, column] = keyframe.conf[row, column].float().clamp_min(10.0)
    return dataclasses.replace(keyframe, conf=conf, X=keyframe.X.float())


def test_a_frame_is_not_lost_for_want_of_depths(mapper):
    """Many matches that agree fix rotation and direction; the points that are known nowhere get a depth by them."""
    workspace = Workspace.of(load_pair_model("opencv"), mapper.map)
    keyframe = list(mapper.map.keyframes.values())[-2]
    later = keyframe.frame_id + 2
    features = workspace.store.of(keyframe)
    poor = with_few_depths(keyframe, 12)
    true = next(f.T_kf_cam for f in map(mapper.map.frames.__getitem__, range(len(mapper.map.frames))) if f.frame_id == later)
    seen = workspace.model.encode(next(iter(SimulatedSequence(WORLD, range(2 * later, 2 * later + 1)))))
    tracked = workspace.tracker.track(seen, poor, features, Sim3.identity())
    assert tracked is not None and tracked.trusted < workspace.tracker.config.min_inliers <= tracked.agreeing
    assert so3.degrees(tracked.result.T_kf_cam.rotation.T @ true.rotation) < 1.0
    assert not workspace.tracker.is_solid(tracked)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_with_no_depth_at_all_in_view_the_distance_is_that_of_what_is_seen_elsewhere_or_typical(mapper, elsewhere):
    workspace = Workspace.of(load_pair_model("opencv"), mapper.map)
    keyframe = list(mapper.map.keyframes.values())[-2]
    features = workspace.store.of(keyframe)
    true = next(
        f.T_kf_cam
        for f in map(mapper.map.frames.__getitem__, range(len(mapper.map.frames)))
        if f.frame_id == keyframe.frame_id + 2
    )
    later = 2 * (keyframe.frame_id + 2)
    seen = workspace.model.encode(next(iter(SimulatedSequence(WORLD, range(later, later + 1)))))
    workspace.tracker.track(seen, keyframe, features, Sim3.identity())  # finds the corners
    conf = keyframe.conf.float().clone() if elsewhere else torch.zeros_like(keyframe.conf, dtype=torch.float32)
    column, row = features.points.round().astype(int).T
    conf[row, column] = 0.0
    blind = dataclasses.replace(keyframe, conf=conf, X=keyframe.X.float())
    tracked = workspace.tracker.track(seen, blind, features, Sim3.identity())
    assert tracked is not None and tracked.trusted == 0
    assert so3.degrees(tracked.result.T_kf_cam.rotation.T @ true.rotation) < 2.0
