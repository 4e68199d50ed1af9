# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scene_samples import distance_to

from st3r_ros.geometry.camera import Camera
from st3r_ros.sim.raycast import RayCaster
from st3r_ros.sim.worlds import WORLDS

FPS = 15.0
SEEDS = (0, 1, 2, 3, 12345)


def motion(poses):
    """Speeds in metres/s and turning rates in degrees/s between neighbouring frames."""
    speed = np.linalg.norm(np.diff(poses.translation, axis=0), axis=1) * FPS
    turn = (poses[:-1].inverse() @ poses[1:]).log()[:, 3:]
    return speed, np.degrees(np.linalg.norm(turn, axis=1)) * FPS


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", WORLDS)
def test_the_camera_never_touches_anything(kind, seed):
    world = WORLDS[kind](seed)
    centers = world.path.poses(700, FPS).translation
    assert min(distance_to(surface, centers).min() for surface in world.scene.surfaces) > 0.4


@pytest.mark.parametrize("frames", [60, 150, 300, 450, 900])
@pytest.mark.parametrize("kind", WORLDS)
def test_the_camera_moves_smoothly_like_a_robot(kind, frames):
    speed, turn = motion(WORLDS[kind](4).path.poses(frames, FPS))
    assert speed.max() < 0.9 and turn.max() < 50
    assert np.abs(np.diff(speed)).max() < 0.1 and np.abs(np.diff(turn)).max() < 10
    assert speed.mean() > 0.15  # parallax for a monocular camera


@pytest.mark.parametrize("frames", [60, 150, 300, 600])
def test_the_round_in_the_room_ends_where_it_began(frames):
    poses = WORLDS["room"](5).path.poses(frames, FPS)
    (gap,) = (poses[:1].inverse() @ poses[-1:]).log()
    assert np.linalg.norm(gap[:3]) < 0.15 and np.degrees(np.linalg.norm(gap[3:])) < 10


def test_the_corridor_is_closed_when_there_is_time():
    path = WORLDS["corridor"](5).path
    frames = round(len(path.points) * path.spacing / path.speed * FPS) + 1
    poses = path.poses(frames, FPS)
    assert np.linalg.norm(poses.translation[0] - poses.translation[-1]) < 0.2


@pytest.mark.parametrize("kind", WORLDS)
def test_the_camera_is_upright_and_looks_at_something_at_a_distance(kind):
    world = WORLDS[kind](6)
    caster, camera = RayCaster(world.scene), Camera.from_fov(80, 60, 65.0)
    poses = world.path.poses(300, FPS)
    assert (poses.rotation[:, 2, 1] < -0.9).all()  # the image's y axis points down
    for index in range(0, 300, 20):
        depth = caster.depth(caster.cast(camera, poses[index]), camera, poses[index])
        assert depth.min() > 0.4 and np.median(depth) > 1.5  # the world is closed, and no wall fills the view


@pytest.mark.parametrize("kind", WORLDS)
def test_every_seed_is_another_world_and_always_the_same(kind):
    centers = [np.array([r.origin for r in WORLDS[kind](seed).scene.rectangles]) for seed in (7, 7, 8)]
    np.testing.assert_array_equal(centers[0], centers[1])
    assert centers[0].shape != centers[2].shape or np.abs(centers[0] - centers[2]).max() > 0.1
