# SPDX-License-Identifier: Apache-2.0
"""Worlds along a straight line: a long corridor, and the front of a house with equal windows."""

from __future__ import annotations

import numpy as np

from st3r_ros.sim import furniture, interior, pictures, textures
from st3r_ros.sim.paths import STEP, Route, swaying, waves
from st3r_ros.sim.scene import Material, Place, Scene
from st3r_ros.sim.world import World, Zone, drop_unseen

_AHEAD = 3.5  # metres from the ends of a path to those of the world
_FRONT_HEIGHT, _FRONT_REACH = 8.0, 18.0  # metres; reach: from the middle to both sides
_STREET = 7.0  # metres from the path to the front
_WINDOW = (1.0, 1.4)  # metres
_STOREY = 3.0
_ASIDE = 0.5  # radians between the view and the way to the front


def straight(seed: int) -> World:
    """A corridor with doors, pictures and furniture on both sides, and a straight drive of 12 m along its middle."""
    rng = np.random.default_rng([seed, 5])
    length, half_y = 12.0, float(rng.uniform(1.25, 1.4))
    scene, corner = Scene(), (length / 2 + _AHEAD, half_y)
    interior.floor_and_ceiling(scene, rng, corner)
    for wall in interior.walls(corner, inside=True):
        interior.raise_wall(scene, wall, interior.wall_material(rng))
        interior.furnish(scene, wall, rng, furniture.NARROW, margin=0.3, gaps=(0.4, 1.2))
    for x in np.linspace(-1.0, 1.0, 5) * (corner[0] - 1.5):
        interior.lamp(scene, float(x), 0.0)
    return _along(scene, rng, length, yaw=0.0)


def facade(seed: int) -> World:
    """The front of a house with two rows of equal windows, and a way of 10 m past it that looks ahead and at it."""
    rng = np.random.default_rng([seed, 6])
    scene, reach = Scene(), _FRONT_REACH
    wall = (textures.bricks if rng.random() < 0.3 else textures.plaster)(rng)
    front = Place(0.0, _STREET)
    scene.rectangle(front, (-reach, 0, _FRONT_HEIGHT), (2 * reach, 0, 0), (0, 0, -_FRONT_HEIGHT), material=wall)
    _windows(scene, front, rng)
    scene.rectangle(Place(), (-reach, _STREET, 0), (2 * reach, 0, 0), (0, -2 * _STREET, 0), material=textures.tiles(rng, 0.4))
    for x, yaw in ((-reach, np.pi / 2), (reach, -np.pi / 2)):
        end = Place(x, 0.0, yaw), (-_STREET, 0, _FRONT_HEIGHT), (2 * _STREET, 0, 0), (0, 0, -_FRONT_HEIGHT)
        scene.rectangle(*end, material=textures.plaster(rng))
    scene.lamps += [np.array([x, 0.0, z]) for x in np.arange(-reach, reach + 1.0, 4.0) for z in (4.0, 7.0)]
    return _along(scene, rng, length=10.0, yaw=np.pi / 2 - _ASIDE)


def _windows(scene: Scene, front: Place, rng: np.random.Generator) -> None:
    """Rows of windows with their sills, none different from another, at equal distances."""
    glass, sill = (_alike(material, int(rng.integers(2**31))) for material in (pictures.window, textures.terrazzo(rng)))
    (width, height), pitch = _WINDOW, float(rng.uniform(1.7, 2.2))
    count = int((_FRONT_REACH - 1.0) / pitch)
    for storey in range(2):
        for x in pitch * np.arange(-count, count + 1.0):
            spot, bottom = front.moved(float(x), 0.0), 0.9 + storey * _STOREY
            scene.box(spot, (-width / 2, -0.05, bottom), (width, 0.05, height), glass)
            scene.box(spot, (-width / 2 - 0.08, -0.16, bottom - 0.08), (width + 0.16, 0.16, 0.08), sill)


def _alike(material: Material, seed: int) -> Material:
    """A material that is the same on all surfaces of one size."""
    return lambda _, width, height: material(np.random.default_rng(seed), width, height)


def _along(scene: Scene, rng: np.random.Generator, length: float, yaw: float) -> World:
    """The world of a scene, and a way along x through its middle with the view to `yaw`."""
    x = np.arange(-length / 2, length / 2 + 1e-6, STEP)
    points = np.column_stack([x, 0.1 * waves(rng, len(x), [length, length / 2])])
    drop_unseen(scene, points[::20])
    return World((Zone(scene),), Route(swaying(rng, points, np.full(len(x), yaw))))
