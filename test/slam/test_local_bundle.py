# SPDX-License-Identifier: Apache-2.0
"""The bundle of the newest keyframes, solved while the map goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_global_bundle import BETWEEN, KEYFRAMES, World

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import retire
from st3r_ros.slam.optimization.local_bundle import LocalBundle
from st3r_ros.types import FramePose, Keyframe

NEWEST = [2, 3, 4]
DEPTH_SIGMA = 0.05


def disturbed(world: World, wrong: int = 0) -> KeyframeMap:
    """The map with the first two keyframes and their depths right, and the others a little off."""
    made, exact = world.mapped(off=0.006, wrong=wrong), world.mapped(off=0.0)
    for k in (0, 1):
        unit = made.keyframes[k].T_world_cam.scale / exact.keyframes[k].T_world_cam.scale
        T = exact.keyframes[k].T_world_cam
        made.keyframes[k] = replace(
            made.keyframes[k], T_world_cam=replace(T, scale=T.scale * unit), X=exact.keyframes[k].X / unit
        )
    return made


def adjusted(made: KeyframeMap) -> list[int]:
    found = LocalBundle.of(made, NEWEST).adjusted(DEPTH_SIGMA)
    assert found is not None
    return found.apply(made)


def poses(made: KeyframeMap) -> np.ndarray:
    return np.stack([k.T_world_cam.as_matrix() for k in made.keyframes.values()])


def far_off(world: World, made: KeyframeMap, k: int) -> float:
    return float(np.linalg.norm(made.keyframes[k].T_world_cam.translation - world.poses[k * (BETWEEN + 1)].translation))


@pytest.mark.parametrize("wrong", [0, 15])
def test_the_newest_keyframes_come_to_where_they_are_and_the_older_ones_stay(wrong):
    world = World(wrong)
    made = disturbed(world, wrong)
    before, off = poses(made), [far_off(world, made, k) for k in NEWEST]
    retire(made.keyframes[2])
    assert adjusted(made) == NEWEST
    assert (poses(made)[:2] == before[:2]).all()
    assert max(far_off(world, made, k) for k in NEWEST) < 0.4 * max(off)
    assert made.keyframes[2].X.dtype == torch.float16
    for k in NEWEST:
        keyframe, n = made.keyframes[k], k * (BETWEEN + 1)
        column, row = np.rint(world.pixels(n)[wrong:]).astype(int).T
        z = keyframe.X[row, column, 2].double().numpy() * float(keyframe.T_world_cam.scale)
        ratio = np.log(z / (world.poses[n].inverse() @ world.points)[wrong:, 2])
        assert np.median(np.abs(ratio)) < 0.01
        assert float(keyframe.conf[row, column].median()) > 1.0
    frames = [made.T_world_cam(n).translation - world.poses[n].translation for n in range(2 * (BETWEEN + 1), len(world.poses))]
    assert np.median(np.linalg.norm(frames, axis=1)) < 0.01


def test_it_is_the_same_every_time():
    first, second = disturbed(World(1)), disturbed(World(1))
    adjusted(first)
    adjusted(second)
    assert (poses(first) == poses(second)).all() and (first.keyframes[3].X == second.keyframes[3].X).all()


def test_what_is_found_fits_a_map_that_has_gone_on():
    at_once, later = disturbed(World(2)), disturbed(World(2))
    adjusted(at_once)
    found = LocalBundle.of(later, NEWEST).adjusted(DEPTH_SIGMA)
    # Meanwhile the map is moved and another unit is used, and there is a new keyframe.
    T = Sim3.exp(np.array([1.0, -2.0, 0.5, 0.3, -0.4, 0.2, np.log(3.0)]))
    later.move({k.id: T @ k.T_world_cam for k in later.keyframes.values()})
    last = later.keyframes[KEYFRAMES - 1]
    ahead = Sim3.exp(np.array([0.3, 0.0, 0.1, 0.0, 0.1, 0.0, 0.0]))
    later.add_keyframe(replace(last, id=KEYFRAMES, stamp_ns=10**10, T_world_cam=last.T_world_cam @ ahead))
    later.add_frame(FramePose(99, 10**10, KEYFRAMES, Sim3.identity()))
    assert found is not None and found.apply(later) == [*NEWEST, KEYFRAMES]
    for k in range(KEYFRAMES):
        np.testing.assert_allclose(
            later.keyframes[k].T_world_cam.as_matrix(), (T @ at_once.keyframes[k].T_world_cam).as_matrix(), atol=1e-9
        )
    followed = later.keyframes[KEYFRAMES - 1].T_world_cam.inverse() @ later.keyframes[KEYFRAMES].T_world_cam
    np.testing.assert_allclose(followed.as_matrix(), ahead.as_matrix(), atol=1e-9)


def test_a_keyframe_that_was_removed_meanwhile_is_left_out():
    made = disturbed(World(3))
    found = LocalBundle.of(made, NEWEST).adjusted(DEPTH_SIGMA)
    into = made.keyframes[2]
    made.remove_keyframe(3, 2, into.T_world_cam.inverse() @ made.keyframes[3].T_world_cam)
    assert found is not None and found.apply(made) == [2, 4]


def test_without_anything_that_stayed_nothing_moves():
    made = disturbed(World(4))
    found = LocalBundle.of(made, NEWEST).adjusted(DEPTH_SIGMA)
    for removed in (0, 1):
        made.remove_keyframe(removed, 2, Sim3.identity())
    before, X = poses(made), made.keyframes[3].X.clone()
    assert found is not None and found.apply(made) == []
    assert (poses(made) == before).all() and (made.keyframes[3].X == X).all()


def test_depths_that_were_not_known_become_known():
    world = World(5)
    made, n = disturbed(world), 4 * (BETWEEN + 1)
    new = made.keyframes[4]
    column, row = np.rint(world.pixels(n)).astype(int).T
    new.conf[row[:30], column[:30]] = 0.0
    adjusted(made)
    assert int((new.conf[row[:30], column[:30]] > 0).sum()) > 20


def test_few_or_no_matches_move_nothing():
    assert LocalBundle.of(World(6, points=8).mapped(), NEWEST).adjusted(DEPTH_SIGMA) is None
    made = World(6).mapped()
    for edge in list(made.edges):
        made.remove_edge(edge.i, edge.j)
    for place in range(len(made.frames)):
        made.sightings.drop(place)
    assert LocalBundle.of(made, NEWEST).adjusted(DEPTH_SIGMA) is None


def test_a_keyframe_alone_is_left_as_it_is():
    alone = KeyframeMap()
    image = np.zeros((4, 4, 3), np.uint8)
    alone.add_keyframe(Keyframe(0, 0, 0, Sim3.identity(), torch.zeros(4, 4, 3), torch.zeros(4, 4), image, np.eye(3)))
    assert LocalBundle.of(alone, [0]).adjusted(DEPTH_SIGMA) is None
