# SPDX-License-Identifier: Apache-2.0
from functools import cache

import numpy as np
import pytest
from scene_samples import distance_to

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.sim.world import World, ZoneCaster
from st3r_ros.sim.worlds import WORLDS, build

FPS = 15.0
SEEDS = (0, 1, 2, 3, 12345)
CLOSED = ("room", "corridor")  # one zone, and a path by time
HOUSES = ("rooms", "twins")  # many zones, and a route by frames
LINES = {"straight": 12.0, "facade": 10.0}  # metres of a route without turns


@cache
def world_of(kind: str, seed: int) -> World:
    """A world; the round of rooms is a short one."""
    length = {"length": 40.0} if kind == "rooms" else {}
    return WORLDS[kind](SimulationConfig(world=kind, seed=seed, **length))


def motion(poses):
    """Speeds in metres/s and turning rates in degrees/s between neighbouring frames."""
    speed = np.linalg.norm(np.diff(poses.translation, axis=0), axis=1) * FPS
    turn = (poses[:-1].inverse() @ poses[1:]).log()[:, 3:]
    return speed, np.degrees(np.linalg.norm(turn, axis=1)) * FPS


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", WORLDS)
def test_the_camera_never_touches_anything(kind, seed):
    world = world_of(kind, seed)
    centers = world.path.poses(700, FPS).translation
    for zone in world.zones:
        here = zone.T_world_zone.inverse() @ centers[zone.contains(centers)]
        assert not len(here) or min(distance_to(surface, here).min() for surface in zone.scene.surfaces) > 0.4
    assert np.any([zone.contains(centers) for zone in world.zones], axis=0).all()


@pytest.mark.parametrize("frames", [60, 150, 300, 450, 900])
@pytest.mark.parametrize("kind", CLOSED)
def test_the_camera_moves_smoothly_like_a_robot(kind, frames):
    speed, turn = motion(world_of(kind, 4).path.poses(frames, FPS))
    assert speed.max() < 0.9 and turn.max() < 50
    assert np.abs(np.diff(speed)).max() < 0.1 and np.abs(np.diff(turn)).max() < 10
    assert speed.mean() > 0.15  # parallax for a monocular camera


@pytest.mark.parametrize("frames", [300, 1200])
@pytest.mark.parametrize("kind", HOUSES)
def test_a_route_is_smooth_and_slower_in_turns(kind, frames):
    poses = world_of(kind, 4).path.poses(frames, FPS)
    steps, turns = np.array(motion(poses)) / FPS
    assert steps.max() < 1.8 * steps.mean() and np.abs(np.diff(steps)).max() < 100 / frames * steps.mean()
    assert turns.max() < 2000 / frames and np.abs(np.diff(turns)).max() < 150000 / frames**2
    assert steps[turns > 2 * turns.mean()].mean() < 0.8 * steps[turns < 0.5 * turns.mean()].mean()
    finer = world_of(kind, 4).path.poses(2 * frames - 1, 30.0).translation[::2]
    assert np.linalg.norm(finer - poses.translation, axis=1).max() < steps.mean()


@pytest.mark.parametrize("kind", LINES)
def test_a_line_is_driven_steadily_without_turns(kind):
    steps, turns = np.array(motion(world_of(kind, 4).path.poses(120, FPS))) / FPS
    assert steps.sum() == pytest.approx(LINES[kind], rel=0.01) and steps.max() < 1.1 * steps.mean() and turns.max() < 1.0


def test_corners_are_turned_sharply_between_straight_drives():
    poses = world_of("corners", 4).path.poses(60, 5.0)  # the first corner at five images a second
    steps, turns = (values / FPS for values in motion(poses))
    assert 10.0 < turns.max() < 18.0 and 0.08 < steps.mean() < 0.14
    assert turns[:12].max() < 3.0 and 85.0 < np.degrees(np.arccos(poses.rotation[0, :, 2] @ poses.rotation[-1, :, 2])) < 95.0


@pytest.mark.parametrize(("start", "seconds", "turn"), [("standing", 2.0, 0.0), ("turning", 3.0, 90.0)])
@pytest.mark.parametrize("kind", ["room", "straight"])
def test_a_late_start_waits_and_then_takes_the_same_path(kind, start, seconds, turn):
    late = build(SimulationConfig(world=kind, seed=4, start=start)).path.poses(100, FPS)
    waits = round(seconds * FPS)
    usual = world_of(kind, 4).path.poses(100 - waits, FPS)
    np.testing.assert_array_equal(late[waits:].as_matrix(), usual.as_matrix())
    np.testing.assert_array_equal(late.translation[:waits], np.repeat(usual.translation[:1], waits, axis=0))
    speeds, turns = motion(late[: waits + 1])
    assert speeds.max() == 0.0 and turns.sum() / FPS == pytest.approx(turn, abs=0.1) and turns.max() < 50.0
    assert np.abs(np.diff(turns)).max() < 5.0


def test_the_windows_of_the_front_are_equal():
    scene = world_of("facade", 4).zones[0].scene
    windows = [r for r in scene.rectangles if r.size == pytest.approx((1.0, 1.4)) and abs(r.edge_u[0]) == pytest.approx(1.0)]
    x = np.unique(np.round([r.origin[0] for r in windows], 6))
    assert len(windows) == 2 * len(x) > 20 and np.diff(x) == pytest.approx(np.diff(x)[0])
    painted = [r.material(np.random.default_rng(n), *r.size) for n, r in enumerate(windows[:3])]
    np.testing.assert_array_equal(painted[0], painted[1])
    np.testing.assert_array_equal(painted[0], painted[2])


@pytest.mark.parametrize("frames", [60, 150, 300, 600])
def test_the_round_in_the_room_ends_where_it_began(frames):
    poses = world_of("room", 5).path.poses(frames, FPS)
    (gap,) = (poses[:1].inverse() @ poses[-1:]).log()
    assert np.linalg.norm(gap[:3]) < 0.15 and np.degrees(np.linalg.norm(gap[3:])) < 10


def test_the_corridor_is_closed_when_there_is_time():
    path = world_of("corridor", 5).path
    frames = round(len(path.points) * path.spacing / path.speed * FPS) + 1
    poses = path.poses(frames, FPS)
    assert np.linalg.norm(poses.translation[0] - poses.translation[-1]) < 0.2


@pytest.mark.parametrize("kind", WORLDS)
def test_the_camera_is_upright_and_looks_at_something_at_a_distance(kind):
    world = world_of(kind, 6)
    caster, camera = ZoneCaster(world.zones), Camera.from_fov(80, 60, 65.0)
    poses = world.path.poses(300, FPS)
    assert (poses.rotation[:, 2, 1] < -0.9).all()  # the image's y axis points down
    nearest_wall = 0.9 if kind == "twins" else 1.5  # lobbies are narrow
    for index in range(0, 300, 6 if kind in HOUSES else 20):
        depth = caster.depth(caster.cast(camera, poses[index]), camera, poses[index])
        assert depth.min() > 0.4 and np.median(depth) > nearest_wall  # the world is closed, and no wall fills the view


@pytest.mark.parametrize("kind", WORLDS)
def test_every_seed_is_another_world_and_always_the_same(kind):
    centers = []
    for seed in (7, 7, 8):
        world_of.cache_clear()
        centers.append(np.array([r.origin for zone in world_of(kind, seed).zones for r in zone.scene.rectangles]))
    np.testing.assert_array_equal(centers[0], centers[1])
    assert centers[0].shape != centers[2].shape or np.abs(centers[0] - centers[2]).max() > 0.1
