# SPDX-License-Identifier: Apache-2.0
"""Common parts of rooms and corridors: walls, floors, lamps, and furniture along the walls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from st3r_ros.sim import furniture, pictures, textures
from st3r_ros.sim.furniture import Piece
from st3r_ros.sim.scene import Material, Place, Scene

HEIGHT = 2.7  # metres
WALL_THICKNESS = 0.2  # metres, between two rooms; each builds its half of a doorway
DOOR_WIDTH, DOOR_HEIGHT = 1.2, 2.1  # metres
OVERLAP = 0.02  # metres by which walls, floor and ceiling overlap, so that no ray passes between them

_LAMP_DROP = 0.08
_LIP = 0.002  # metres by which the parts of a doorway overlap, so that no ray passes between them

_T = TypeVar("_T")


@dataclass(frozen=True)
class Wall:
    """The foot of a wall: its middle, local x along it, local -y into the free space. length, overlap at the ends: metres."""

    place: Place
    length: float
    overlap: float


def walls(corner: tuple[float, float], inside: bool) -> list[Wall]:
    """The four walls of the rectangle between -corner and corner, to be seen from inside or from outside."""
    x, y = corner
    turn = 0.0 if inside else np.pi
    sides = ((0, y, 0.0, 2 * x), (x, 0, -np.pi / 2, 2 * y), (0, -y, np.pi, 2 * x), (-x, 0, np.pi / 2, 2 * y))
    overlap = OVERLAP if inside else 0.0
    return [Wall(Place(px, py, yaw + turn), length, overlap) for px, py, yaw, length in sides]


def raise_wall(scene: Scene, wall: Wall, material: Material, doorways: Sequence[float] = ()) -> None:
    """A wall with doorways at these places along it, metres from its middle, in order."""
    half, top = wall.length / 2 + wall.overlap, HEIGHT + OVERLAP
    if not doorways:
        scene.rectangle(wall.place, (-half, 0, top), (2 * half, 0, 0), (0, 0, -top - OVERLAP), material=material)
        return
    sheet, reach = _Sheet(material, (2 * half, top + OVERLAP)), DOOR_WIDTH / 2
    ends = [-half, *(end for at in doorways for end in (at - reach + _LIP, at + reach - _LIP)), half]
    beside = [(x0, x1, top + OVERLAP) for x0, x1 in zip(ends[::2], ends[1::2], strict=True)]
    above = [(at - reach, at + reach, top - DOOR_HEIGHT + _LIP) for at in doorways]
    for x0, x1, height in beside + above:
        cut = sheet.cut(x0 + half, x1 - x0, height)
        scene.rectangle(wall.place, (x0, 0, top), (x1 - x0, 0, 0), (0, 0, -height), material=cut)


@dataclass(eq=False)
class _Sheet:
    """A material painted once over a whole surface, from which parts are cut. size: metres."""

    material: Material
    size: tuple[float, float]
    painting: np.ndarray | None = None

    def cut(self, start: float, across: float, down: float) -> Material:
        """A part that begins at `start` metres along the upper edge, optionally at a coarser grain."""

        def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
            grain = across / width
            if self.painting is None:
                self.painting = self.material(rng, self.size[0] / grain, self.size[1] / grain)
            (rows, columns), (_, left) = textures.pixels(width, height), textures.pixels(start / grain, 1.0)
            left = min(left if start else 0, self.painting.shape[1] - columns)
            return self.painting[:rows, left : left + columns]

        return paint


def frame_doorway(scene: Scene, place: Place, material: Material) -> None:
    """A doorway without a door: a frame on the wall, and the inner faces of the wall up to its middle.

    place: in the plane of the wall, local -y into the room.
    """
    half, width, deep, high = DOOR_WIDTH / 2, DOOR_WIDTH + 2 * _LIP, WALL_THICKNESS / 2 + _LIP, DOOR_HEIGHT + _LIP
    for side in (-1, 1):
        scene.box(place, (side * (half + 0.04) - 0.04, -0.025, 0), (0.08, 0.025, DOOR_HEIGHT), material)
        foot, inwards = (0.0, deep) if side < 0 else (deep, -deep)
        scene.rectangle(place, (side * half, foot, high), (0, inwards, 0), (0, 0, -high - _LIP), material=material)
    scene.box(place, (-half - 0.08, -0.025, DOOR_HEIGHT), (DOOR_WIDTH + 0.16, 0.025, 0.08), material)
    scene.rectangle(place, (-width / 2, 0, DOOR_HEIGHT), (width, 0, 0), (0, deep, 0), material=material)
    scene.rectangle(place, (-width / 2, deep, -0.001), (width, 0, 0), (0, -deep - OVERLAP, 0), material=material)


def floor_and_ceiling(scene: Scene, rng: np.random.Generator, corner: tuple[float, float]) -> None:
    x, y = corner[0] + OVERLAP, corner[1] + OVERLAP
    grounds: tuple[Callable[[np.random.Generator], Material], ...] = (textures.wood, textures.tiles, textures.terrazzo)
    ground = pick(rng, grounds)(rng)
    scene.rectangle(Place(), (-x, y, 0), (2 * x, 0, 0), (0, -2 * y, 0), material=ground)
    scene.rectangle(Place(), (-x, -y, HEIGHT), (2 * x, 0, 0), (0, 2 * y, 0), material=pictures.ceiling)


def fill_corners(scene: Scene, rng: np.random.Generator, corner: tuple[float, float]) -> None:
    for x, y in itertools.product((-1, 1), (-1, 1)):
        spot = Place(x * (corner[0] - 0.12), y * (corner[1] - 0.12), np.arctan2(y, x) - np.pi / 2)
        pick(rng, furniture.FREE_STANDING)(scene, spot, rng, 0.5)


def wall_material(rng: np.random.Generator) -> Material:
    return pick(rng, (textures.plaster, textures.plaster, textures.wallpaper, textures.bricks))(rng)


def furnish(
    scene: Scene,
    wall: Wall,
    rng: np.random.Generator,
    pieces: Sequence[Piece],
    *,
    margin: float,
    gaps: tuple[float, float],
) -> None:
    """Adds furniture along a wall with random gaps, and pictures above low pieces and in wide gaps."""
    x, end = margin - wall.length / 2, wall.length / 2 - margin
    before: Piece | None = None
    while True:
        fitting = [piece for piece in pieces if piece.narrow <= end - x and piece is not before]
        if not fitting:
            break
        before = piece = pick(rng, fitting)
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


def lamp(scene: Scene, x: float, y: float) -> None:
    scene.lamps.append(np.array([x, y, HEIGHT - _LAMP_DROP]))
    shade = textures.plaster(np.random.default_rng(0), (250, 248, 238), strength=3.0)
    scene.rectangle(Place(x, y), (-0.3, -0.3, HEIGHT - 0.02), (0.6, 0, 0), (0, 0.6, 0), material=shade)


def pick(rng: np.random.Generator, choices: Sequence[_T]) -> _T:
    return choices[int(rng.integers(len(choices)))]
