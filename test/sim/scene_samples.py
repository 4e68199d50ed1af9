# SPDX-License-Identifier: Apache-2.0
"""Random scenes of a few surfaces, and a slow, obvious way to see what a ray hits."""

import numpy as np

from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.scene import Cylinder, Place, Rectangle, Scene, Sphere


def grey(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """A material of one grey."""
    return np.full((8, 8, 3), 128, dtype=np.uint8)


def random_scene(rng: np.random.Generator) -> Scene:
    """Boxes, cylinders and spheres around the origin, not closer than about a metre, in a room of 12 x 12 x 6 metres."""
    scene = Scene()
    for turn in range(4):
        scene.rectangle(Place(yaw=turn * np.pi / 2), (-6, 6, 3), (12, 0, 0), (0, 0, -6), material=grey)
    scene.rectangle(Place(), (-6, 6, -3), (12, 0, 0), (0, -12, 0), material=grey)
    scene.rectangle(Place(), (-6, -6, 3), (12, 0, 0), (0, 12, 0), material=grey)
    for angle in rng.uniform(0, 2 * np.pi, 6):
        place = Place(rng.uniform(2, 4) * np.cos(angle), rng.uniform(2, 4) * np.sin(angle), rng.uniform(0, 6))
        scene.box(place, (-0.3, -0.3, rng.uniform(-1, 0)), rng.uniform(0.3, 1.0, 3), grey)
    for angle in rng.uniform(0, 2 * np.pi, 3):
        place = Place(3 * np.cos(angle), 3 * np.sin(angle))
        scene.cylinder(place, (0, 0, rng.uniform(-1, 0)), rng.uniform(0.1, 0.6), rng.uniform(0.3, 1.5), side=grey, top=grey)
        scene.sphere(place.moved(0.5, 0.5), (0, 0, rng.uniform(-1, 1)), rng.uniform(0.1, 0.6), grey)
    return scene


def random_pose(rng: np.random.Generator) -> SE3:
    """Near the origin, looking anywhere."""
    return SE3.exp(np.concatenate([rng.uniform(-0.4, 0.4, 3), rng.normal(0, 1.5, 3)]))


def nearest_hit(scene: Scene, center: np.ndarray, ray: np.ndarray) -> float:
    """The parameter at which a ray enters the first surface, in float64."""
    return min((z for surface in scene.surfaces for z in crossings(surface, center, ray) if z > 0.02), default=np.inf)


def crossings(surface: Rectangle | Cylinder | Sphere, center: np.ndarray, ray: np.ndarray) -> list[float]:
    """Where a ray crosses a surface from its visible side."""
    if isinstance(surface, Rectangle):
        normal = np.cross(surface.edge_v, surface.edge_u)
        if ray @ normal >= 0:
            return []
        z = (surface.origin - center) @ normal / (ray @ normal)
        at = center + z * ray - surface.origin
        u, v = at @ surface.edge_u / (surface.edge_u @ surface.edge_u), at @ surface.edge_v / (surface.edge_v @ surface.edge_v)
        inside = (u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25 if surface.disc else 0 <= u <= 1 and 0 <= v <= 1
        return [z] if inside else []
    axes = slice(0, 3 if isinstance(surface, Sphere) else 2)
    offset = (center - surface.center)[axes]
    roots = np.roots([ray[axes] @ ray[axes], 2 * ray[axes] @ offset, offset @ offset - surface.radius**2])
    entering = [float(min(roots))] if np.isreal(roots).all() else []
    if isinstance(surface, Sphere):
        return entering
    return [z for z in entering if abs((center + z * ray - surface.center)[2]) <= surface.height / 2]


def distance_to(surface: Rectangle | Cylinder | Sphere, points: np.ndarray) -> np.ndarray:
    """How far points (N, 3) are from a surface, outside of it."""
    offset = points - surface.center if not isinstance(surface, Rectangle) else points - surface.origin
    if isinstance(surface, Sphere):
        return np.linalg.norm(offset, axis=1) - surface.radius
    if isinstance(surface, Cylinder):
        beside, above = np.linalg.norm(offset[:, :2], axis=1) - surface.radius, np.abs(offset[:, 2]) - surface.height / 2
        return np.hypot(np.maximum(beside, 0), np.maximum(above, 0))
    for edge in (surface.edge_u, surface.edge_v):
        offset = offset - np.clip(offset @ edge / (edge @ edge), 0, 1)[:, None] * edge
    return np.linalg.norm(offset, axis=1)
