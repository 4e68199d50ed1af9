# SPDX-License-Identifier: Apache-2.0
"""The round of rooms and the twin rooms, as sequences."""

import numpy as np
import pytest

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import ConfigError
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.sim.sequence import SimulatedSequence

SMALL = {"width": 96, "height": 72, "noise": 0.0}


def sequence_of(world: str, **settings) -> SimulatedSequence:
    return SimulatedSequence(SimulationConfig(world=world, **{**SMALL, **settings}))


def zone_numbers(sequence: SimulatedSequence) -> np.ndarray:
    """In which zone the camera is, frame by frame."""
    centers = sequence.T_world_cam.translation
    return np.argmax([zone.contains(centers) for zone in sequence.world.zones], axis=0)


@pytest.mark.parametrize("length", [40.0, 100.0, 200.0])
def test_a_round_of_rooms_has_the_asked_length_and_comes_back(length):
    sequence = sequence_of("rooms", frames=2000, length=length, seed=3)
    centers = sequence.T_world_cam.translation
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centers[:, :2], axis=0), axis=1))])
    assert abs(way[-1] - 1.05 * length) < 0.01 * length
    again = int(np.argmin(np.abs(way - length)))
    distance, turn = np.split((sequence.T_world_cam[:1].inverse() @ sequence.T_world_cam[again : again + 1]).log()[0], 2)
    assert np.linalg.norm(distance) < 0.15 and np.degrees(np.linalg.norm(turn)) < 6
    later = np.linalg.norm(centers[again:, None] - centers[None, : len(way) // 4], axis=2).min(1)
    assert later.max() < 0.15  # the last frames go where the first ones went


@pytest.mark.parametrize("seed", range(3))
def test_every_room_is_passed_once_until_the_round_is_closed(seed):
    sequence = sequence_of("rooms", frames=800, length=80.0, seed=seed)
    zones = zone_numbers(sequence)
    visits = zones[np.concatenate([[True], np.diff(zones) != 0])].tolist()
    rooms = len(sequence.world.zones)
    expected = [(1 + k) % rooms for k in range(len(visits))]
    assert visits == expected and rooms <= len(visits) <= rooms + 2


def test_the_way_does_not_depend_on_the_images():
    one, other = sequence_of("rooms", frames=50), sequence_of("rooms", frames=50, width=320, height=240, fps=3.0)
    np.testing.assert_array_equal(one.T_world_cam.translation, other.T_world_cam.translation)
    np.testing.assert_array_equal(one.T_world_cam.rotation, other.T_world_cam.rotation)


@pytest.fixture(scope="module")
def twins():
    return sequence_of("twins", frames=301, seed=2)


def test_twin_rooms_give_the_same_images_at_different_places(twins):
    T_a_b = twins.twins.T_a_b
    a, b = (np.flatnonzero(twins.twin_rooms == room) for room in (1, 2))
    assert 8.0 < np.linalg.norm(T_a_b.translation) < 15.0
    moved = (T_a_b @ twins.T_world_cam).translation
    distance = np.linalg.norm(moved[b][:, None] - twins.T_world_cam.translation[a], axis=2)
    pairs = np.argwhere(distance < 1e-6)
    assert len(pairs) > 40 and np.linalg.norm(moved[b[0]] - twins.T_world_cam.translation[b[0]]) > 5.0
    for in_b, in_a in pairs[::9].tolist():
        first, second = twins.frame(int(a[in_a])), twins.frame(int(b[in_b]))
        assert (first.image != second.image).mean() < 1e-3 and first.image.std() > 20
        np.testing.assert_allclose(twins.depth.depth(int(a[in_a])), twins.depth.depth(int(b[in_b])), rtol=1e-4)


def test_what_a_twin_room_shows_lies_in_it(twins):
    for index in range(0, twins.length, 12):
        depth = twins.depth.depth(index)
        points = twins.T_world_cam[index] @ twins.camera.unproject(pixel_grid(96, 72), depth)
        in_a, in_b = twins.twins.in_a(points), twins.twins.in_b(points)
        assert not (in_a & in_b).any()
        assert twins.twin_rooms[index] != 1 or in_a.all()
        assert twins.twin_rooms[index] != 2 or (in_b.all() and twins.twins.in_a(twins.twins.T_a_b @ points).all())
        assert twins.twin_rooms[index] > 0 or not (in_a.all() and in_b.all())
    assert (twins.twin_rooms == 0).sum() > 80  # the corridor


def test_the_corridor_between_the_twins_looks_different(twins):
    between = np.flatnonzero(zone_numbers(twins) == 2)
    assert len(between) > 30
    middle = twins.frame(int(between[len(between) // 2])).image.astype(int)
    for index in (0, 20, 40):
        assert np.abs(middle - twins.frame(index).image).mean() > 15


def test_only_the_round_of_rooms_takes_a_length():
    with pytest.raises(ConfigError, match="length is 60, but room has a fixed length"):
        sequence_of("room", length=60.0)
    for wrong in (39.0, 201.0):
        with pytest.raises(ConfigError, match="length"):
            SimulationConfig(world="rooms", length=wrong)
    assert SimulatedSequence(SimulationConfig(world="rooms", length=60.0, frames=3)).name == "sim:rooms?seed=0&length=60"
