# SPDX-License-Identifier: Apache-2.0
"""A simulated world: zones, and a path through their free space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from st3r_ros.geometry.se3 import SE3
from st3r_ros.sim.scene import Scene
from st3r_ros.sim.zones import Zone

_REACH = 0.7  # metres around the path within which the world looks complete


class CameraPath(Protocol):
    """The path of the camera."""

    def poses(self, frames: int, fps: float) -> SE3:
        """T_world_cam (frames,) of the optical frame."""
        ...


@dataclass(frozen=True, eq=False)
class Twins:
    """Two identical rooms with their lobbies, each of several zones.

    T_a_b: from world coordinates in room b to those of the corresponding point in room a. a, b: their zones.
    """

    T_a_b: SE3
    a: Mapping[int, Zone]
    b: Mapping[int, Zone]

    def in_a(self, points: np.ndarray) -> np.ndarray:
        """Which world points (..., 3) belong to room a, including its walls; (...) bool."""
        return np.any([zone.contains(points) for zone in self.a.values()], axis=0)

    def in_b(self, points: np.ndarray) -> np.ndarray:
        """Which belong to room b."""
        return np.any([zone.contains(points) for zone in self.b.values()], axis=0)


@dataclass(frozen=True, eq=False)
class World:
    """Zones, and a path through their free space.

    grain: factor by which textures are coarser than usual, to limit memory. twins: the twin rooms, if any.
    """

    zones: tuple[Zone, ...]
    path: CameraPath
    grain: float = 1.0
    twins: Twins | None = None


def drop_unseen(scene: Scene, path: np.ndarray, openings: np.ndarray | None = None) -> None:
    """Removes what is not visible from around a path (M, 2) or through openings with corners (N, 3), in the scene's axes."""
    shifts = _REACH * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    spots = (path[:, None] + shifts).reshape(-1, 2)
    viewpoints = np.array([(x, y, z) for x, y in spots for z in (0.3, 2.3)])
    scene.drop_unseen(viewpoints if openings is None else np.vstack([viewpoints, openings]))
