# SPDX-License-Identifier: Apache-2.0
"""The occupancy grid: cells that are occupied at the heights of a robot, free, or unknown.

About 50,000 points of each keyframe are used. Points between the two heights are obstacles. The ray from the camera to each point
is free where it is below the upper height, including rays that end on the floor, and so is the position of the camera.
Obstacles outweigh free space: a camera that looks over a table does not see it, so points behind it are no evidence.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.config import GridConfig
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.products.changes import SeenKeyframe
from st3r_ros.products.steps import Steps
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe

OCCUPIED, FREE, UNKNOWN = 100, 0, -1
RAYS = 50_000
"""Approximate number of points used per keyframe."""
MIN_RAYS = 2
"""Minimum number of rays through a free cell: a single one may end at a wrong point."""
OVERRULED = 20
"""An obstacle is removed if this many times more keyframes have seen the cell free."""
MANY, SEEN_FREE = 127, 128
UNNOTICED = 0.1
"""Share of a cell by which the points of a keyframe may be off until it is processed again."""


@dataclass(frozen=True, eq=False)
class Occupancy:
    """cells: (h, w) int8, OCCUPIED, FREE or UNKNOWN; rows towards y, columns towards x of the map frame.

    origin: (2,) float64, x and y of the outer corner of cell (0, 0), multiples of the resolution; map units.
    refusal: why there is no grid, a sentence, or "".
    """

    cells: np.ndarray
    origin: np.ndarray
    resolution: float
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class Patch:
    """What one keyframe has seen, from the cell (row, column) on, which count from the map's origin.

    cells: (h, w) uint8, how many points of obstacles, at most MANY, and SEEN_FREE besides where a way leads through.
    """

    seen: SeenKeyframe
    row: int
    column: int
    cells: np.ndarray


class GridBuilder:
    """Keeps a patch for each keyframe; when the map has changed, those of changed keyframes are made again and all laid together.

    nbytes: memory that is kept, as of the last completed `steps`.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._map: weakref.ref[KeyframeMap] | None = None
        self._settings: tuple = ()
        self._patches: dict[int, Patch] = {}

    def steps(self, keyframe_map: KeyframeMap, config: GridConfig) -> Steps[Occupancy]:
        """The grid of the map as it is now; a step is a keyframe."""
        if config.min_height >= config.max_height:
            return _refused(
                config,
                f"No grid: min_height is {config.min_height:g} and max_height {config.max_height:g}, so no point is an "
                "obstacle. Make min_height the smaller one.",
            )
        T_map_world = keyframe_map.T_level_world
        settings = replace(config, enabled=True, max_cells=1), T_map_world.as_matrix().tobytes()
        if self._map is None or self._map() is not keyframe_map or settings != self._settings:
            self._map, self._settings, self._patches = weakref.ref(keyframe_map), settings, {}
        taken = [(keyframe, keyframe.T_world_cam) for keyframe in keyframe_map.keyframes.values()]
        for gone in self._patches.keys() - {keyframe.id for keyframe, _ in taken}:
            del self._patches[gone]
        for keyframe, T_world_cam in taken:
            patch = self._patches.get(keyframe.id)
            if patch is None or not patch.seen.still(keyframe, T_world_cam, config.max_range, UNNOTICED * config.resolution):
                self._patches[keyframe.id] = _patch(keyframe, T_world_cam, T_map_world, config)
                yield
        self.nbytes = sum(patch.cells.nbytes for patch in self._patches.values())
        return (yield from _together([patch for patch in self._patches.values() if patch.cells.size], config))


@np.errstate(invalid="ignore", over="ignore")  # points that are not finite are left out
def _patch(keyframe: Keyframe, T_world_cam: Sim3, T_map_world: SE3, config: GridConfig) -> Patch:
    """Processes one keyframe."""
    seen = SeenKeyframe(keyframe, T_world_cam)
    step = max(1, round(math.sqrt(keyframe.conf.numel() / RAYS)))
    conf = keyframe.conf[::step, ::step].float().cpu().numpy()
    X = keyframe.X[::step, ::step].float().cpu().numpy()[conf >= max(config.min_conf, 1e-9)]
    T_map_cam = T_map_world @ T_world_cam
    camera = T_map_cam.translation
    ways = X @ (float(T_map_cam.scale) * T_map_cam.rotation.T).astype(np.float32)
    length = np.linalg.norm(ways, axis=1)
    known = np.isfinite(length) & (length > 0)
    ways, length = ways[known], length[known]
    if len(ways) == 0:
        return Patch(seen, 0, 0, np.zeros((0, 0), np.uint8))
    near = length <= config.max_range
    ways *= np.minimum(1.0, config.max_range / length)[:, None]  # farther points are ignored, but the ray up to there is free
    height = ways[:, 2] + np.float32(camera[2])
    obstacle = near & (height >= config.min_height) & (height <= config.max_height)

    ends = np.floor((ways[:, :2] + camera[:2].astype(np.float32)) / np.float32(config.resolution)).astype(np.int64)
    here = np.floor(camera[:2] / config.resolution).astype(np.int64)
    column, row = np.minimum(ends.min(0), here)
    w, h = np.maximum(ends.max(0), here) - (column, row) + 1
    at = (ends[obstacle, 1] - row) * w + ends[obstacle, 0] - column
    points = np.minimum(np.bincount(at, minlength=h * w).reshape(h, w), MANY)
    x = (np.arange(column, column + w) + 0.5) * config.resolution - camera[0]
    y = (np.arange(row, row + h) + 0.5) * config.resolution - camera[1]
    spacing = step / float(min(keyframe.K[0, 0], keyframe.K[1, 1]))
    free = _swept(ways, obstacle, config.max_height - camera[2], spacing, config).at(x, y)
    if camera[2] <= config.max_height:
        free[here[1] - row, here[0] - column] = True
    return Patch(seen, int(row), int(column), (points + SEEN_FREE * free).astype(np.uint8))


@dataclass(frozen=True, eq=False)
class _Swept:
    """Free space around a camera by direction and distance: (directions, distances) bool, distances in cells."""

    free: np.ndarray
    resolution: float

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether the positions (x, y) from the camera are free, for x (w,) and y (h,): (h, w) bool."""
        directions, distances = self.free.shape
        distance = (np.hypot(x, y[:, None]) / self.resolution).astype(np.int64)
        direction = _direction(np.broadcast_to(x, distance.shape), np.broadcast_to(y[:, None], distance.shape), directions)
        return self.free[direction, np.minimum(distance, distances - 1)] & (distance < distances)


def _swept(ways: np.ndarray, obstacle: np.ndarray, headroom: float, spacing: float, config: GridConfig) -> _Swept:
    """What the ways (N, 3) from the camera sweep, as far as they are at most `headroom` above it.

    obstacle: (N,) whether the way ends at one; it then ends one cell before. spacing: radians between ways, at the most.
    """
    across = np.hypot(ways[:, 0], ways[:, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = headroom / ways[:, 2]  # where the way meets that height, in shares of it
    if headroom >= 0:
        begin, end = np.zeros(len(ways)), np.where((ways[:, 2] > 0) & (crossing < 1), crossing, 1.0) * across
    else:
        begin, end = np.where(ways[:, 2] < 0, crossing * across, np.inf), across.copy()
    end -= np.where(obstacle, config.resolution, 0.0)
    directions = max(8, int(2 * math.pi / max(1.5 * spacing, config.resolution / config.max_range)))
    distances = math.ceil(config.max_range / config.resolution) + 1
    sweeps = (end > begin) & (begin < config.max_range)
    direction = _direction(ways[sweeps, 0], ways[sweeps, 1], directions) * (distances + 1)
    first = (begin[sweeps] / config.resolution).astype(np.int64)
    last = np.minimum((end[sweeps] / config.resolution).astype(np.int64), distances - 1)
    size = directions * (distances + 1)
    change = np.bincount(direction + first, minlength=size) - np.bincount(direction + last + 1, minlength=size)
    passing = np.cumsum(change.reshape(directions, distances + 1), axis=1)
    return _Swept(passing[:, :-1] >= MIN_RAYS, config.resolution)


def _direction(x: np.ndarray, y: np.ndarray, directions: int) -> np.ndarray:
    """Index of the direction of (x, y) around the circle."""
    return ((np.arctan2(y, x) / (2 * math.pi) + 0.5) * directions).astype(np.int64) % directions


def _together(patches: list[Patch], config: GridConfig) -> Steps[Occupancy]:
    """Merges the patches."""
    if not patches:
        return _refused(config, "")
    row, column = min(p.row for p in patches), min(p.column for p in patches)
    h = max(p.row + p.cells.shape[0] for p in patches) - row
    w = max(p.column + p.cells.shape[1] for p in patches) - column
    if h * w > config.max_cells:
        return _refused(config, _too_large(h, w, config))
    points, hits, free = np.zeros((h, w), np.uint32), np.zeros((h, w), np.uint16), np.zeros((h, w), np.uint16)
    for patch in patches:
        r, c = patch.row - row, patch.column - column
        window = slice(r, r + patch.cells.shape[0]), slice(c, c + patch.cells.shape[1])
        of_obstacles = patch.cells & MANY
        points[window] += of_obstacles
        hits[window] += of_obstacles > 0
        free[window] += patch.cells >= SEEN_FREE
        yield
    cells = np.where(free > 0, FREE, UNKNOWN).astype(np.int8)
    cells[_closed((points >= config.min_points) & (free <= OVERRULED * hits.astype(np.uint32)))] = OCCUPIED
    return Occupancy(cells, np.array([column, row]) * config.resolution, config.resolution)


def _closed(occupied: np.ndarray) -> np.ndarray:
    """Obstacles without gaps of one or two cells, too narrow to pass: a table seen at a flat angle is rows of points."""
    grown = _neighbourhood(np.pad(occupied, 2), np.logical_or)
    return _neighbourhood(grown, np.logical_and)[2:-2, 2:-2]


def _neighbourhood(cells: np.ndarray, join: np.ufunc) -> np.ndarray:
    """Each cell (h, w) joined with the eight around it; what is outside is False."""
    for axis in (0, 1):
        ahead, behind = np.roll(cells, -1, axis), np.roll(cells, 1, axis)
        cells = join(join(cells, ahead), behind)
    return cells


def _refused(config: GridConfig, why: str) -> Occupancy:
    return Occupancy(np.zeros((0, 0), np.int8), np.zeros(2), config.resolution, why)


def _too_large(h: int, w: int, config: GridConfig) -> str:
    enough = config.resolution * math.sqrt(h * w / config.max_cells)
    return (
        f"No grid: the map is {w * config.resolution:.0f} x {h * config.resolution:.0f} wide, which is {h * w} cells, and "
        f"max_cells is {config.max_cells}. Raise max_cells, or resolution to {math.ceil(100 * enough) / 100:g}."
    )
