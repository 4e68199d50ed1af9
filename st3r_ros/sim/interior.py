# SPDX-License-Identifier: Apache-2.0
"""The inside of rooms and corridors: walls, floors, doorways, lamps, and furniture that leaves a path free."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from st3r_ros.sim import furniture, pictures, textures
from st3r_ros.sim.furniture import Piece
from st3r_ros.sim.scene import Material, Place, Scene
from st3r_ros.sim.world import Opening, Zone, drop_unseen

HEIGHT = 2.7  # metres
WALL_THICKNESS = 0.2  # metres, between two rooms; each builds its half of a doorway
DOOR_WIDTH, DOOR_HEIGHT = 1.2, 2.1  # metres
OVERLAP = 0.02  # metres by which walls, floor and ceiling overlap, so that no ray passes between them

_LAMP_DROP = 0.08
_LIP = 0.002  # metres by which the parts of a doorway overlap, so that no ray passes between them

_CLEAR = 1.35  # metres between the path and a wall with furniture
_BESIDE = 0.6  # metres of wall that stay free on both sides of where the path comes closer
_APART = 1.0  # metres between the path and objects in the middle of a room

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


def fill_corners(scene: Scene, rng: np.random.Generator, half: tuple[float, float], way: np.ndarray | None = None) -> None:
    """Something in each corner of a room of this half size, but for those that a path (M, 2) comes close to."""
    for x, y in itertools.product((-1, 1), (-1, 1)):
        corner = np.array([x * half[0], y * half[1]])
        if way is None or np.linalg.norm(way - corner, axis=1).min() > 1.3:
            spot = Place(x * (half[0] - 0.12), y * (half[1] - 0.12), np.arctan2(y, x) - np.pi / 2)
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
    floor_and_ceiling(scene, rng, half)
    frame = furniture.any_material(rng)
    for wall in walls(half, inside=True):
        spots = [wall.place.to_local((door.x, door.y, 0.0)) for door in doors]
        doorways = sorted(float(x) for x, y, _ in spots if abs(x) < wall.length / 2 and abs(y - WALL_THICKNESS / 2) < 0.05)
        raise_wall(scene, wall, wall_material(rng), doorways)
        for at in doorways:
            frame_doorway(scene, wall.place.moved(at, 0), frame)
        _line(scene, rng, wall, _beside(wall, way), doorways, style)
    fill_corners(scene, rng, half, way)
    _scatter(scene, rng, half, way, style.lonely)
    if rng.random() < 0.5 and min(half) > 1.5:
        x, y = half[0] - 1.3, half[1] - 1.3
        scene.rectangle(Place(), (-x, y, 0.008), (2 * x, 0, 0), (0, -2 * y, 0), material=pictures.rug)
    columns, rows = style.lamps
    for x in (2 * np.arange(columns) + 1 - columns) / columns:
        for y in (2 * np.arange(rows) + 1 - rows) / rows:
            lamp(scene, float(x * half[0]), float(y * half[1]))
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
        furnish(scene, part, rng, style.pieces, margin=0.0, gaps=style.gaps)
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


def _scatter(scene: Scene, rng: np.random.Generator, half: tuple[float, float], way: np.ndarray, count: int) -> None:
    """Adds a few objects in the middle of the room, apart from the path, the furniture and each other."""
    standing = np.zeros((0, 2))
    for _ in range(40):
        spot = rng.uniform(-1, 1, 2) * (np.array(half) - 1.3)
        apart = np.linalg.norm(way - spot, axis=1).min() > _APART and (np.linalg.norm(standing - spot, axis=1) > 1.3).all()
        if apart and len(standing) < count:
            standing = np.vstack([standing, spot])
            place = Place(float(spot[0]), float(spot[1]), float(rng.uniform(0, 2 * np.pi)))
            pick(rng, furniture.FREE_STANDING)(scene, place.moved(0, 0.25), rng, float(rng.uniform(0.35, 0.5)))
