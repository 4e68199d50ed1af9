# SPDX-License-Identifier: Apache-2.0
"""Pictures and exact depth of a scene."""

from __future__ import annotations

import cv2
import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.se3 import SE3
from st3r_ros.sim.atlas import Atlas
from st3r_ros.sim.lighting import lit_textures
from st3r_ros.sim.raycast import Hits, RayCaster
from st3r_ros.sim.scene import Scene

_SLANT = 0.6  # between 0, sharp but glittering where a surface is seen at a flat angle, and 1, calm but blurred
_DITHER = np.array(
    [[0.0, 0.5], [0.75, 0.25]], dtype=np.float32
)  # neighbouring rays take different levels, their mean blends them


class Renderer:
    """Renders one scene. Making it takes a second or two: it paints the textures and bakes the light into them.

    seed: of the textures. supersampling: rays per pixel along each side; more of them make smoother edges.
    """

    def __init__(self, scene: Scene, seed: int = 0, supersampling: float = 1.5) -> None:
        self._supersampling = supersampling
        self._atlas = Atlas.pack(lit_textures(scene, seed))
        self._caster = RayCaster(scene)
        self._density = self._atlas.boxes[:, 2] / np.array([surface.size[0] for surface in scene.surfaces])

    def image(self, camera: Camera, T_world_cam: SE3) -> np.ndarray:
        """What an ideal camera sees, (H, W, 3) uint8 RGB; black where there is nothing."""
        fine = camera.scaled(round(camera.width * self._supersampling), round(camera.height * self._supersampling))
        hits = self._caster.cast(fine, T_world_cam)
        x, y, width, height = (np.take(side, hits.surface, mode="clip") for side in self._atlas.boxes.T)
        colors = self._atlas.sample(x + hits.u * width, y + hits.v * height, self._level(hits, fine))
        colors[hits.surface < 0] = 0
        return cv2.resize(colors, (camera.width, camera.height), interpolation=cv2.INTER_AREA)

    def depth(self, camera: Camera, T_world_cam: SE3) -> np.ndarray:
        """The depth along the optical axis at the pixel centres, (H, W) float32 metres, 0 where there is nothing."""
        return self._caster.depth(self._caster.cast(camera, T_world_cam), camera, T_world_cam)

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
