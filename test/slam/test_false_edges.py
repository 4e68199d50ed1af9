# SPDX-License-Identifier: Apache-2.0
"""Views without overlap, of which a pair model claims confident nonsense, are never tied; those that overlap are."""

from __future__ import annotations

import numpy as np
import pytest
from hall import CAMERA, look, view

from noisy_depth.correspondence import correspond
from noisy_depth.model import NoisyDepthModel
from st3r_ros.config import MapperConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import FeatureStore
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.places.loops import LoopFinder
from st3r_ros.slam.places.search import PlaceSearch
from st3r_ros.slam.tracking.tracker import Tracker
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Frame, Keyframe, MappingState

STEP_NS = 100_000_000


def frames(poses: list[SE3]) -> list[Frame]:
    return [Frame(n, n * STEP_NS, np.zeros((72, 96, 3), np.uint8), CAMERA) for n in range(len(poses))]


def model_of(poses: list[SE3], seed: int = 0) -> NoisyDepthModel:
    return NoisyDepthModel(lambda frame: view(poses[frame.stamp_ns // STEP_NS]), seed=seed)


class Tries:
    """Keyframes at many places, each with the pointmap that its own image shows, and what would tie two of them."""

    def __init__(self, poses: list[SE3], seed: int) -> None:
        self.model = model_of(poses, seed)
        self.map, self.store = KeyframeMap(), FeatureStore(self.model, kept=len(poses))
        config = MapperConfig()
        for n, (frame, pose) in enumerate(zip(frames(poses), poses, strict=True)):
            features = self.model.encode(frame)
            own = self.model.predict(features, features)
            keyframe = Keyframe(n, n, frame.stamp_ns, pose.sim3(), own.X_0_0, own.conf0, features.image, features.K)
            keyframe.features = features
            self.map.add_keyframe(keyframe)
        self.tracker = Tracker(self.model, config)
        workspace = Workspace(self.model, self.map, self.tracker, self.store, PlaceSearch(self.map))
        self.finder = LoopFinder(workspace)

    def tied(self, i: int, j: int) -> bool:
        return self.finder.verified(self.map.keyframes[i], self.map.keyframes[j], None) is not None

    def tracked(self, i: int, j: int) -> bool:
        features, other = self.store.of(self.map.keyframes[i]), self.map.keyframes[j]
        return self.tracker.track(features, other, self.store.of(other), SE3.identity().sim3()) is not None


def wandering(count: int) -> list[SE3]:
    """Places all around the hall, clear of the pillar, each looking somewhere."""
    rng = np.random.default_rng(0)
    spots = [(x, z) for x, z in rng.uniform((-2.6, -3.6), (2.6, 3.6), (4 * count, 2)) if max(abs(x), abs(z)) > 0.9]
    return [look(x, z, float(rng.uniform(0, 360))) for x, z in spots[:count]]


@pytest.mark.parametrize("tries", [100, pytest.param(1000, marks=pytest.mark.full)])
def test_views_without_overlap_are_never_tied_nor_tracked(tries):
    poses = wandering(60)
    world, done = Tries(poses, seed=0), 0
    for n in np.random.default_rng(1).permutation(60 * 60):
        i, j = divmod(int(n), 60)
        if done < tries and correspond(view(poses[i]), view(poses[j])).overlap < 0.05:
            assert not world.tied(i, j) and not world.tracked(i, j)
            done += 1
    assert done == tries


def test_neighbouring_views_are_tied():
    """The same checks pass where there is something to see: they are no closed door."""
    poses = [look(-2.0 + 0.3 * k, -3.0, 4.0 * k) for k in range(6)]
    world = Tries(poses, seed=0)
    assert all(world.tied(k, k + 1) and world.tracked(k, k + 1) for k in range(5))


def tour(room: int) -> list[SE3]:
    """Once around the pillar of a hall, looking at it."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return [look(1.9 * np.sin(a), -2.4 * np.cos(a), -float(np.degrees(a)), room) for a in angles]


@pytest.mark.parametrize("seed", range(3))
def test_every_loop_of_a_round_is_between_views_that_overlap(seed):
    poses = [*tour(0), *tour(0)[:6]]
    mapper = Mapper(model_of(poses, seed), MapperConfig(window_size=4))
    states = [mapper.register_frame(frame).state for frame in frames(poses)]
    assert set(states) == {MappingState.TRACKING}
    loops = [edge for edge in mapper.map.edges if edge.kind == "loop"]
    assert loops
    truth = {k.id: view(poses[k.stamp_ns // STEP_NS]) for k in mapper.map.keyframes.values()}
    assert all(correspond(truth[e.i], truth[e.j]).overlap > 0.05 for e in loops)
