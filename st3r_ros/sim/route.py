# SPDX-License-Identifier: Apache-2.0
"""A path through a house: a line through doorways that a sequence with any number of frames follows once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.se3 import SE3
from st3r_ros.sim.path import looking
from st3r_ros.sim.scene import Place

STEP = 0.02  # approximate distance between the points of a route, metres

_TURNING = 1.0  # metres of motion that take as long as a rotation by one radian
_CALM = 1.2  # metres to both sides over which the heading is averaged
_SWAY = np.array([0.02, 0.02, 0.02, 0.03, 0.02, 0.015])  # metres and radians: position, yaw, pitch, roll
_PITCH = -0.12  # radians


@dataclass(frozen=True, eq=False)
class Route:
    """The poses of the camera, point by point.

    points: (M, 6) x, y, z in metres, yaw without jumps, pitch, roll in radians. again: number of points at the end that repeat
    those at the beginning in another place: both get the same frames.
    """

    points: np.ndarray
    again: int = 0

    def poses(self, frames: int, fps: float) -> SE3:
        """T_world_cam (frames,) of the optical frame: the whole path in that many frames, slower in turns."""
        x, y, z, yaw, pitch, roll = (self._at(frames, column) for column in self.points.T)
        return looking(np.stack([x, y, z], axis=1), yaw, pitch, roll)

    def _at(self, frames: int, values: np.ndarray) -> np.ndarray:
        """Interpolates values (M,) at the points to the frames (frames,)."""
        effort = np.concatenate([[0.0], np.cumsum(STEP + _TURNING * np.abs(np.diff(self.points[:, 3])))])
        last, steps = len(self.points) - 1, max(frames - 1, 1)
        alike = round(steps * float(effort[max(self.again - 1, 0)] / effort[-1]))
        marks, known = [0, last], [0, steps]
        if 0 < alike < steps / 2:
            marks, known = [0, self.again - 1, last - self.again + 1, last], [0, alike, steps - alike, steps]
        return np.interp(np.interp(np.arange(frames), known, effort[marks]), effort, values)


def through(start: Place, end: Place, bulge: float = 0.0, pull: float = 1.0) -> np.ndarray:
    """A smooth line (P, 2) between two places, tangent to their yaw at both ends.

    bulge: deviation to the left in the middle, metres. pull: how far it keeps its direction at the ends.
    """
    s = np.linspace(0.0, 1.0, 200)[:, None]
    p0, p1 = np.array([start.x, start.y]), np.array([end.x, end.y])
    reach = pull * float(np.linalg.norm(p1 - p0))
    v0, v1 = (reach * np.array([np.cos(place.yaw), np.sin(place.yaw)]) for place in (start, end))
    hermite = (2 * s**3 - 3 * s**2 + 1) * p0 + (s**3 - 2 * s**2 + s) * v0 + (3 * s**2 - 2 * s**3) * p1 + (s**3 - s**2) * v1
    ahead = np.gradient(hermite, axis=0)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) / np.linalg.norm(ahead, axis=1, keepdims=True)
    return hermite + bulge * np.sin(np.pi * s) ** 2 * left


def length_of(line: np.ndarray) -> float:
    """Arc length along a line (P, 2), metres."""
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def resampled(line: np.ndarray, spacing: float) -> np.ndarray:
    """Points (M, 2) on a line (P, 2) from its beginning on, at equal distances along it."""
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    even = np.arange(0.0, at[-1] + 1e-6, spacing)
    return np.stack([np.interp(even, at, line[:, i]) for i in range(2)], axis=1)


def heading_along(points: np.ndarray) -> np.ndarray:
    """Yaw (M,) without jumps along points (M, 2) at distances of STEP: the mean over a metre or so before and behind."""
    ahead = np.gradient(points, axis=0)
    width = round(_CALM / STEP)
    padded = np.pad(np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0])), width, mode="edge")
    kernel = np.hanning(2 * width + 3)[1:-1]
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def waves(rng: np.random.Generator, points: int, lengths: Sequence[float], period: float | None = None) -> np.ndarray:
    """A sum of waves (points,), between -1 and 1, over points at distances of STEP; lengths: of the waves, metres.

    period: metres after which all of them repeat; their lengths are adjusted to fit.
    """
    metres = STEP * np.arange(points)
    turns = np.array([period / max(1, round(period / length)) if period else length for length in lengths])
    phase = rng.uniform(0, 2 * np.pi, len(lengths))
    return np.sin(2 * np.pi * metres[:, None] / turns + phase).mean(1)


def swaying(rng: np.random.Generator, points: np.ndarray, yaw: np.ndarray, period: float | None = None) -> np.ndarray:
    """The points (M, 6) of a route along (M, 2) with yaw (M,) and the sway of a carried camera."""
    height = float(rng.uniform(1.2, 1.45))
    level = np.full(len(points), height)
    steady = np.column_stack([points, level, yaw, np.full(len(points), _PITCH), np.zeros(len(points))])
    sway = _SWAY * np.stack([waves(rng, len(points), rng.uniform(1.0, 6.0, 3).tolist(), period) for _ in range(6)], axis=1)
    (forward, left), c, s = sway[:, :2].T, np.cos(yaw), np.sin(yaw)
    return steady + np.column_stack([c * forward - s * left, s * forward + c * left, sway[:, 2:]])
