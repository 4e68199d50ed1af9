# SPDX-License-Identifier: Apache-2.0
"""A hall with a pillar, and its twin, seen exactly from anywhere: what the tests of noisy_depth look at."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np

from noisy_depth.views import TrueView
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.types import Frame, Trajectory

HALL = np.array([3.0, 1.4, 4.0])  # metres: half sides of a box that the cameras are in, y down
PILLAR = np.array([0.3, 1.4, 0.3])  # stands in its middle
SPACING = np.array([0.0, 0.0, 30.0])  # from the hall's middle to that of its twin
CAMERA = Camera.from_fov(96, 72, 65.0)


def look(x: float, z: float, yaw_deg: float, room: int = 0) -> SE3:
    """T_world_cam of a level camera at (x, 0, z) of a room, turned to the right from +z."""
    turn = SE3.exp(np.array([0, 0, 0, 0, np.radians(yaw_deg), 0]))
    return SE3(turn.rotation, np.array([x, 0.0, z]) + room * SPACING)


def depth_of(T_world_cam: SE3, camera: Camera = CAMERA) -> np.ndarray:
    """The exact depth (h, w) float32 in the hall or its twin."""
    pixels = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1)
    rays = camera.unproject(pixels) @ T_world_cam.rotation.T
    origin = T_world_cam.translation - SPACING * round(T_world_cam.translation[2] / SPACING[2])
    with np.errstate(divide="ignore"):
        wall = ((np.sign(rays) * HALL - origin) / rays).min(-1)
        enter = ((-np.sign(rays) * PILLAR - origin) / rays).max(-1)
        leave = ((np.sign(rays) * PILLAR - origin) / rays).min(-1)
    return np.where((enter > 0) & (enter < leave), enter, wall).astype(np.float32)


@cache
def view(T_world_cam: SE3) -> TrueView:
    return TrueView(depth_of(T_world_cam), CAMERA.K, T_world_cam)


class Halls:
    """The hall and its twin as `Twins`."""

    T_a_b = SE3(np.eye(3), -SPACING)

    def in_a(self, points: np.ndarray) -> np.ndarray:
        return (np.abs(points) < HALL + 0.01).all(1)

    def in_b(self, points: np.ndarray) -> np.ndarray:
        return self.in_a(points - SPACING)


class Recorded(SimpleNamespace):
    def __iter__(self):
        for i in range(self.length):
            yield Frame(i, i * 100_000_000, np.full((72, 96, 3), i, np.uint8), self.camera)


def recorded(depth_camera: Camera | None = None, **changes):
    """A sequence of four images with depth for every second one, from a depth camera of its own."""
    stamps = np.arange(4) * 100_000_000
    poses = [look(-2.0 + 0.1 * i, -3.5, 0.0) for i in range(4)]
    truth = Trajectory(stamps, np.array([T.translation for T in poses]), np.array([T.quaternion_xyzw for T in poses]))
    images = [depth_of(T, depth_camera or CAMERA) for T in poses[::2]]
    depth = SimpleNamespace(stamps_ns=stamps[::2] + 15_000_000, camera=depth_camera, depth=images.__getitem__)
    fields = {"name": "hall", "kind": "tum", "length": 4, "camera": CAMERA, "truth": truth, "depth": depth}
    return Recorded(**{**fields, **changes})
