# SPDX-License-Identifier: Apache-2.0
"""The worlds: a furnished room, a corridor around a block, a ring of rooms, twin rooms. Each seed gives another world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import ConfigError
from st3r_ros.sim import furniture, interior, pictures
from st3r_ros.sim.path import Path, corridor_path, room_path
from st3r_ros.sim.ring import ring_of_rooms
from st3r_ros.sim.scene import Place, Scene
from st3r_ros.sim.twin_rooms import twin_rooms
from st3r_ros.sim.world import World, drop_unseen
from st3r_ros.sim.zones import Zone


def room(seed: int) -> World:
    """A room with furniture along its walls, pictures, a few objects, and a round path in the middle."""
    rng = np.random.default_rng([seed, 1])
    half_x, half_y = float(rng.uniform(3.5, 4.1)), float(rng.uniform(3.1, 3.6))
    scene, corner = Scene(), (half_x, half_y)
    interior.floor_and_ceiling(scene, rng, corner)
    for wall in interior.walls(corner, inside=True):
        interior.raise_wall(scene, wall, interior.wall_material(rng))
        interior.furnish(scene, wall, rng, furniture.AGAINST_WALLS, margin=0.75, gaps=(0.03, 0.25))
    interior.fill_corners(scene, rng, corner)
    free_x, free_y = half_x - 2.1, half_y - 2.1
    scene.rectangle(Place(), (-free_x, free_y, 0.008), (2 * free_x, 0, 0), (0, -2 * free_y, 0), material=pictures.rug)
    for angle in rng.uniform(0, 1.4) + np.arange(4) * np.pi / 2:
        beyond = 0.85 + 0.25 * rng.uniform()
        spot = Place((free_x + beyond) * np.cos(angle), (free_y + beyond) * np.sin(angle), angle - np.pi / 2)
        interior.pick(rng, furniture.FREE_STANDING)(scene, spot.moved(0, 0.3), rng, float(rng.uniform(0.35, 0.45)))
    for x in (-0.5 * half_x, 0.5 * half_x):
        for y in (-0.5 * half_y, 0.5 * half_y):
            interior.lamp(scene, x, y)
    return _around(scene, room_path(rng, free_x, free_y))


def corridor(seed: int) -> World:
    """A corridor that runs around a block, with doors, pictures and furniture on both sides, and a path around."""
    rng = np.random.default_rng([seed, 2])
    half_x, half_y, width = float(rng.uniform(5.5, 6.5)), float(rng.uniform(4.2, 5.0)), float(rng.uniform(2.5, 2.8))
    scene, corner, block = Scene(), (half_x, half_y), (half_x - width, half_y - width)
    interior.floor_and_ceiling(scene, rng, corner)
    for wall in (*interior.walls(corner, inside=True), *interior.walls(block, inside=False)):
        interior.raise_wall(scene, wall, interior.wall_material(rng))
        interior.furnish(scene, wall, rng, furniture.NARROW, margin=0.3, gaps=(0.4, 1.2))
    interior.fill_corners(scene, rng, corner)
    middle_x, middle_y = half_x - width / 2, half_y - width / 2
    for at in (-1.0, 0.0, 1.0):
        for side in (-1, 1):
            interior.lamp(scene, at * middle_x, side * middle_y)
    for side in (-1, 1):
        interior.lamp(scene, side * middle_x, 0.0)
    return _around(scene, corridor_path(rng, middle_x, middle_y))


WORLDS: dict[str, Callable[[SimulationConfig], World]] = {
    "room": lambda config: room(config.seed),
    "corridor": lambda config: corridor(config.seed),
    "rooms": lambda config: ring_of_rooms(config.seed, config.length),
    "twins": lambda config: twin_rooms(config.seed),
}


def build(config: SimulationConfig) -> World:
    """The world of a configuration.

    Raises:
        ConfigError: a length for a world of fixed length.
    """
    if config.world != "rooms" and config.length != SimulationConfig.length:
        raise ConfigError(f"length is {config.length:g}, but {config.world} has a fixed length; only rooms accepts one.")
    return WORLDS[config.world](config)


def _around(scene: Scene, path: Path) -> World:
    """The world without what is not visible from the path and its surroundings."""
    drop_unseen(scene, path.points[::20])
    return World((Zone(scene),), path)
