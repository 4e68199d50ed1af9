# SPDX-License-Identifier: Apache-2.0
"""Ways of the camera: closed paths at the speed of a robot, and routes that any number of frames follow once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.scene import Place

STEP = 0.02  # approximate distance between the points of a path or route, metres

_SHORTEST_ROUND = 0.6  # of the nominal time; shorter sequences go part of the way and come back instead of moving faster
_ROUND_SWAY = np.array([0.02, 0.02, 0.02, 0.035, 0.02, 0.015])  # of a closed path; metres and radians: position, yaw, pitch, roll
_TURNING = 1.0  # metres of motion that take as long as a rotation by one radian
_CALM = 1.2  # metres to both sides over which the heading is averaged
_SWAY = np.array([0.02, 0.02, 0.02, 0.03, 0.02, 0.015])  # of a route, likewise
_PITCH = -0.12  # radians
_WIDE_RADIUS, _SHARP_RADIUS = 1.2, 0.5  # of the turns in a corridor, metres
_WIDE_CALM, _SHARP_CALM = 1.5, 0.35  # metres to both sides over which the heading of a closed path is averaged
_BEFORE_TURN = 2.5  # metres to the first sharp turn
_WAIT_S, _SPIN_S, _SPIN = 2.0, 3.0, np.pi / 2  # of a late start: seconds of standing, of turning, radians


class CameraPath(Protocol):
    """The path of the camera."""

    def poses(self, frames: int, fps: float) -> SE3:
        """T_world_cam (frames,) of the optical frame."""
        ...


@dataclass(frozen=True, eq=False)
class Path:
    """A closed line through free space and the camera orientation along it.

    points: (M, 2) metres, `spacing` metres apart, the first follows the last.
    yaw: (M,) radians, continuous heading that gains 2 pi per round. height: metres. speed: metres/s.
    returns: whether a sequence too short for a round comes back; otherwise it ends on the way.
    sway: (6, 3, 2) frequencies in Hz and phases of the camera sway.
    """

    points: np.ndarray
    yaw: np.ndarray
    spacing: float
    height: float
    speed: float
    returns: bool
    sway: np.ndarray

    def poses(self, frames: int, fps: float) -> SE3:
        """T_world_cam (frames,) of the optical frame."""
        seconds = np.arange(frames) / fps
        at = self._travelled(frames, fps) * len(self.points)
        lap, within = np.divmod(at, len(self.points))
        known = np.arange(len(self.points) + 1)
        x, y = (np.interp(within, known, np.append(line, line[0])) for line in self.points.T)
        yaw = np.interp(within, known, np.append(self.yaw, self.yaw[0] + 2 * np.pi)) + 2 * np.pi * lap
        frequency, phase = self.sway[..., 0, None], self.sway[..., 1, None]
        sway = _ROUND_SWAY[:, None] * np.sin(2 * np.pi * frequency * seconds + phase).mean(1)
        position = np.stack([x, y, np.full(frames, self.height)], axis=1) + sway[:3].T
        return looking(position, yaw + sway[3], sway[4] - 0.12, sway[5])

    def _travelled(self, frames: int, fps: float) -> np.ndarray:
        """Number of rounds (frames,) up to each frame."""
        progress = np.arange(frames) / max(frames - 1, 1)
        rounds = frames / fps * self.speed / (len(self.points) * self.spacing)
        if not self.returns:
            return rounds * progress
        if rounds >= _SHORTEST_ROUND:
            return max(1, round(rounds)) * progress
        return rounds / np.pi * 0.5 * (1.0 - np.cos(2 * np.pi * progress))


def room_path(rng: np.random.Generator, half_x: float, half_y: float) -> Path:
    """Around the centre on an irregular ellipse with at most these semi-axes, metres; looks ahead and outwards."""
    angle = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    uneven = 0.93 + 0.04 * np.sin(2 * angle + rng.uniform(0, 6.3)) + 0.03 * np.sin(3 * angle + rng.uniform(0, 6.3))
    line = np.stack([half_x * np.cos(angle), half_y * np.sin(angle)], axis=1) * uneven[:, None]
    glance = np.radians(38 + 9 * np.sin(2 * angle + rng.uniform(0, 6.3)))
    return _path(rng, line, glance, height=rng.uniform(1.2, 1.45), speed=0.42, returns=True)


def corridor_path(rng: np.random.Generator, half_x: float, half_y: float, *, sharp: bool = False) -> Path:
    """Along the rectangle with these half sides, with rounded corners, metres; looks ahead.

    sharp: with narrow turns, the first one after some metres; otherwise it begins in a wide one.
    """
    radius = _SHARP_RADIUS if sharp else _WIDE_RADIUS
    quarter = np.linspace(0, np.pi / 2, 40)
    corners = [(half_x, half_y), (-half_x, half_y), (-half_x, -half_y), (half_x, -half_y)]
    line = np.concatenate(
        [
            np.array([x - np.sign(x) * radius, y - np.sign(y) * radius])
            + radius * np.stack([np.cos(quarter + i * np.pi / 2), np.sin(quarter + i * np.pi / 2)], axis=1)
            for i, (x, y) in enumerate(corners)
        ]
    )
    line = np.roll(line, (0 if sharp else -20) - 40 * int(rng.integers(4)), axis=0)
    if sharp:
        back = line[-1] - line[0]
        line = np.vstack([line[0] + _BEFORE_TURN / np.linalg.norm(back) * back, line])
    height, calm = rng.uniform(1.2, 1.45), _SHARP_CALM if sharp else _WIDE_CALM
    return _path(rng, line, np.zeros(len(line)), height=height, speed=0.6, returns=False, calm=calm)


def _path(
    rng: np.random.Generator,
    line: np.ndarray,
    glance: np.ndarray,
    *,
    height: float,
    speed: float,
    returns: bool,
    calm: float = _WIDE_CALM,
) -> Path:
    """A path along a closed counter-clockwise line (N, 2), looking `glance` (N,) radians to the right of the heading.

    calm: metres to both sides over which the heading is averaged.
    """
    closed = np.vstack([line, line[:1]])
    steps = np.linalg.norm(np.diff(closed, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    count = round(at[-1] / STEP)
    even = np.linspace(0, at[-1], count, endpoint=False)
    points = np.stack([np.interp(even, at, closed[:, i]) for i in range(2)], axis=1)
    ahead = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
    heading = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
    yaw = heading - np.interp(even, at, np.append(glance, glance[0]))
    sway = np.stack([rng.uniform(0.1, 0.6, (6, 3)), rng.uniform(0, 2 * np.pi, (6, 3))], axis=-1)
    return Path(points, _smooth(yaw, round(calm / STEP)), float(at[-1] / count), float(height), speed, returns, sway)


def _smooth(yaw: np.ndarray, width: int) -> np.ndarray:
    """The weighted mean over `width` points before and behind of a heading that gains 2 pi in a round."""
    wrapped = np.concatenate([yaw[-width:] - 2 * np.pi, yaw, yaw[:width] + 2 * np.pi])
    kernel = np.hanning(2 * width + 3)[1:-1]
    return np.convolve(wrapped, kernel / kernel.sum(), mode="valid")


def looking(position: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> SE3:
    """T_world_cam of optical frames at positions (N, 3), yaw from the x axis counter-clockwise, pitch up, roll; radians."""
    forward = np.stack([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], axis=1)
    level = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=1)
    down = np.cross(forward, level)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return SE3(np.stack([c * level + s * down, c * down - s * level, forward], axis=2), position)


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


@dataclass(frozen=True, eq=False)
class LateStart:
    """A path after some time on the spot where it begins.

    seconds: of that time. turn: radians by which the camera turns to the right in it; 0 = it stands still.
    """

    path: CameraPath
    seconds: float
    turn: float = 0.0

    @staticmethod
    def standing(path: CameraPath) -> LateStart:
        """Two seconds without motion."""
        return LateStart(path, _WAIT_S)

    @staticmethod
    def turning(path: CameraPath) -> LateStart:
        """A quarter turn about the camera's centre in three seconds."""
        return LateStart(path, _SPIN_S, _SPIN)

    def poses(self, frames: int, fps: float) -> SE3:
        """T_world_cam (frames,) of the optical frame."""
        waits = min(round(self.seconds * fps), frames - 1)
        going = self.path.poses(frames - waits, fps)
        angle = self.turn * 0.5 * (1.0 + np.cos(np.pi * np.arange(waits) / max(waits, 1)))
        zero, one, c, s = np.zeros(waits), np.ones(waits), np.cos(angle), np.sin(angle)
        about_z = np.stack([np.stack([c, -s, zero], 1), np.stack([s, c, zero], 1), np.stack([zero, zero, one], 1)], 1)
        on_the_spot = np.repeat(going.translation[:1], waits, axis=0)
        rotation = np.concatenate([about_z @ going.rotation[0], going.rotation])
        return SE3(rotation, np.concatenate([on_the_spot, going.translation]))


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
