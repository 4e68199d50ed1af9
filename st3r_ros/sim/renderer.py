# SPDX-License-Identifier: Apache-2.0
"""Images and exact depth of a world."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.se3 import SE3
from st3r_ros.sim.atlas import Atlas
from st3r_ros.sim.lighting import lit_textures
from st3r_ros.sim.raycast import Hits
from st3r_ros.sim.scene import Scene
from st3r_ros.sim.zones import Zone, ZoneCaster

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
        x = (np.arange(width) - camera.K[0, 2]) / camera.K[0, 0]
        y = (np.arange(height) - camera.K[1, 2]) / camera.K[1, 1]
        of_pixel = 0.5 * _SLANT * np.log2(1.0 + x * x + (y * y)[:, None]).astype(np.float32)
        of_pixel += np.tile(_DITHER, (-(-height // 2), -(-width // 2)))[:height, :width]
        of_surface = np.log2(self._density / camera.K[0, 0]) - _SLANT * np.log2(np.maximum(hits.distance, 1e-6))
        level = np.take(of_surface.astype(np.float32), hits.surface, mode="clip")
        level -= (1.0 + _SLANT) * np.log2(np.maximum(hits.inverse_depth, 1e-6))
        level += of_pixel
        return level
