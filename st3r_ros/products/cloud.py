# SPDX-License-Identifier: Apache-2.0
"""The point cloud of the whole map, computed incrementally in small steps."""

from __future__ import annotations

import logging
import math
import os
import weakref
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy as np

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.products.changes import SeenKeyframe
from st3r_ros.products.pieces import Block, Part, floats, joined, moved, pick, slices, take
from st3r_ros.products.steps import Steps, finish
from st3r_ros.products.voxels import (
    BLOCK_BITS,
    FARTHEST_CELL,
    best_of_cells,
    block_bits,
    block_of,
    cell_numbers,
    draws,
    in_block,
    numbered,
    ranks,
)
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe, PointCloud

KEPT_PER_POINT = 12
"""Points of keyframes that are kept, at most, per point that the cloud may have: keyframes see the same things."""
MERGED_PER_POINT = 2
UNNOTICED = 0.1
"""Share of a voxel by which the points of a keyframe may be off until they are computed again: each image moves some a little."""
MAX_THREADS = 4
_ALL_DRAWS = 1 << 32

logger = logging.getLogger(__name__)


def cloud_of(keyframe_map: KeyframeMap, config: CloudConfig) -> PointCloud:
    """All confident points of a map in the world, of each voxel the most confident one, at most `max_points`."""
    return CloudBuilder().whole(keyframe_map, config)


class CloudBuilder:
    """Keeps the thinned points of each keyframe, and of each block of voxels the points of all keyframes merged.

    When a keyframe has changed or moved, its points are computed again, and the blocks with old or new ones of it merged again.
    What is kept is bounded by `max_points`: of a larger map only an even share of the voxels is looked at.
    nbytes: memory that is kept, as of the last completed `steps`.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._cloud: list[PointCloud] = []
        self._map: weakref.ref[KeyframeMap] | None = None
        self._settings: tuple = ()
        self._warned = False
        self._forget()

    def _forget(self, share: float = 1.0) -> None:
        self._parts: dict[int, Part] = {}
        self._members: dict[int, set[int]] = {}  # block -> the keyframes with points in it
        self._blocks: dict[int, Block] = {}
        self._dirty: set[int] = set()
        self._bits = BLOCK_BITS
        self._share = share
        self._merged = 0

    def rescale(self, factor: float) -> None:
        """The unit of the map has changed: `last` is as much larger at once, its voxels again of their size after `steps`."""
        self._forget()
        self._cloud = [replace(piece, points=piece.points * np.float32(factor)) for piece in self._cloud]

    def last(self, keyframe_map: KeyframeMap) -> list[PointCloud]:
        """What the last completed `steps` gave of this map; nothing where they were of another one."""
        return self._cloud if self._is_of(keyframe_map) else []

    def whole(self, keyframe_map: KeyframeMap, config: CloudConfig) -> PointCloud:
        """The cloud of the map in the world, all at once: `steps`, several keyframes at a time."""
        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            return joined(finish(self.steps(keyframe_map, config, pool)))

    def steps(self, keyframe_map: KeyframeMap, config: CloudConfig, pool: Executor | None = None) -> Steps[list[PointCloud]]:
        """The cloud of the map, in pieces, in the world. All keyframes are where they are now, also when they move meanwhile.

        A step is a keyframe or a block. Steps that are not finished are not lost: the next ones go on from there.
        pool: looks at several keyframes at a time, in steps that are as many times longer.
        """
        self._prepare(keyframe_map, config)
        yield from self._keep_share()
        taken = [(keyframe, keyframe.T_world_cam) for keyframe in keyframe_map.keyframes.values()]
        for keyframe_id in self._parts.keys() - {keyframe.id for keyframe, _ in taken}:
            self._put(keyframe_id, None)
        changed = (of for of in taken if not self._is_seen(*of, UNNOTICED * config.voxel_size))
        while batch := list(islice(changed, MAX_THREADS if pool else 1)):
            for (keyframe, _), part in zip(batch, self._look(batch, config, pool), strict=True):
                self._put(keyframe.id, part)
                yield
            if 0 < KEPT_PER_POINT * config.max_points < self.kept:
                self._share *= 0.5
                yield from self._keep_share()
        self._warn_of_points_beyond(config.voxel_size)
        for block in sorted(self._dirty):
            self._merge(block, config.voxel_size)
            yield
        self._merged = sum(len(block.cloud) for block in self._blocks.values())
        if 0 < MERGED_PER_POINT * config.max_points < self._merged:
            self._share *= 0.5
            yield from self._keep_share()
        self._cloud = yield from self._chosen(config.max_points)
        self.nbytes = self._count_bytes()
        return self._cloud

    def _prepare(self, keyframe_map: KeyframeMap, config: CloudConfig) -> None:
        """Forgets what other settings have made; looks at a larger share of the voxels again where there is room for it."""
        if not self._is_of(keyframe_map):
            self._map, self._cloud = weakref.ref(keyframe_map), []
            self._forget()
        self._T_map_world = keyframe_map.T_level_world
        height = self._T_map_world.as_matrix().tobytes() if _crops_height(config) else b""
        settings = replace(config, max_points=0), height
        if settings != self._settings:
            self._settings = settings
            self._forget()
        share, limit = self._share, config.max_points
        while share < 1.0 and (limit == 0 or self._has_room(2.0 * share / self._share, limit)):
            share *= 2.0
        if share != self._share:
            self._forget(share)

    def _warn_of_points_beyond(self, voxel_size: float) -> None:
        beyond = sum(part.beyond for part in self._parts.values())
        if beyond and not self._warned:
            logger.warning(
                "%d points of the keyframes are left out of the cloud: with a voxel_size of %g it reaches %g from the origin "
                "only. Set a larger voxel_size, or 0 to keep every point.",
                beyond,
                voxel_size,
                voxel_size * FARTHEST_CELL,
            )
        self._warned = beyond > 0

    def _is_seen(self, keyframe: Keyframe, T_world_cam: Sim3, tolerance: float) -> bool:
        """Whether the points of a keyframe are where the last look at it has found them."""
        part = self._parts.get(keyframe.id)
        return part is not None and part.seen.still(keyframe, T_world_cam, part.reach, tolerance)

    def _is_of(self, keyframe_map: KeyframeMap) -> bool:
        return self._map is not None and self._map() is keyframe_map

    def _has_room(self, growth: float, limit: int) -> bool:
        return growth * self._merged < 0.9 * MERGED_PER_POINT * limit and growth * self.kept < 0.9 * KEPT_PER_POINT * limit

    @property
    def kept(self) -> int:
        """Number of points of keyframes that are kept, before they are merged."""
        return sum(len(part.cloud) for part in self._parts.values())

    def _look(self, batch: list[tuple[Keyframe, Sim3]], config: CloudConfig, pool: Executor | None) -> list[Part]:
        """The parts of some keyframes. The first points there are tell how large the blocks have to be."""
        parts = list((pool.map if pool else map)(lambda of: self._part(*of, config), batch))
        if config.voxel_size > 0 and self.kept == 0:
            first = next((part.cloud.points for part in parts if len(part.cloud)), np.zeros((0, 3), np.float32))
            bits = block_bits(first, config.voxel_size)
            if bits != self._bits:
                self._bits = bits
                parts = list((pool.map if pool else map)(lambda of: self._part(*of, config), batch))
        return parts

    @np.errstate(invalid="ignore", over="ignore")  # points that are not finite are left out
    def _part(self, keyframe: Keyframe, T_world_cam: Sim3, config: CloudConfig) -> Part:
        seen = SeenKeyframe(keyframe, T_world_cam)
        conf, X = floats(keyframe.conf).reshape(-1), floats(keyframe.X).reshape(-1, 3)
        pixels = np.flatnonzero(conf >= max(config.min_conf, 1e-9))
        if len(pixels) < len(X):
            X = X.take(pixels, 0)
        points = moved(X, T_world_cam)
        keep = self._kept_points(X, points, float(T_world_cam.scale), config)
        beyond = 0
        if not keep.all():
            if config.voxel_size > 0:
                beyond = np.count_nonzero(np.isfinite(points).all(1)) - np.count_nonzero(numbered(points, config.voxel_size))
            points, pixels = points[keep], pixels[keep]
        if config.voxel_size > 0:
            best = best_of_cells(ranks(points, config.voxel_size, self._bits), conf.take(pixels))
            points, pixels = points.take(best, 0), pixels.take(best)
        if self._share < 1.0:
            chosen = draws(points, config.voxel_size) < self._share * _ALL_DRAWS
            points, pixels = points[chosen], pixels[chosen]
        blocks, inside = {keyframe.id: slice(0, len(points))}, np.zeros(0, np.int32)
        if config.voxel_size > 0:
            cells = cell_numbers(points, config.voxel_size, self._bits)
            blocks, inside = slices(block_of(cells, self._bits)), in_block(cells, self._bits)
        cloud = PointCloud(points, keyframe.image.reshape(-1, 3).take(pixels, 0), conf.take(pixels))
        reach = math.hypot(*(np.abs(points[:, i] - T_world_cam.translation[i]).max(initial=0.0) for i in range(3)))
        return Part(seen, cloud, inside, self._share, blocks, reach, beyond)

    def _kept_points(self, X: np.ndarray, points: np.ndarray, scale: float, config: CloudConfig) -> np.ndarray:
        """Which of the points (N, 3) in the world, X in the keyframe, are within the limits: (N,) bool."""
        keep = numbered(points, config.voxel_size) if config.voxel_size > 0 else np.isfinite(points).all(1)
        if config.max_range > 0:
            keep &= np.einsum("ij,ij->i", X, X) <= np.float32((config.max_range / scale) ** 2)
        if _crops_height(config):
            z = points @ self._T_map_world.rotation[2].astype(np.float32) + np.float32(self._T_map_world.translation[2])
            keep &= (z >= config.min_height) & (z <= config.max_height)
        return keep

    def _put(self, keyframe_id: int, part: Part | None) -> None:
        """Puts a part in the place of the keyframe's last one; the blocks of both are to be merged again."""
        old = self._parts.pop(keyframe_id, None) if part is None else self._parts.get(keyframe_id)
        for block in old.blocks if old else ():
            self._members[block].discard(keyframe_id)
            self._dirty.add(block)
        if part is not None:
            self._parts[keyframe_id] = part
            for block in part.blocks:
                self._members.setdefault(block, set()).add(keyframe_id)
                self._dirty.add(block)

    def _merge(self, number: int, voxel_size: float) -> None:
        """Rebuilds a block from the keyframes with points in it."""
        self._dirty.discard(number)
        parts = [(self._parts[k], self._parts[k].blocks[number]) for k in sorted(self._members[number])]
        if not parts:
            del self._members[number]
            self._blocks.pop(number, None)
            return
        cloud = joined(pick(part.cloud, at) for part, at in parts) if len(parts) > 1 else pick(parts[0][0].cloud, parts[0][1])
        if len(parts) > 1:
            cloud = take(cloud, best_of_cells(np.concatenate([part.inside[at] for part, at in parts]), cloud.conf))
        self._blocks[number] = Block(cloud, self._share, voxel_size)

    def _keep_share(self) -> Steps[None]:
        """Removes the voxels that are no longer used."""
        limit = self._share * _ALL_DRAWS
        for keyframe_id, part in self._parts.items():
            if part.share > self._share:
                keep = draws(part.cloud.points, self._settings[0].voxel_size) < limit
                ends = np.append(0, np.cumsum(keep))
                blocks = {number: slice(int(ends[at.start]), int(ends[at.stop])) for number, at in part.blocks.items()}
                cloud, inside = pick(part.cloud, keep), part.inside[keep] if len(part.inside) else part.inside
                self._parts[keyframe_id] = replace(part, cloud=cloud, inside=inside, share=self._share, blocks=blocks)
                yield
        for number, block in self._blocks.items():
            if block.share > self._share:
                self._blocks[number] = Block(pick(block.cloud, block.draw < limit), self._share, block.voxel_size)
                yield

    def _chosen(self, max_points: int) -> Steps[list[PointCloud]]:
        """At most `max_points` points, spread evenly; all for 0."""
        blocks = [self._blocks[number] for number in sorted(self._blocks)]
        count = sum(len(block.cloud) for block in blocks)
        if max_points == 0 or count <= max_points:
            return [block.cloud for block in blocks]
        for block in blocks:
            _ = block.draw
            yield
        limit = self._share * _ALL_DRAWS
        while count > max_points:
            limit *= 0.999 * max_points / count
            count = sum(np.count_nonzero(block.draw < limit) for block in blocks)
        chosen = []
        for block in blocks:
            chosen.append(pick(block.cloud, block.draw < limit))
            yield
        return chosen

    def _count_bytes(self) -> int:
        clouds = (*(part.cloud for part in self._parts.values()), *(b.cloud for b in self._blocks.values()), *self._cloud)
        arrays = [array for cloud in clouds for array in (cloud.points, cloud.colors, cloud.conf)]
        arrays += [part.inside for part in self._parts.values()]
        owners = {id(owner): owner.nbytes for owner in (array if array.base is None else array.base for array in arrays)}
        return sum(owners.values()) + sum(block.draw.nbytes for block in self._blocks.values() if "draw" in vars(block))


def _crops_height(config: CloudConfig) -> bool:
    return config.min_height > CloudConfig.min_height or config.max_height < CloudConfig.max_height
