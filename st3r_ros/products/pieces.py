# SPDX-License-Identifier: Apache-2.0
"""Parts of the cloud of a map, and what is done with parts: picked, joined, moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.products.changes import SeenKeyframe
from st3r_ros.products.voxels import draws
from st3r_ros.types import PointCloud

_AT_ONCE = 1 << 14


@dataclass(frozen=True, eq=False)
class Block:
    """Points of the cloud that lie together (of one keyframe where there are no voxels); share: of the voxels there are."""

    cloud: PointCloud
    share: float
    voxel_size: float

    @cached_property
    def draw(self) -> np.ndarray:
        """(N,) uint32: a choice of the cloud takes the points below a limit."""
        return draws(self.cloud.points, self.voxel_size)


@dataclass(frozen=True, eq=False)
class Part:
    """The points of one keyframe, of each voxel the most confident one. blocks: where those of a block are among them.

    inside: (N,) int32 or int64, the number of each point's voxel in its block, in ascending order; empty without voxels.
    share: of the voxels there are. reach: no point is farther from the camera, map units. beyond: the number of points that are
    farther from the origin than voxels are numbered, and are left out.
    """

    seen: SeenKeyframe
    cloud: PointCloud
    inside: np.ndarray
    share: float
    blocks: dict[int, slice]
    reach: float
    beyond: int


def joined(pieces: Iterable[PointCloud]) -> PointCloud:
    """One cloud from many, which may be none."""
    arrays = [(piece.points, piece.colors, piece.conf) for piece in pieces]
    if not arrays:
        return PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))
    return PointCloud(*(np.concatenate(of_kind) for of_kind in zip(*arrays, strict=True)))


def floats(tensor: torch.Tensor) -> np.ndarray:
    """As float32. In pieces for which torch calls no other threads: waiting for them takes longer while the mapper uses them."""
    tensor = tensor.cpu()
    if tensor.dtype == torch.float32:
        return tensor.numpy()
    result = torch.empty(tensor.shape, dtype=torch.float32)
    for to, of in zip(result.view(-1).split(_AT_ONCE), tensor.reshape(-1).split(_AT_ONCE), strict=True):
        to.copy_(of)
    return result.numpy()


def moved(X: np.ndarray, T_world_cam: Sim3) -> np.ndarray:
    """Points (N, 3) float32 of a keyframe, in the world."""
    if len(X) == 0:
        return X
    R, t = float(T_world_cam.scale) * T_world_cam.rotation, T_world_cam.translation
    return cv2.transform(X[None], np.column_stack([R, t]).astype(np.float32))[0]


def pick(cloud: PointCloud, index: slice | np.ndarray) -> PointCloud:
    """Some points of a cloud."""
    return PointCloud(cloud.points[index], cloud.colors[index], cloud.conf[index])


def take(cloud: PointCloud, index: np.ndarray) -> PointCloud:
    """The points with these numbers (n,), faster than `pick`."""
    return PointCloud(cloud.points.take(index, 0), cloud.colors.take(index, 0), cloud.conf.take(index))


def slices(blocks: np.ndarray) -> dict[int, slice]:
    """Where each number is among sorted ones."""
    if len(blocks) == 0:
        return {}
    starts = np.append(np.flatnonzero(np.append(True, blocks[1:] != blocks[:-1])), len(blocks)).tolist()
    return {int(blocks[start]): slice(start, end) for start, end in pairwise(starts)}
