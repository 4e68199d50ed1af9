# SPDX-License-Identifier: Apache-2.0
"""Images and exact depth of a world: textures lit once, sampled by one `cv2.remap`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import grid_axes
from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.raycast import Hits, RayCaster
from st3r_ros.sim.scene import Cylinder, Rectangle, Scene, Sphere
from st3r_ros.sim.world import Zone, ZoneCaster

# The textures of all surfaces in one image with a mipmap pyramid ------------------------------------------------------

LEVELS = 5

_PAD = 12  # pixels of repeated border around each texture, enough for all levels but the coarsest


@dataclass(frozen=True, eq=False)
class Atlas:
    """Level 0 at the top, each further level, half as large, below the one before: level l starts at row 2 height (1 - 2^-l).

    image: (2 height, W, 3) uint8. height: rows of level 0. boxes: (textures, 4) float32, x y width height in level 0.
    """

    image: np.ndarray
    height: int
    boxes: np.ndarray

    @staticmethod
    def pack(textures: Sequence[np.ndarray]) -> Atlas:
        """Lay out textures (h, w, 3) uint8 on shelves, the highest first, and build the smaller levels."""
        sizes = np.array([texture.shape[:2] for texture in textures]) + 2 * _PAD
        width = int(max(sizes[:, 1].max(), 1.1 * np.sqrt(sizes.prod(1).sum())))
        corners = np.zeros_like(sizes)
        x = y = shelf = 0
        for index in np.argsort(-sizes[:, 0], kind="stable"):
            h, w = sizes[index]
            if x + w > width:
                x, y, shelf = 0, y + shelf, 0
            corners[index] = x, y
            x, shelf = x + w, max(shelf, h)
        grain = 2 ** (LEVELS - 1)
        height, width = (int(-(-side // grain) * grain) for side in (y + shelf, width))
        image = np.zeros((2 * height, width, 3), dtype=np.uint8)
        for texture, (h, w), (x, y) in zip(textures, sizes, corners, strict=True):
            image[y : y + h, x : x + w] = cv2.copyMakeBorder(texture, *(_PAD,) * 4, cv2.BORDER_REPLICATE)
        _build_levels(image, height)
        return Atlas(image, height, np.hstack([corners + _PAD, (sizes - 2 * _PAD)[:, ::-1]]).astype(np.float32))

    def sample(self, x: np.ndarray, y: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Bilinear lookups (H, W, 3) uint8.

        x, y: (H, W) float32, texels of level 0, the first one covering 0 to 1. level: (H, W) float32; its floor is taken.
        """
        scale = np.exp2(-np.floor(np.clip(level, 0.0, LEVELS - 1)))
        below = 2.0 * self.height
        return cv2.remap(self.image, x * scale - 0.5, (y - below) * scale + (below - 0.5), cv2.INTER_LINEAR)


def _build_levels(image: np.ndarray, height: int) -> None:
    level, row = image[:height], height
    for _ in range(1, LEVELS):
        level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
        image[row : row + level.shape[0], : level.shape[1]] = level
        row += level.shape[0]


# Lamps with soft shadows, baked once into the textures: brightness depends on the position, not on the camera ---------

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


# Images and depth -----------------------------------------------------------------------------------------------------

_SLANT = 0.6  # between 0 (sharp, with aliasing at flat angles) and 1 (blurred, without aliasing)
_DITHER = np.array(
    [[0.0, 0.5], [0.75, 0.25]], dtype=np.float32
)  # neighbouring rays use different levels, which their mean blends


class Renderer:
    """Renders one world. The first image takes a second or two longer, ten for a house, to paint textures and bake light.

    seed: of the textures. grain: factor by which textures are coarser than usual. supersampling: rays per pixel along each side;
    more rays make smoother edges.
    """

    def __init__(self, zones: tuple[Zone, ...], seed: int = 0, grain: float = 1.0, supersampling: float = 1.5) -> None:
        self._zones, self._seed, self._grain = zones, seed, grain
        self._supersampling = supersampling
        self._caster = ZoneCaster(zones)

    def image(self, camera: Camera, T_world_cam: SE3) -> np.ndarray:
        """The image of an ideal camera, (H, W, 3) uint8 RGB; black where there is nothing."""
        fine = camera.scaled(round(camera.width * self._supersampling), round(camera.height * self._supersampling))
        hits = self._caster.cast(fine, T_world_cam)
        x, y, width, height = (np.take(side, hits.surface, mode="clip") for side in self._boxes.T)
        colors = self._atlas.sample(x + hits.u * width, y + hits.v * height, self._level(hits, fine))
        colors[hits.surface < 0] = 0
        return cv2.resize(colors, (camera.width, camera.height), interpolation=cv2.INTER_AREA)

    def depth(self, camera: Camera, T_world_cam: SE3) -> np.ndarray:
        """The depth along the optical axis at the pixel centres, (H, W) float32 metres, 0 where there is nothing."""
        return self._caster.depth(self._caster.cast(camera, T_world_cam), camera, T_world_cam)

    def zones_in_sight(self, camera: Camera, T_world_cam: SE3) -> set[int]:
        """Numbers of the zones that may be visible."""
        return self._caster.in_sight(camera, T_world_cam)

    @cached_property
    def _scenes(self) -> list[Scene]:
        """Each scene once, even when several zones share it."""
        return list({id(zone.scene): zone.scene for zone in self._zones}.values())

    @cached_property
    def _atlas(self) -> Atlas:
        return Atlas.pack(lit_textures(self._scenes, self._seed, self._grain))

    @cached_property
    def _boxes(self) -> np.ndarray:
        """Position of the texture of each surface in the atlas, (surfaces, 4)."""
        ends = np.cumsum([len(scene.surfaces) for scene in self._scenes])[:-1]
        boxes = {id(scene): part for scene, part in zip(self._scenes, np.split(self._atlas.boxes, ends), strict=True)}
        return np.concatenate([boxes[id(zone.scene)] for zone in self._zones])

    @cached_property
    def _density(self) -> np.ndarray:
        """Texels per metre of each surface."""
        return self._boxes[:, 2] / np.array([surface.size[0] for zone in self._zones for surface in zone.scene.surfaces])

    def _level(self, hits: Hits, camera: Camera) -> np.ndarray:
        """log2 of the texels under a pixel. They grow with the depth 1/w and with the slant: ray length / (w * distance)."""
        height, width = hits.surface.shape
        x, y = grid_axes(camera.K, width, height)
        of_pixel = 0.5 * _SLANT * np.log2(1.0 + x * x + y * y).astype(np.float32)
        of_pixel += np.tile(_DITHER, (-(-height // 2), -(-width // 2)))[:height, :width]
        of_surface = np.log2(self._density / camera.K[0, 0]) - _SLANT * np.log2(np.maximum(hits.distance, 1e-6))
        level = np.take(of_surface.astype(np.float32), hits.surface, mode="clip")
        level -= (1.0 + _SLANT) * np.log2(np.maximum(hits.inverse_depth, 1e-6))
        level += of_pixel
        return level
