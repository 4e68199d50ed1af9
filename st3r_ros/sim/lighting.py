# SPDX-License-Identifier: Apache-2.0
"""Lamps with soft shadows, baked once into the textures: brightness depends on the position, not on the camera."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from st3r_ros.sim.raycast import RayCaster
from st3r_ros.sim.scene import Cylinder, Rectangle, Scene, Sphere

_AMBIENT, _LAMP = 0.45, 3.2
_LAMP_SPOTS = 0.18 * np.array([(-1.0, -0.6, 0.0), (0.6, -1.0, 0.0), (1.0, 0.6, 0.0), (-0.6, 1.0, 0.0)])  # metres
_CELL = 0.15  # metres between the samples of the light


def lit_textures(scenes: Sequence[Scene], seed: int, grain: float = 1.0) -> list[np.ndarray]:
    """The textures (h, w, 3) uint8 of all surfaces in order, each scene lit by its own lamps.

    grain: factor by which textures are coarser than their materials.
    """
    surfaces = [surface for scene in scenes for surface in scene.surfaces]
    lights = [light for scene in scenes for light in _lights(scene)]
    paints = [np.random.default_rng([seed, index]) for index in range(len(surfaces))]
    return [
        _lit(surface.material(paint, *(side / grain for side in surface.size)), light)
        for surface, paint, light in zip(surfaces, paints, lights, strict=True)
    ]


def _lights(scene: Scene) -> list[np.ndarray]:
    """Brightness of each surface on a coarse grid (rows, columns)."""
    caster = RayCaster(scene)
    patches = [_patch(surface) for surface in scene.surfaces]
    points = np.concatenate([points.reshape(-1, 3) for points, _ in patches])
    normals = np.concatenate([normals.reshape(-1, 3) for _, normals in patches])
    brightness = np.full(len(points), _AMBIENT)
    for lamp in scene.lamps:
        for spot in lamp + _LAMP_SPOTS:
            brightness += _LAMP / len(_LAMP_SPOTS) * _received(caster, spot, points, normals)
    ends = np.cumsum([points.shape[0] * points.shape[1] for points, _ in patches])[:-1]
    return [part.reshape(at.shape[:2]) for part, (at, _) in zip(np.split(brightness, ends), patches, strict=True)]


def _lit(texture: np.ndarray, light: np.ndarray) -> np.ndarray:
    """A texture (h, w, 3) uint8, lit by a coarse map of its brightness (rows, columns)."""
    fine = cv2.resize(light.astype(np.float32), texture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(texture, cv2.cvtColor(fine, cv2.COLOR_GRAY2RGB), dtype=cv2.CV_8U)


def _received(caster: RayCaster, spot: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Light received at points (N, 3) from a lamp of strength 1 with distance falloff, by Lambert's law."""
    towards = spot - points
    distance = np.linalg.norm(towards, axis=1)
    cosine = np.maximum((towards * normals).sum(1) / distance, 0.0)
    lit = np.flatnonzero(cosine)
    cosine[lit[caster.occluded(spot, points[lit] + 0.003 * normals[lit])]] = 0.0
    return cosine / (2.0 + distance**2)


def _patch(surface: Rectangle | Cylinder | Sphere) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals (h, w, 3) on a grid of cells over a surface."""
    columns, rows = (max(4, round(side / _CELL)) for side in surface.size)
    u, v = ((np.arange(columns) + 0.5) / columns)[None, :, None], ((np.arange(rows) + 0.5) / rows)[:, None, None]
    if isinstance(surface, Rectangle):
        points = surface.origin + u * surface.edge_u + v * surface.edge_v
        normal = np.cross(surface.edge_v, surface.edge_u)
        return points, np.broadcast_to(normal / np.linalg.norm(normal), points.shape)
    angle, up = (u - 0.5) * 2 * np.pi, np.array([0.0, 0.0, 1.0])
    around = np.concatenate([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    if isinstance(surface, Cylinder):
        normals = around + 0.0 * v
        return surface.center + surface.radius * normals + surface.height * (0.5 - v) * up, normals
    normals = np.sin(np.pi * v) * around + np.cos(np.pi * v) * up
    return surface.center + surface.radius * normals, normals
