# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.scene import Place, Scene
from st3r_ros.sim.world import Opening, Zone, ZoneCaster
from st3r_ros.sim.worlds import WORLDS

CAMERA = Camera.from_fov(80, 60, 80.0)
NOWHERE = (0.0, 0.0, -1.0, -1.0)


@pytest.fixture(scope="module", params=["rooms", "twins"])
def world(request):
    length = {"length": 40.0} if request.param == "rooms" else {}
    return WORLDS[request.param](SimulationConfig(world=request.param, seed=1, **length))


def test_nothing_in_sight_is_left_out(world):
    """What is cast through openings is what is cast when every zone is taken for visible everywhere."""
    caster = ZoneCaster(world.zones)
    everything = ZoneCaster(tuple(dataclasses.replace(zone, ground=NOWHERE) for zone in world.zones))
    poses = world.path.poses(240, 15.0)
    seen = [caster.in_sight(CAMERA, poses[i]) for i in range(240)]
    assert max(map(len, seen)) >= 3 and len(seen[0]) < len(world.zones)
    for index in range(0, 240, 5):
        T = poses[index]
        hits, all_hits = caster.cast(CAMERA, T), everything.cast(CAMERA, T)
        depth, all_depth = caster.depth(hits, CAMERA, T), everything.depth(all_hits, CAMERA, T)
        np.testing.assert_array_equal(depth, all_depth)
        assert (depth > 0).all()
        zones = np.searchsorted(np.cumsum([len(zone.scene.surfaces) for zone in world.zones]), np.unique(hits.surface), "right")
        assert set(zones.tolist()) <= seen[index]


def test_a_camera_in_a_doorway_sees_both_rooms(world):
    """Also with the opening nearer than the near plane: no pixel is without depth on the way through it."""
    caster = ZoneCaster(world.zones)
    zone = world.zones[1]
    for opening in zone.openings:
        door = Place(zone.place.x, zone.place.y, zone.place.yaw).moved(opening.place.x, opening.place.y, opening.place.yaw)
        for ahead in (-0.2, -0.03, -0.005, 0.0, 0.005, 0.03, 0.2):
            for turn in (0.0, 0.6, 1.6, 3.1):
                x, y, _ = door.to_world((0.1, ahead, 1.3))
                c, s = np.cos(door.yaw + turn), np.sin(door.yaw + turn)
                T = SE3(np.array([[c, 0, -s], [s, 0, c], [0, -1, 0]]), np.array([x, y, 1.3]))
                assert (caster.depth(caster.cast(CAMERA, T), CAMERA, T) > 0).all()


def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    return np.full((8, 8, 3), 128, dtype=np.uint8)


def test_zones_that_share_a_scene_look_alike_from_alike_places():
    scene = Scene()
    scene.box(Place(2.0, 0.3, 0.4), (-0.3, -0.3, 0.0), (0.5, 0.6, 1.7), paint)
    scene.sphere(Place(2.0, -0.8), (0, 0, 1.0), 0.4, paint)
    places = Place(), Place(40.0, -7.0, 2.1)
    zones = tuple(Zone(scene, place, (-3.0, -3.0, 3.0, 3.0)) for place in places)
    caster, camera = ZoneCaster(zones), CAMERA
    T_zone_cam = SE3(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), np.array([-1.0, 0.0, 1.2]))
    hits = [caster.cast(camera, zone.T_world_zone @ T_zone_cam) for zone in zones]
    first, second = (h.surface for h in hits)
    assert set(np.unique(first)) > {-1} and (first >= 0).mean() > 0.1
    np.testing.assert_array_equal(np.where(second < 0, -1, second - len(scene.surfaces)), first)
    depths = [caster.depth(h, camera, zone.T_world_zone @ T_zone_cam) for h, zone in zip(hits, zones, strict=True)]
    np.testing.assert_allclose(depths[0], depths[1], rtol=1e-6)


def test_an_opening_shows_only_what_is_behind_it():
    """A wall with a window between two scenes: the second one is not seen beside the window."""
    near, far = Scene(), Scene()
    far.rectangle(Place(), (-9, 2.0, 9), (18, 0, 0), (0, 0, -18), material=paint)
    zones = (
        Zone(near, Place(), (-5, -5, 5, 0), (Opening(Place(), 1.0, 2.0, 1),)),
        Zone(far, Place(), (-5, 0, 5, 5), (Opening(Place(0, 0, np.pi), 1.0, 2.0, 0),)),
    )
    T_world_cam = SE3(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([0.0, -2.0, 1.0]))
    seen = ZoneCaster(zones).cast(CAMERA, T_world_cam).surface >= 0
    rows, columns = np.nonzero(seen)
    half = 0.5 * CAMERA.K[0, 0] / 2.0
    assert abs(columns.min() - (CAMERA.K[0, 2] - half)) < 2 and abs(columns.max() - (CAMERA.K[0, 2] + half)) < 2
    assert abs(rows.min() - (CAMERA.K[1, 2] - 2 * half)) < 2
