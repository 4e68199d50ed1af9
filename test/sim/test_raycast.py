# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scene_samples import distance_to, grey, nearest_hit, random_pose, random_scene

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.raycast import RayCaster
from st3r_ros.sim.scene import Place, Rectangle, Scene
from st3r_ros.sim.world import Zone, ZoneCaster

CAMERA = Camera.from_fov(80, 60, 80.0)


@pytest.mark.parametrize("seed", range(8))
def test_depth_is_that_of_the_nearest_surface(seed):
    rng = np.random.default_rng(seed)
    scene, T_world_cam = random_scene(rng), random_pose(rng)
    caster = ZoneCaster((Zone(scene),))
    depth = caster.depth(caster.cast(CAMERA, T_world_cam), CAMERA, T_world_cam)
    pixels = rng.integers(0, (CAMERA.width, CAMERA.height), (150, 2))
    rays = CAMERA.unproject(pixels) @ T_world_cam.rotation.T
    expected = np.array([nearest_hit(scene, T_world_cam.translation, ray) for ray in rays])
    different = ~np.isclose(depth[pixels[:, 1], pixels[:, 0]], expected, rtol=1e-5)
    assert different.sum() <= 1  # rounding may move a silhouette over a pixel
    assert np.ptp(expected) > 2.0


@pytest.mark.parametrize("seed", range(4))
def test_hits_lie_on_their_surface_at_their_texture_coordinates(seed):
    rng = np.random.default_rng(seed + 100)
    scene, T_world_cam = random_scene(rng), random_pose(rng)
    caster = ZoneCaster((Zone(scene),))
    hits = caster.cast(CAMERA, T_world_cam)
    depth = caster.depth(hits, CAMERA, T_world_cam)
    seen = hits.surface >= 0
    np.testing.assert_allclose(hits.inverse_depth[seen], 1 / depth[seen], rtol=2e-3)
    points = T_world_cam @ CAMERA.unproject(pixel_grid(80, 60), depth)
    assert ((hits.u >= 0) & (hits.u <= 1.00001) & (hits.v >= 0) & (hits.v <= 1.00001)).all()
    for index in np.unique(hits.surface[seen]):
        surface, mine = scene.surfaces[index], hits.surface == index
        assert distance_to(surface, points[mine]).max() < 1e-4
        if isinstance(surface, Rectangle):
            u, v = hits.u[mine, None], hits.v[mine, None]
            painted = surface.origin + u * surface.edge_u + v * surface.edge_v
            np.testing.assert_allclose(painted, points[mine], atol=1e-3)


def test_a_picture_hangs_the_right_way_round():
    scene = Scene()
    scene.rectangle(Place(), (-1, 2, 1), (2, 0, 0), (0, 0, -2), material=grey)  # on a wall, seen by who looks along +y
    forward = SE3(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.zeros(3))  # x right, y down, z along the world's y
    caster = ZoneCaster((Zone(scene),))
    hits = caster.cast(CAMERA, forward)
    assert (hits.surface == 0).any()
    row, column = np.nonzero(hits.surface == 0)
    assert (np.diff(hits.u[row[0]][np.unique(column)]) > 0).all() and (np.diff(hits.v[np.unique(row), column[0]]) > 0).all()
    behind = SE3(forward.rotation, np.array([0.0, 4.0, 0.0]))
    assert (caster.cast(CAMERA, behind).surface == -1).all()


def test_a_box_is_closed():
    rng = np.random.default_rng(3)
    scene = Scene()
    scene.box(Place(), (-0.5, -0.5, -0.5), (1, 1, 1), grey)
    for _ in range(20):
        away = rng.normal(size=3)
        away *= 2.0 / np.linalg.norm(away)
        inside_ray = -away + rng.uniform(-0.2, 0.2, 3)
        assert nearest_hit(scene, away, inside_ray) < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_lamp_lights_exactly_what_it_sees(seed):
    rng = np.random.default_rng(seed + 200)
    scene, T_world_cam = random_scene(rng), random_pose(rng)
    caster, lamp = ZoneCaster((Zone(scene),)), T_world_cam.translation
    depth = caster.depth(caster.cast(CAMERA, T_world_cam), CAMERA, T_world_cam)
    points = (T_world_cam @ CAMERA.unproject(pixel_grid(80, 60), depth))[depth > 0]
    shadows = RayCaster(scene)
    assert shadows.occluded(lamp, lamp + 0.99 * (points - lamp)).mean() == 0
    assert shadows.occluded(lamp, lamp + 1.2 * (points - lamp)).mean() > 0.98
