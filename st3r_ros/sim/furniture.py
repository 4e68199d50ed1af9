# SPDX-License-Identifier: Apache-2.0
"""Furniture. Each function adds one piece; its place is on the floor at the centre of its back, -y is the front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from st3r_ros.sim import pictures, textures
from st3r_ros.sim.scene import Material, Place, Scene

Builder = Callable[[Scene, Place, np.random.Generator, float], None]


@dataclass(frozen=True)
class Piece:
    """A kind of furniture: its builder for a width in metres, the range of widths, whether a picture fits above it."""

    build: Builder
    narrow: float
    wide: float
    low: bool


def any_material(rng: np.random.Generator) -> Material:
    """A material for furniture."""
    makers = (textures.wood, textures.wood, textures.metal, textures.terrazzo)
    return makers[int(rng.integers(len(makers)))](rng)


def bookcase(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """Shelves full of books."""
    material, depth, height = textures.wood(rng), 0.32, float(rng.uniform(1.6, 2.2))
    half, t = width / 2, 0.03
    for x in (-half, half - t):
        scene.box(place, (x, -depth, 0), (t, depth, height), material)
    scene.rectangle(place, (-half, -0.01, height), (width, 0, 0), (0, 0, -height), material=material)
    levels = np.linspace(0.06, height - t, int(rng.integers(5, 7)))
    for low, high in zip(levels, [*levels[1:], None], strict=True):
        scene.box(place, (-half + t, -depth, low), (width - 2 * t, depth, t), material)
        if high is not None:
            span = (width - 2 * t) * rng.uniform(0.55, 1.0)
            start = -half + t + rng.uniform(0, 1) * (width - 2 * t - span)
            size = (span, 0.2, (high - low - t) * rng.uniform(0.7, 0.92))
            scene.box(place, (start, -depth + rng.uniform(0.03, 0.09), low + t), size, textures.wood(rng), pictures.books)
    clutter(scene, place, rng, across=(-half, half), along=(-depth, -0.03), height=height)


def cabinet(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """A low cabinet with things on top."""
    material, depth, height = any_material(rng), float(rng.uniform(0.4, 0.55)), float(rng.uniform(0.65, 1.0))
    scene.box(place, (-width / 2, -depth, 0), (width, depth, height), material, pictures.cabinet(material))
    clutter(scene, place, rng, across=(-width / 2, width / 2), along=(-depth, -0.05), height=height)


def wardrobe(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """A tall cabinet, cartons on top."""
    material, height = any_material(rng), float(rng.uniform(1.8, 2.1))
    scene.box(place, (-width / 2, -0.55, 0), (width, 0.55, height), material, pictures.cabinet(material))
    scene.box(place, (-width / 4, -0.45, height), (width / 2, 0.35, 0.28), pictures.carton)


def desk(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """A desk with a monitor, a drawer unit and things on top."""
    material, depth, height = any_material(rng), 0.7, 0.74
    scene.box(place, (-width / 2, -depth, height - 0.04), (width, depth, 0.04), material)
    for x in (-width / 2 + 0.04, width / 2 - 0.09):
        for y in (-depth + 0.04, -0.09):
            scene.box(place, (x, y, 0), (0.05, 0.05, height - 0.04), material)
    scene.box(place, (-width / 2 + 0.12, -depth + 0.1, 0), (0.4, 0.5, 0.55), material, pictures.cabinet(material))
    dark = textures.plaster(rng, (52, 52, 58))
    scene.box(place, (-0.03, -0.3, height), (0.06, 0.05, 0.15), dark)
    scene.box(place, (-0.28, -0.36, height + 0.12), (0.56, 0.04, 0.34), dark, pictures.screen)
    scene.box(place, (-0.2, -0.62, height), (0.4, 0.14, 0.025), pictures.screen)
    clutter(scene, place, rng, across=(0.32, width / 2), along=(-depth, -0.1), height=height)


def sofa(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """A sofa with cushions."""
    fabric, half = textures.cloth(rng), width / 2
    scene.box(place, (-half, -0.85, 0), (width, 0.85, 0.42), fabric)
    scene.box(place, (-half, -0.25, 0.42), (width, 0.25, 0.42), fabric)
    for x in (-half, half - 0.16):
        scene.box(place, (x, -0.85, 0.42), (0.16, 0.6, 0.2), fabric)
    for x in (-half / 2, half / 2):
        scene.box(place.moved(x, -0.42, rng.uniform(-0.3, 0.3)), (-0.2, 0, 0.42), (0.4, 0.13, 0.36), textures.cloth(rng))


def door(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """A closed door."""
    material = any_material(rng)
    scene.box(place, (-width / 2, -0.06, 0), (width, 0.06, 2.06), material, pictures.door(material))


def cartons(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """A pile of cardboard boxes."""
    side, z = min(width, 0.55), 0.0
    for _ in range(int(rng.integers(2, 5))):
        size = (side * rng.uniform(0.7, 1.0), side * rng.uniform(0.6, 0.9), rng.uniform(0.22, 0.42))
        turned = place.moved(0, -0.45 * side - 0.1, rng.uniform(-0.3, 0.3))
        scene.box(turned, (-size[0] / 2, -size[1] / 2, z), size, pictures.carton)
        z += size[2]


def plant(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """A pot with a round plant."""
    radius, height = min(width, 0.5) / 2.4, float(rng.uniform(0.3, 0.5))
    spot = place.moved(0, -1.25 * radius)
    scene.cylinder(spot, (0, 0, 0), radius, height, side=textures.terrazzo(rng), top=textures.terrazzo(rng))
    leaves = textures.cloth(rng, ((48, 92, 40), (98, 150, 66)))
    scene.sphere(spot, (0, 0, height + 0.8 * radius), 1.1 * radius, leaves)
    scene.sphere(spot, (0, 0, height + 2.2 * radius), 0.8 * radius, leaves)


def drum(scene: Scene, place: Place, rng: np.random.Generator, width: float) -> None:
    """A drum with a label around."""
    radius, height = min(width, 0.6) / 2.2, float(rng.uniform(0.5, 0.9))
    side = textures.metal(rng) if rng.random() < 0.5 else pictures.poster
    scene.cylinder(place.moved(0, -1.1 * radius), (0, 0, 0), radius, height, side=side, top=textures.metal(rng))


def picture(scene: Scene, place: Place, rng: np.random.Generator, width: float, bottom: float) -> None:
    """A framed picture or a poster on the wall."""
    size = (width, 0.03, float(np.clip(width * rng.uniform(0.6, 1.3), 0.35, 2.45 - bottom)))
    sheet = pictures.painting if rng.random() < 0.6 else pictures.poster
    scene.box(place, (-width / 2, -0.03, bottom), size, textures.wood(rng), sheet)


def clutter(
    scene: Scene,
    place: Place,
    rng: np.random.Generator,
    *,
    across: tuple[float, float],
    along: tuple[float, float],
    height: float,
) -> None:
    """Small things side by side on a surface between x in `across` and y in `along`."""
    x = across[0] + 0.03
    while x < across[1] - 0.12:
        width = float(rng.uniform(0.12, min(0.36, across[1] - x)))
        depth = min(width, along[1] - along[0] - 0.04)
        spot = place.moved(x + width / 2, (along[0] + along[1]) / 2 + rng.uniform(-0.03, 0.03))
        kind = int(rng.integers(5))
        if kind == 0:
            scene.sphere(spot, (0, 0, height + 0.4 * depth), 0.4 * depth, textures.terrazzo(rng))
        elif kind == 1:
            jar = textures.metal(rng) if rng.random() < 0.5 else textures.cloth(rng)
            scene.cylinder(spot, (0, 0, height), 0.35 * depth, float(rng.uniform(0.12, 0.34)), side=jar, top=textures.metal(rng))
        elif kind == 2:
            size = (0.9 * width, min(depth, 0.2), float(rng.uniform(0.18, 0.28)))
            scene.box(spot, (-size[0] / 2, -size[1] / 2, height), size, textures.wood(rng), pictures.books)
        elif kind == 3:
            size = (0.8 * width, 0.8 * depth, float(rng.uniform(0.1, 0.26)))
            turned = spot.moved(0, 0, rng.uniform(-0.25, 0.25))
            scene.box(turned, (-size[0] / 2, -size[1] / 2, height), size, pictures.carton)
        x += width + float(rng.uniform(0.02, 0.2))


AGAINST_WALLS = (
    Piece(bookcase, 0.7, 1.3, low=False),
    Piece(cabinet, 0.8, 1.7, low=True),
    Piece(wardrobe, 0.9, 1.5, low=False),
    Piece(desk, 1.2, 1.7, low=True),
    Piece(sofa, 1.5, 2.1, low=True),
    Piece(door, 0.85, 0.95, low=False),
    Piece(cartons, 0.45, 0.6, low=True),
    Piece(plant, 0.4, 0.5, low=True),
    Piece(drum, 0.45, 0.65, low=True),
)
NARROW = tuple(piece for piece in AGAINST_WALLS if piece.build in (door, plant, drum))
FREE_STANDING: tuple[Builder, ...] = (cartons, plant, drum)
