# SPDX-License-Identifier: Apache-2.0
"""The map: keyframes with their pointmaps, the edges between them, and every tracked frame tied to its keyframe."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.types import Edge, FramePose, Keyframe, PointCloud, Trajectory


@dataclass(frozen=True, eq=False)
class OrganisedCloud:
    """One keyframe, a point per pixel: points (h, w, 3) float32 in its camera, map units, NaN where not confident.

    colors (h, w, 3) uint8 RGB, conf (h, w) float32.
    """

    points: np.ndarray
    colors: np.ndarray
    conf: np.ndarray


@dataclass(eq=False)
class KeyframeMap:
    """Keyframes by id (in the order they were made), edges, and the tracked frames in the order they came."""

    keyframes: dict[int, Keyframe] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    frames: list[FramePose] = field(default_factory=list)

    def trajectory(self) -> Trajectory:
        """Pose of every tracked frame, as corrected as its keyframe is now, by stamp."""
        if not self.frames:
            return _trajectory([], Sim3.identity((0,)))
        T_world_kf = _stack([self.keyframes[f.keyframe_id].T_world_cam for f in self.frames])
        return _trajectory([f.stamp_ns for f in self.frames], T_world_kf @ _stack([f.T_kf_cam for f in self.frames]))

    def keyframe_trajectory(self) -> Trajectory:
        """Pose of every keyframe, by stamp."""
        keyframes = list(self.keyframes.values())
        poses = _stack([k.T_world_cam for k in keyframes]) if keyframes else Sim3.identity((0,))
        return _trajectory([k.stamp_ns for k in keyframes], poses)

    def keyframe_cloud(self, keyframe_id: int, min_conf: float) -> OrganisedCloud:
        """The dense points of one keyframe, one per pixel."""
        keyframe = self.keyframes[keyframe_id]
        scale = float(keyframe.T_world_cam.scale)
        keep = keyframe.conf >= max(min_conf, 1e-9)
        points = torch.where(keep[..., None], keyframe.X * scale, torch.nan)
        return OrganisedCloud(points.cpu().numpy(), keyframe.features.image, keyframe.conf.cpu().numpy())

    def cloud(self, config: CloudConfig) -> PointCloud:
        """All confident points in the world; of each voxel the most confident one."""
        parts = [self._keyframe_points(k, config) for k in self.keyframes.values()]
        if not parts:
            return PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))
        points, colors, conf = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return _thin(PointCloud(points, colors, conf), config.voxel_size)

    def _keyframe_points(self, keyframe: Keyframe, config: CloudConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        keep = keyframe.conf >= max(config.min_conf, 1e-9)
        points = keyframe.T_world_cam.act(keyframe.X[keep].cpu().numpy()).astype(np.float32)
        keep = keep.cpu().numpy()
        thinned = _thin(PointCloud(points, keyframe.features.image[keep], keyframe.conf.cpu().numpy()[keep]), config.voxel_size)
        return thinned.points, thinned.colors, thinned.conf


def _stack(poses: list[Sim3]) -> Sim3:
    """One batched transform from many."""
    return Sim3(
        np.array([T.rotation for T in poses]), np.array([T.translation for T in poses]), np.array([T.scale for T in poses])
    )


def _trajectory(stamps_ns: list[int], T_world_cam: Sim3) -> Trajectory:
    stamps = np.array(stamps_ns, np.int64)
    order = np.argsort(stamps, kind="stable")
    return Trajectory(stamps[order], T_world_cam.translation[order], T_world_cam.quaternion_xyzw[order])


def _thin(cloud: PointCloud, voxel_size: float) -> PointCloud:
    """The most confident point of each voxel; everything for a voxel size of 0."""
    if voxel_size <= 0 or len(cloud) == 0:
        return cloud
    order = np.argsort(-cloud.conf, kind="stable")
    cells = np.floor(cloud.points[order] / voxel_size).astype(np.int64)
    cells -= cells.min(0)
    extent = cells.max(0) + 1
    key = (cells[:, 0] * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2]
    kept = order[np.unique(key, return_index=True)[1]]
    return PointCloud(cloud.points[kept], cloud.colors[kept], cloud.conf[kept])
