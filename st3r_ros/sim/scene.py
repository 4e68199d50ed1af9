# SPDX-License-Identifier: Apache-2.0
"""The surfaces of a simulated world: textured rectangles, upright cylinders and spheres, metres, z up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Material = Callable[[np.random.Generator, float, float], np.ndarray]
"""Paints the texture (h, w, 3) uint8 RGB of a surface; width and height in metres."""


@dataclass(frozen=True, eq=False)
class Rectangle:
    """Points origin + u * edge_u + v * edge_v, 0 <= u, v <= 1, seen from the side where edge_u runs right and edge_v down.

    u runs along the columns of its texture, v down the rows. disc: only the inscribed ellipse.
    """

    origin: np.ndarray
    edge_u: np.ndarray
    edge_v: np.ndarray
    material: Material
    disc: bool = False

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, metres."""
        return float(np.linalg.norm(self.edge_u)), float(np.linalg.norm(self.edge_v))


@dataclass(frozen=True, eq=False)
class Cylinder:
    """The side of an upright cylinder, seen from outside; center is its middle. The texture wraps around once."""

    center: np.ndarray
    radius: float
    height: float
    material: Material

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the unrolled side, metres."""
        return 2 * np.pi * self.radius, self.height


@dataclass(frozen=True, eq=False)
class Sphere:
    """A sphere, seen from outside. The texture is a map of longitude and latitude."""

    center: np.ndarray
    radius: float
    material: Material

    @property
    def size(self) -> tuple[float, float]:
        """Lengths of the equator and of a meridian, metres."""
        return 2 * np.pi * self.radius, np.pi * self.radius


@dataclass(frozen=True)
class Place:
    """A spot on the floor with a direction: local x along `yaw`, local y to its left, z up; metres and radians."""

    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0

    def to_world(self, point: Sequence[float] | np.ndarray) -> np.ndarray:
        """A local point (3,) in the world."""
        return self.rotated(point) + np.array([self.x, self.y, 0.0])

    def to_local(self, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """Points (..., 3) of the world in local coordinates."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        x, y, z = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
        x, y = x - self.x, y - self.y
        return np.stack([c * x + s * y, c * y - s * x, z], axis=-1)

    def rotated(self, vector: Sequence[float] | np.ndarray) -> np.ndarray:
        """A local direction (3,) in the world."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1], vector[2]])

    def moved(self, x: float, y: float, yaw: float = 0.0) -> Place:
        """The place at local (x, y), turned further by `yaw`."""
        there = self.to_world((x, y, 0.0))
        return Place(float(there[0]), float(there[1]), self.yaw + yaw)


@dataclass(eq=False)
class Scene:
    """The surfaces, and the lamps (3,) in the world."""

    rectangles: list[Rectangle] = field(default_factory=list)
    cylinders: list[Cylinder] = field(default_factory=list)
    spheres: list[Sphere] = field(default_factory=list)
    lamps: list[np.ndarray] = field(default_factory=list)

    @property
    def solids(self) -> list[Cylinder | Sphere]:
        """The curved surfaces."""
        return [*self.cylinders, *self.spheres]

    @property
    def surfaces(self) -> list[Rectangle | Cylinder | Sphere]:
        """All surfaces, in the order in which `Hits` counts them."""
        return [*self.rectangles, *self.solids]

    def rectangle(
        self,
        place: Place,
        origin: Sequence[float] | np.ndarray,
        edge_u: Sequence[float] | np.ndarray,
        edge_v: Sequence[float] | np.ndarray,
        *,
        material: Material,
        disc: bool = False,
    ) -> None:
        """Adds a rectangle given in local coordinates."""
        self.rectangles.append(Rectangle(place.to_world(origin), place.rotated(edge_u), place.rotated(edge_v), material, disc))

    def box(
        self, place: Place, low: Sequence[float], size: Sequence[float], material: Material, front: Material | None = None
    ) -> None:
        """Adds a box from the local corner `low` with the edges `size`.

        front: the material of the side that faces local -y, if different.
        """
        x, y, z = np.diag(np.asarray(size, dtype=np.float64))
        corner = np.asarray(low, dtype=np.float64)
        self.rectangle(place, corner + z, x, -z, material=front or material)
        self.rectangle(place, corner + x + z, y, -z, material=material)
        self.rectangle(place, corner + x + y + z, -x, -z, material=material)
        self.rectangle(place, corner + y + z, -y, -z, material=material)
        self.rectangle(place, corner + y + z, x, -y, material=material)
        self.rectangle(place, corner, x, y, material=material)

    def cylinder(
        self, place: Place, base: Sequence[float], radius: float, height: float, *, side: Material, top: Material
    ) -> None:
        """Adds an upright cylinder with a lid; base is the centre of its lower end."""
        center = place.to_world((base[0], base[1], base[2] + 0.5 * height))
        self.cylinders.append(Cylinder(center, radius, height, side))
        across = 2.0 * radius
        lid = (base[0] - radius, base[1] + radius, base[2] + height)
        self.rectangle(place, lid, (across, 0, 0), (0, -across, 0), material=top, disc=True)

    def sphere(self, place: Place, center: Sequence[float], radius: float, material: Material) -> None:
        """Add a sphere."""
        self.spheres.append(Sphere(place.to_world(center), radius, material))

    def drop_unseen(self, viewpoints: np.ndarray) -> None:
        """Removes the rectangles that face away from all viewpoints (N, 3): backs of cupboards, undersides of boxes."""
        kept = []
        for rectangle in self.rectangles:
            normal = np.cross(rectangle.edge_v, rectangle.edge_u)
            if ((viewpoints - rectangle.origin) @ normal).max() > 0:
                kept.append(rectangle)
        self.rectangles = kept
