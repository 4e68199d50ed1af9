# SPDX-License-Identifier: Apache-2.0
"""Room for new keyframes: the most redundant one goes, what it costs does not grow with the map, and not every frame pays it."""

from types import SimpleNamespace

import numpy as np
import torch

from st3r_ros.config import MapperConfig
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.culling import Culler
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.places.search import PlaceSearch
from st3r_ros.types import Edge, Keyframe

K = np.array([[40.0, 0, 31.5], [0, 40.0, 23.5], [0, 0, 1]])


class CountingSearch(PlaceSearch):
    """Counts the pairs it is asked about."""

    asked = 0

    def covisible(self, camera, among, *limits, **more):
        self.asked += len(among)
        return super().covisible(camera, among, *limits, **more)


class NoMatches:
    """A builder that never finds another edge."""

    asked = 0

    def connect(self, keyframe, other, kind):
        self.asked += 1

    def forget(self, keyframe_id):
        pass


def wall(number: int, x: float) -> Keyframe:
    """A camera at x, two metres from a wall that it faces."""
    column, row = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="xy")
    X = 2.0 * torch.stack([(column - 31.5) / 40.0, (row - 23.5) / 40.0, torch.ones(48, 64)], dim=-1)
    pose = Sim3(np.eye(3), np.array([x, 0.0, 0.0]), np.asarray(1.0))
    return Keyframe(number, number, number, pose, X, torch.ones(48, 64), np.zeros((48, 64, 3), np.uint8), K)


def row_of_cameras(places: list[float], hops: int, max_keyframes: int) -> tuple[KeyframeMap, CountingSearch, NoMatches, Culler]:
    """Cameras at these places, each tied to the next `hops` ones."""
    whole, builder = KeyframeMap(), NoMatches()
    search = CountingSearch(whole)
    for number, x in enumerate(places):
        whole.add_keyframe(wall(number, x))
        search.update(whole.keyframes[number])
        for other in range(max(0, number - hops), number):
            tie(whole, number, other)
    tracker = SimpleNamespace(config=MapperConfig(max_keyframes=max_keyframes))
    workspace = SimpleNamespace(map=whole, places=search, tracker=tracker)
    return whole, search, builder, Culler(workspace, builder)


def tie(whole: KeyframeMap, i: int, j: int) -> None:
    pixels = torch.zeros(4, 2)
    whole.add_edge(Edge.pack(i, j, "sequential", pixels, pixels, torch.ones(4)))


def test_the_keyframe_that_a_neighbour_sees_best_makes_room():
    whole, _, _, culler = row_of_cameras([0.0, 0.8, 1.6, 1.7, 2.5, 3.3], hops=2, max_keyframes=6)
    assert culler.make_room(protected={0, 5, 3})
    assert set(whole.keyframes) == {0, 1, 3, 4, 5} and culler.take_dropped() == {2} and culler.take_dropped() == set()


def test_another_keyframe_costs_the_same_in_a_large_map():
    whole, index, _, culler = row_of_cameras(np.arange(60).tolist(), hops=2, max_keyframes=60)
    assert culler.make_room(protected={59})
    asked = index.asked
    assert asked == 2 * (59 + 58)
    new = wall(60, 60.0)
    whole.add_keyframe(new)
    index.update(new)
    tie(whole, 60, 59)
    assert culler.make_room(protected={60})
    assert index.asked == asked + 2


def test_a_full_map_without_anything_redundant_is_not_searched_again_until_it_changes():
    whole, _, builder, culler = row_of_cameras(np.arange(8).tolist(), hops=1, max_keyframes=8)
    protected = {0, 7}  # a chain: only its ends could go
    assert not culler.make_room(protected)
    asked = builder.asked
    assert asked > 0 and not culler.make_room(protected) and builder.asked == asked
    assert culler.make_room(protected={7})  # the other end may go now
    assert 0 not in whole.keyframes
