# SPDX-License-Identifier: Apache-2.0
"""Houses: furnished rooms connected by doorways, and a path through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st3r_ros.sim import furniture, interior, pictures
from st3r_ros.sim.furniture import Piece
from st3r_ros.sim.interior import DOOR_HEIGHT, DOOR_WIDTH, WALL_THICKNESS, Wall
from st3r_ros.sim.scene import Place, Scene
from st3r_ros.sim.world import drop_unseen
from st3r_ros.sim.zones import Opening, Zone

_CLEAR = 1.35  # metres between the path and a wall with furniture
_BESIDE = 0.6  # metres of wall that stay free on both sides of where the path comes closer
_APART = 1.0  # metres between the path and objects in the middle of a room


@dataclass(frozen=True)
class Style:
    """How a room is furnished. gaps: between the pieces, metres. lonely: maximum number of objects in the middle."""

    pieces: Sequence[Piece] = furniture.AGAINST_WALLS
    gaps: tuple[float, float] = (0.05, 0.5)
    lonely: int = 3
    lamps: tuple[int, int] = (2, 2)


@dataclass(frozen=True)
class Box:
    """The plan of a room: its centre in the world and half its size, up to the middle of its walls."""

    place: Place
    half: tuple[float, float]

    @property
    def inner(self) -> tuple[float, float]:
        """Half the size of the free space."""
        return self.half[0] - WALL_THICKNESS / 2, self.half[1] - WALL_THICKNESS / 2

    def local(self, place: Place) -> Place:
        """A place in the world in room coordinates."""
        x, y, _ = self.place.to_local((place.x, place.y, 0.0))
        return Place(float(x), float(y), place.yaw - self.place.yaw)

    def zone(self, scene: Scene, doors: Sequence[tuple[Place, int]]) -> Zone:
        """A zone with the look of a scene and doors in the world (local x outwards) to other zones by number."""
        local = [(self.local(door), leads_to) for door, leads_to in doors]
        openings = [Opening(outwards(door), DOOR_WIDTH, DOOR_HEIGHT, leads_to) for door, leads_to in local]
        (x, y) = self.half
        return Zone(scene, self.place, (-x, -y, x, y), tuple(openings))


def outwards(door: Place) -> Place:
    """The place of an opening (local y outwards) from that of a doorway (local x outwards)."""
    return door.moved(0, 0, -np.pi / 2)


def furnished(
    rng: np.random.Generator, half: tuple[float, float], doors: Sequence[Place], way: np.ndarray, style: Style
) -> Scene:
    """A room with furniture that leaves the path free.

    half: half size of its free space, metres. doors: centres of the doorways, local x outwards. way: (M, 2) points centimetres
    apart on all camera paths. All in room coordinates.
    """
    scene = Scene()
    interior.floor_and_ceiling(scene, rng, half)
    frame = furniture.any_material(rng)
    for wall in interior.walls(half, inside=True):
        spots = [wall.place.to_local((door.x, door.y, 0.0)) for door in doors]
        doorways = sorted(float(x) for x, y, _ in spots if abs(x) < wall.length / 2 and abs(y - WALL_THICKNESS / 2) < 0.05)
        interior.raise_wall(scene, wall, interior.wall_material(rng), doorways)
        for at in doorways:
            interior.frame_doorway(scene, wall.place.moved(at, 0), frame)
        _line(scene, rng, wall, _beside(wall, way), doorways, style)
    _fill_corners(scene, rng, half, way)
    _scatter(scene, rng, half, way, style.lonely)
    if rng.random() < 0.5 and min(half) > 1.5:
        x, y = half[0] - 1.3, half[1] - 1.3
        scene.rectangle(Place(), (-x, y, 0.008), (2 * x, 0, 0), (0, -2 * y, 0), material=pictures.rug)
    columns, rows = style.lamps
    for x in (2 * np.arange(columns) + 1 - columns) / columns:
        for y in (2 * np.arange(rows) + 1 - rows) / rows:
            interior.lamp(scene, float(x * half[0]), float(y * half[1]))
    inside = np.abs(way).max(1) < max(half)
    corners = [Opening(outwards(door), DOOR_WIDTH, DOOR_HEIGHT, 0).corners for door in doors]
    drop_unseen(scene, way[inside][::20], np.concatenate(corners))
    return scene


def _beside(wall: Wall, way: np.ndarray) -> np.ndarray:
    """Positions along a wall, metres from its middle, where the path is too close for furniture; (N,)."""
    x, y, _ = wall.place.to_local(np.column_stack([way, np.zeros(len(way))])).T
    return x[(y > -_CLEAR) & (y < 2 * WALL_THICKNESS) & (np.abs(x) < wall.length / 2 + _BESIDE)]


def _line(scene: Scene, rng: np.random.Generator, wall: Wall, close: np.ndarray, doorways: Sequence[float], style: Style) -> None:
    """Adds furniture along a wall where the path leaves space, pictures elsewhere."""
    spots = np.arange(0.7 - wall.length / 2, wall.length / 2 - 0.7, 0.05)
    free = np.array([np.abs(close - spot).min(initial=np.inf) > _BESIDE for spot in spots], dtype=bool)
    for start, end in _runs(free):
        part = Wall(wall.place.moved((spots[start] + spots[end]) / 2, 0), float(spots[end] - spots[start]), 0.0)
        interior.furnish(scene, part, rng, style.pieces, margin=0.0, gaps=style.gaps)
    bare = ~free & np.array([all(abs(spot - at) > 0.8 for at in doorways) for spot in spots], dtype=bool)
    for start, end in _runs(bare):
        count = max(1, round((spots[end] - spots[start]) / 1.3))
        space = (spots[end] - spots[start]) / count
        for at in spots[start] + space * (np.arange(count) + 0.5) if space > 0.5 else ():
            width, bottom = float(rng.uniform(0.6, 0.9) * min(space, 1.3)), float(rng.uniform(0.8, 1.4))
            furniture.picture(scene, wall.place.moved(float(at), 0), rng, width, bottom)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of true flags (N,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end) - 1) for start, end in edges.reshape(-1, 2)]


def _fill_corners(scene: Scene, rng: np.random.Generator, half: tuple[float, float], way: np.ndarray) -> None:
    for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        corner = np.array([x * half[0], y * half[1]])
        if np.linalg.norm(way - corner, axis=1).min() > 1.3:
            spot = Place(x * (half[0] - 0.12), y * (half[1] - 0.12), np.arctan2(y, x) - np.pi / 2)
            interior.pick(rng, furniture.FREE_STANDING)(scene, spot, rng, 0.5)


def _scatter(scene: Scene, rng: np.random.Generator, half: tuple[float, float], way: np.ndarray, count: int) -> None:
    """Adds a few objects in the middle of the room, apart from the path, the furniture and each other."""
    standing = np.zeros((0, 2))
    for _ in range(40):
        spot = rng.uniform(-1, 1, 2) * (np.array(half) - 1.3)
        apart = np.linalg.norm(way - spot, axis=1).min() > _APART and (np.linalg.norm(standing - spot, axis=1) > 1.3).all()
        if apart and len(standing) < count:
            standing = np.vstack([standing, spot])
            place = Place(float(spot[0]), float(spot[1]), float(rng.uniform(0, 2 * np.pi)))
            interior.pick(rng, furniture.FREE_STANDING)(scene, place.moved(0, 0.25), rng, float(rng.uniform(0.35, 0.5)))
