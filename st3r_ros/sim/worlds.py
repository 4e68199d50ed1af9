# SPDX-License-Identifier: Apache-2.0
"""The worlds: a furnished room, and a corridor around a block. Another seed is another world."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from st3r_ros.sim import furniture, pictures, textures
from st3r_ros.sim.furniture import Piece
from st3r_ros.sim.path import Path, corridor_path, room_path
from st3r_ros.sim.scene import Material, Place, Scene

_HEIGHT = 2.7
_LAMP_DROP = 0.08
_OVERLAP = 0.02  # metres by which walls, floor and ceiling reach behind each other, so that no ray slips through
_REACH = 0.7  # metres around the path from where everything looks complete

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class World:
    """A scene, and a path through its free space."""

    scene: Scene
    path: Path

    @staticmethod
    def around(scene: Scene, path: Path) -> World:
        """The world without what cannot be seen from the path and its surroundings."""
        shifts = _REACH * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
        spots = (path.points[::20, None] + shifts).reshape(-1, 2)
        scene.drop_unseen(np.array([(x, y, z) for x, y in spots for z in (0.3, 2.3)]))
        return World(scene, path)


@dataclass(frozen=True)
class _Wall:
    """The foot of a wall: its middle, local x along it, local -y into the free space. length, overlap at the ends: metres."""

    place: Place
    length: float
    overlap: float


def room(seed: int) -> World:
    """A room with furniture along its walls, pictures, a few things standing around, and a round path in the middle."""
    rng = np.random.default_rng([seed, 1])
    half_x, half_y = float(rng.uniform(3.5, 4.1)), float(rng.uniform(3.1, 3.6))
    scene, corner = Scene(), (half_x, half_y)
    _floor_and_ceiling(scene, rng, corner)
    for wall in _walls(corner, inside=True):
        _raise(scene, wall, _wall_material(rng))
        _furnish(scene, wall, rng, furniture.AGAINST_WALLS, margin=0.75, gaps=(0.03, 0.25))
    _fill_corners(scene, rng, corner)
    free_x, free_y = half_x - 2.1, half_y - 2.1
    scene.rectangle(Place(), (-free_x, free_y, 0.008), (2 * free_x, 0, 0), (0, -2 * free_y, 0), material=pictures.rug)
    for angle in rng.uniform(0, 1.4) + np.arange(4) * np.pi / 2:
        beyond = 0.85 + 0.25 * rng.uniform()
        spot = Place((free_x + beyond) * np.cos(angle), (free_y + beyond) * np.sin(angle), angle - np.pi / 2)
        _pick(rng, furniture.FREE_STANDING)(scene, spot.moved(0, 0.3), rng, float(rng.uniform(0.35, 0.45)))
    for x in (-0.5 * half_x, 0.5 * half_x):
        for y in (-0.5 * half_y, 0.5 * half_y):
            _lamp(scene, x, y)
    return World.around(scene, room_path(rng, free_x, free_y))


def corridor(seed: int) -> World:
    """A corridor that runs around a block, with doors, pictures and furniture on both sides, and a path around."""
    rng = np.random.default_rng([seed, 2])
    half_x, half_y, width = float(rng.uniform(5.5, 6.5)), float(rng.uniform(4.2, 5.0)), float(rng.uniform(2.5, 2.8))
    scene, corner, block = Scene(), (half_x, half_y), (half_x - width, half_y - width)
    _floor_and_ceiling(scene, rng, corner)
    for wall in (*_walls(corner, inside=True), *_walls(block, inside=False)):
        _raise(scene, wall, _wall_material(rng))
        _furnish(scene, wall, rng, furniture.NARROW, margin=0.3, gaps=(0.4, 1.2))
    _fill_corners(scene, rng, corner)
    middle_x, middle_y = half_x - width / 2, half_y - width / 2
    for at in (-1.0, 0.0, 1.0):
        for side in (-1, 1):
            _lamp(scene, at * middle_x, side * middle_y)
    for side in (-1, 1):
        _lamp(scene, side * middle_x, 0.0)
    return World.around(scene, corridor_path(rng, middle_x, middle_y))


WORLDS: dict[str, Callable[[int], World]] = {"room": room, "corridor": corridor}


def _walls(corner: tuple[float, float], inside: bool) -> list[_Wall]:
    """The four walls of the rectangle between -corner and corner, to be seen from inside or from outside."""
    x, y = corner
    turn = 0.0 if inside else np.pi
    sides = ((0, y, 0.0, 2 * x), (x, 0, -np.pi / 2, 2 * y), (0, -y, np.pi, 2 * x), (-x, 0, np.pi / 2, 2 * y))
    overlap = _OVERLAP if inside else 0.0
    return [_Wall(Place(px, py, yaw + turn), length, overlap) for px, py, yaw, length in sides]


def _raise(scene: Scene, wall: _Wall, material: Material) -> None:
    half, top = wall.length / 2 + wall.overlap, _HEIGHT + _OVERLAP
    scene.rectangle(wall.place, (-half, 0, top), (2 * half, 0, 0), (0, 0, -top - _OVERLAP), material=material)


def _floor_and_ceiling(scene: Scene, rng: np.random.Generator, corner: tuple[float, float]) -> None:
    x, y = corner[0] + _OVERLAP, corner[1] + _OVERLAP
    grounds: tuple[Callable[[np.random.Generator], Material], ...] = (textures.wood, textures.tiles, textures.terrazzo)
    ground = _pick(rng, grounds)(rng)
    scene.rectangle(Place(), (-x, y, 0), (2 * x, 0, 0), (0, -2 * y, 0), material=ground)
    scene.rectangle(Place(), (-x, -y, _HEIGHT), (2 * x, 0, 0), (0, 2 * y, 0), material=pictures.ceiling)


def _fill_corners(scene: Scene, rng: np.random.Generator, corner: tuple[float, float]) -> None:
    for x, y in itertools.product((-1, 1), (-1, 1)):
        spot = Place(x * (corner[0] - 0.12), y * (corner[1] - 0.12), np.arctan2(y, x) - np.pi / 2)
        _pick(rng, furniture.FREE_STANDING)(scene, spot, rng, 0.5)


def _wall_material(rng: np.random.Generator) -> Material:
    return _pick(rng, (textures.plaster, textures.plaster, textures.wallpaper, textures.bricks))(rng)


def _furnish(
    scene: Scene,
    wall: _Wall,
    rng: np.random.Generator,
    pieces: Sequence[Piece],
    *,
    margin: float,
    gaps: tuple[float, float],
) -> None:
    """Furniture along a wall with random gaps, pictures above what is low and in wide gaps."""
    x, end = margin - wall.length / 2, wall.length / 2 - margin
    before: Piece | None = None
    while True:
        fitting = [piece for piece in pieces if piece.narrow <= end - x and piece is not before]
        if not fitting:
            break
        before = piece = _pick(rng, fitting)
        width = float(rng.uniform(piece.narrow, min(piece.wide, end - x)))
        spot = wall.place.moved(x + width / 2, 0)
        piece.build(scene, spot, rng, width)
        if piece.low:
            furniture.picture(scene, spot, rng, float(rng.uniform(0.6, 0.95)) * width, bottom=float(rng.uniform(1.35, 1.6)))
        gap = float(rng.uniform(*gaps))
        if gap > 0.6:
            furniture.picture(
                scene, wall.place.moved(x + width + gap / 2, 0), rng, 0.75 * gap, bottom=float(rng.uniform(1.0, 1.5))
            )
        x += width + gap


def _lamp(scene: Scene, x: float, y: float) -> None:
    scene.lamps.append(np.array([x, y, _HEIGHT - _LAMP_DROP]))
    shade = textures.plaster(np.random.default_rng(0), (250, 248, 238), strength=3.0)
    scene.rectangle(Place(x, y), (-0.3, -0.3, _HEIGHT - 0.02), (0.6, 0, 0), (0, 0.6, 0), material=shade)


def _pick(rng: np.random.Generator, choices: Sequence[_T]) -> _T:
    return choices[int(rng.integers(len(choices)))]
