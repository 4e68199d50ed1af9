# SPDX-License-Identifier: Apache-2.0
"""The search of a map: by pose, by likeness, and not everything from one place."""

import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.places.covisibility import PosedCamera
from st3r_ros.slam.places.search import PER_PLACE, PlaceSearch
from st3r_ros.types import Edge, Keyframe

K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1.0]])


def at(x: float) -> Sim3:
    return Sim3(np.eye(3), np.array([x, 0.0, 0.0]), np.float64(1.0))


@pytest.fixture
def world() -> tuple[KeyframeMap, PlaceSearch]:
    """Cameras side by side in front of a wall, 0.5 m apart, tied in a chain; each image looks like its neighbours'."""
    keyframe_map = KeyframeMap()
    search = PlaceSearch(keyframe_map)
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    X = torch.from_numpy(3.0 * np.stack([(x - K[0, 2]) / 60.0, (y - K[1, 2]) / 60.0, np.ones_like(x, float)], axis=-1)).float()
    for n in range(12):
        angle = torch.tensor(n * 0.1)
        descriptor = torch.stack([angle.cos(), angle.sin()])
        keyframe = Keyframe(n, n, n, at(0.5 * n), X, torch.ones(48, 64), np.zeros((48, 64, 3), np.uint8), K)
        keyframe.descriptor = descriptor
        keyframe_map.add_keyframe(keyframe)
        if n:
            keyframe_map.add_edge(Edge.pack(n, n - 1, "sequential", torch.zeros(8, 2), torch.zeros(8, 2), torch.ones(8)))
        search.add(keyframe)
    return keyframe_map, search


def test_what_a_camera_sees_most_of_comes_first(world):
    keyframe_map, search = world
    found = search.covisible(PosedCamera(at(2.2), K, 64, 48), keyframe_map.keyframes, at_least=0.3)
    assert [f.keyframe.id for f in found][:3] == [4, 5, 3]
    assert [f.overlap for f in found] == sorted((f.overlap for f in found), reverse=True) and found[-1].overlap >= 0.3
    assert [f.keyframe.id for f in search.covisible(PosedCamera(at(2.2), K, 64, 48), {3, 5, 9}, 1)] == [5]
    assert len(search.covisible(PosedCamera(at(2.2), K, 64, 48), keyframe_map.keyframes)) == 12


def test_a_view_tells_where_the_points_should_be(world):
    keyframe_map, search = world
    matches = search.matches(PosedCamera(at(0.5), K, 64, 48), keyframe_map.keyframes[2])
    np.testing.assert_allclose((matches.pixels0 - matches.pixels1).numpy(), [[10.0, 0.0]] * len(matches), atol=1e-4)


def test_one_place_does_not_take_all_the_candidates(world):
    keyframe_map, search = world
    query = keyframe_map.keyframes[3].descriptor
    assert {p.id for p in search.similar(query, 3)} == {2, 3, 4}
    spread, rest = search.similar_places(query, 4)
    assert spread[0].id == 3
    assert len([k for k in spread if k.id in search.near(3, 1)]) <= PER_PLACE
    assert {k.id for k in spread}.isdisjoint(k.id for k in rest)


def test_a_removed_keyframe_is_not_found(world):
    keyframe_map, search = world
    search.remove(3)
    assert 3 not in [p.id for p in search.similar(keyframe_map.keyframes[3].descriptor, 12)]
