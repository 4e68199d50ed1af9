# SPDX-License-Identifier: Apache-2.0
"""The worlds: a furnished room, a corridor around a block, a ring of rooms, twin rooms, a straight corridor, a façade.

Each seed gives another world.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import ConfigError
from st3r_ros.sim import furniture, interior, pictures
from st3r_ros.sim.interior import Box, Style, furnished
from st3r_ros.sim.lines import facade, straight
from st3r_ros.sim.paths import (
    STEP,
    CameraPath,
    LateStart,
    Path,
    Route,
    corridor_path,
    heading_along,
    length_of,
    resampled,
    room_path,
    swaying,
    through,
    waves,
)
from st3r_ros.sim.scene import Place, Scene
from st3r_ros.sim.twin_rooms import twin_rooms
from st3r_ros.sim.world import World, Zone, drop_unseen

_BAND = (5.0, 6.0)  # metres from the outer wall to the block
_ROOM = 8.0  # approximate length of the path through a room that is not at a corner, metres
_ROUNDS = 1.05  # the last frames see the same as the first ones
_GRAIN = 2.0
_GLANCE = 0.45  # maximum sideways glance of the camera, radians


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


def corridor(seed: int, *, sharp: bool = False) -> World:
    """A corridor that runs around a block, with doors, pictures and furniture on both sides, and a path around.

    sharp: the path turns sharply at the corners.
    """
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
    return _around(scene, corridor_path(rng, middle_x, middle_y, sharp=sharp))


def _around(scene: Scene, path: Path) -> World:
    """The world without what is not visible from the path and its surroundings."""
    drop_unseen(scene, path.points[::20])
    return World((Zone(scene),), path)


@dataclass(frozen=True, eq=False)
class _Plan:
    """The random parameters of the ground plan, except its size.

    bands: (4,) metres, depth of the rooms in the south, east, north, west. shares: per side, relative lengths of the rooms
    between the corners, mean 1. shifts: (rooms,) offsets of the doorways from the middle of the wall, metres. bulges: (rooms,)
    metres.
    """

    bands: np.ndarray
    shares: tuple[np.ndarray, ...]
    shifts: np.ndarray
    bulges: np.ndarray

    @staticmethod
    def random(rng: np.random.Generator, length: float) -> _Plan:
        pairs = max(1, round((length - 17.0) / (2 * _ROOM)))
        counts = (-(-pairs // 2), pairs // 2) * 2
        shares = tuple(share / share.mean() if len(share) else share for share in (rng.uniform(0.85, 1.15, n) for n in counts))
        rooms = 4 + sum(counts)
        bulges = rng.uniform(0.2, 0.6, rooms) * rng.choice([-1, 1], rooms)
        return _Plan(rng.uniform(*_BAND, 4), shares, rng.uniform(-0.8, 0.8, rooms), bulges)

    def boxes(self, side: float) -> list[tuple[Box, int]]:
        """The rooms, counter-clockwise from the south-west, each with the direction of its exit: east, north, west or south (0 to
        3).

        side: mean length of the rooms between the corners, metres.
        """
        south, east, north, west = self.bands
        width, height = west + side * len(self.shares[0]) + east, south + side * len(self.shares[1]) + north
        rooms = []
        for turn, (corner, band) in enumerate([(west, south), (south, east), (east, north), (north, west)]):
            along, across = (width, height) if turn % 2 == 0 else (height, width)
            joints = np.cumsum([-along / 2, corner, *(side * self.shares[turn])])
            for start, end in itertools.pairwise(joints):
                at = Place(0.0, 0.0, turn * np.pi / 2).moved((start + end) / 2, (band - across) / 2)
                half = float(end - start) / 2, float(band) / 2
                rooms.append((Box(Place(at.x, at.y), half if turn % 2 == 0 else half[::-1]), turn))
        return rooms

    def doors(self, rooms: list[tuple[Box, int]]) -> list[Place]:
        """The exit doorway of each room, local x in the direction of the path."""
        doors = []
        for (box, turn), shift in zip(rooms, self.shifts, strict=True):
            out = Place(box.place.x, box.place.y, turn * np.pi / 2)
            doors.append(out.moved(box.half[turn % 2], float(shift)))
        return doors

    def lines(self, rooms: list[tuple[Box, int]], doors: list[Place]) -> list[np.ndarray]:
        """The path through each room, (P, 2)."""
        lines = []
        for k, (_, turn) in enumerate(rooms):
            corner = turn != rooms[k - 1][1]
            lines.append(through(doors[k - 1], doors[k], 0.0 if corner else float(self.bulges[k]), 1.15 if corner else 1.0))
        return lines


def ring_of_rooms(seed: int, length: float) -> World:
    """A ring of rooms with a path of `length` metres through all of them, which overlaps a little with its start."""
    rng = np.random.default_rng([seed, 3])
    plan, side = _Plan.random(rng, length), _ROOM
    for _ in range(6):  # the length of the path is almost linear in the side
        rooms = plan.boxes(side)
        doors = plan.doors(rooms)
        lines = plan.lines(rooms, doors)
        side += (length - sum(map(length_of, lines))) / sum(map(len, plan.shares))
    zones = [_zone(np.random.default_rng([seed, 3, k]), k, rooms, doors, lines) for k in range(len(rooms))]
    return World(tuple(zones), _round(rng, lines, length), grain=_GRAIN)


def _zone(rng: np.random.Generator, k: int, rooms: list[tuple[Box, int]], doors: list[Place], lines: list[np.ndarray]) -> Zone:
    box, after = rooms[k][0], (k + 1) % len(rooms)
    back = doors[k - 1].moved(0, 0, np.pi)
    near = [lines[k - 1][len(lines[k - 1]) // 2 :], lines[k], lines[after][: len(lines[after]) // 2]]
    way = box.place.to_local(np.pad(np.concatenate(near), ((0, 0), (0, 1))))[:, :2]
    corner = rooms[k - 1][1] != rooms[k][1]
    lamps = (2, 1) if corner else (3, 1) if box.half[0] > box.half[1] else (1, 3)
    scene = furnished(rng, box.inner, [box.local(doors[k]), box.local(back)], way, Style(lamps=lamps))
    return box.zone(scene, [(doors[k], after), (back, (k - 1) % len(rooms))])


def _round(rng: np.random.Generator, lines: list[np.ndarray], length: float) -> Route:
    """From the middle of the second room once around and a little further."""
    closed = np.concatenate(lines[1:] + lines[:1])
    closed = np.roll(closed, -len(lines[1]) // 2, axis=0)
    points = resampled(np.concatenate([closed] * 3), STEP)
    start, count = round(length / STEP), round(_ROUNDS * length / STEP)
    yaw = heading_along(points)
    yaw = yaw[start:][:count] + _GLANCE * waves(rng, count, [13.0, 5.0], length)
    return Route(swaying(rng, points[start:][:count], yaw))


WORLDS: dict[str, Callable[[SimulationConfig], World]] = {
    "room": lambda config: room(config.seed),
    "corridor": lambda config: corridor(config.seed),
    "rooms": lambda config: ring_of_rooms(config.seed, config.length),
    "twins": lambda config: twin_rooms(config.seed),
    "straight": lambda config: straight(config.seed),
    "corners": lambda config: corridor(config.seed, sharp=True),
    "facade": lambda config: facade(config.seed),
}
STARTS: dict[str, Callable[[CameraPath], CameraPath]] = {
    "going": lambda path: path,
    "standing": LateStart.standing,
    "turning": LateStart.turning,
}


def build(config: SimulationConfig) -> World:
    """The world of a configuration.

    Raises:
        ConfigError: a length for a world of fixed length.
    """
    if config.world != "rooms" and config.length != SimulationConfig.length:
        raise ConfigError(f"length is {config.length:g}, but {config.world} has a fixed length; only rooms accepts one.")
    world = WORLDS[config.world](config)
    return replace(world, path=STARTS[config.start](world.path))
