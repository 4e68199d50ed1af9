# SPDX-License-Identifier: Apache-2.0
"""Overlap of keyframes, by projecting a few of their points with the current poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.pixels import project
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.types import Features, Keyframe, Matches

GRID_STEP = 12
GRID_ROWS, GRID_COLUMNS = 6, 8
MAX_VIEW_ANGLE_DEG = 40.0
MAX_DISTANCE_RATIO = 2.0
NEAREST = 1e-6


@dataclass(frozen=True, eq=False)
class PosedCamera:
    """A camera in the world of a map: K (3, 3) float64 of images of width x height pixels, seen from T_world_cam."""

    T_world_cam: Sim3
    K: np.ndarray
    width: int
    height: int

    @staticmethod
    def of(image: Features | Keyframe, T_world_cam: Sim3) -> PosedCamera:
        """The camera of an image, at a pose."""
        height, width = image.image.shape[:2]
        return PosedCamera(T_world_cam, image.K, width, height)

    @np.errstate(invalid="ignore", divide="ignore")
    def sees(self, points: np.ndarray) -> np.ndarray:
        """Which points (..., 3) in the camera's coordinates are in front of it and inside its image, (...) bool."""
        pixels = project(points, self.K)
        inside = (pixels >= 0).all(-1) & (pixels < (self.width, self.height)).all(-1)
        return inside & (points[..., 2] > NEAREST)


def expected_matches(keyframe: Keyframe, camera: PosedCamera) -> Matches:
    """Where a camera (0) should see every 12th known pixel in both directions of a keyframe (1)."""
    h, w = keyframe.conf.shape
    row, column = torch.meshgrid(torch.arange(0, h, GRID_STEP), torch.arange(0, w, GRID_STEP), indexing="ij")
    row, column = row.reshape(-1).to(keyframe.conf.device), column.reshape(-1).to(keyframe.conf.device)
    known = keyframe.conf[row, column] > 0
    row, column = row[known], column[known]
    T_cam_kf = camera.T_world_cam.inverse() @ keyframe.T_world_cam
    points = T_cam_kf.act(keyframe.X[row, column].double().cpu().numpy())
    inside = camera.sees(points)
    source = torch.stack([column, row], dim=1).float().cpu()[torch.from_numpy(inside)]
    target = torch.from_numpy(project(points[inside], camera.K).astype(np.float32))
    return Matches(target, source, possible=max(len(points), 1))


class CovisibilityIndex:
    """A coarse grid of points of every keyframe, for batched visibility tests."""

    def __init__(self) -> None:
        self._points: dict[int, np.ndarray] = {}

    def update(self, keyframe: Keyframe) -> None:
        """Updates the points of a keyframe."""
        h, w = keyframe.conf.shape
        row = torch.linspace(0, h - 1, GRID_ROWS + 2)[1:-1].long().repeat_interleave(GRID_COLUMNS)
        column = torch.linspace(0, w - 1, GRID_COLUMNS + 2)[1:-1].long().repeat(GRID_ROWS)
        points = keyframe.X[row, column].float()
        known = keyframe.conf[row, column] > 0
        self._points[keyframe.id] = torch.where(known[:, None], points, torch.nan).cpu().numpy()

    def remove(self, keyframe_id: int) -> None:
        """Removes a keyframe, if it is known."""
        self._points.pop(keyframe_id, None)

    def overlap(self, keyframes: Sequence[Keyframe], camera: PosedCamera) -> np.ndarray:
        """Share (N,) of each keyframe's known points that a camera sees inside its image, from a similar viewpoint.

        Similar: the directions to the point differ by at most 40 degrees and the distances by at most a factor of 2.
        """
        if not keyframes:
            return np.zeros(0)
        points = np.stack([self._points[k.id] for k in keyframes])
        rotation = np.stack([k.T_world_cam.rotation for k in keyframes])
        centre = np.stack([k.T_world_cam.translation for k in keyframes])
        scale = np.array([float(k.T_world_cam.scale) for k in keyframes])
        from_keyframe = scale[:, None, None] * points @ rotation.swapaxes(1, 2)  # world axes, from the keyframe's centre
        from_camera = from_keyframe + (centre - camera.T_world_cam.translation)[:, None]
        in_camera = from_camera @ camera.T_world_cam.rotation
        with np.errstate(invalid="ignore", divide="ignore"):
            near, far = np.linalg.norm(from_keyframe, axis=-1), np.linalg.norm(from_camera, axis=-1)
            cosine = (from_keyframe * from_camera).sum(-1) / (near * far)
            ratio = far / near
            seen = camera.sees(in_camera) & (cosine > np.cos(np.radians(MAX_VIEW_ANGLE_DEG)))
            seen &= (ratio < MAX_DISTANCE_RATIO) & (ratio > 1.0 / MAX_DISTANCE_RATIO)
        known = np.isfinite(points[..., 0]).sum(1)
        return seen.sum(1) / np.maximum(known, 1)
