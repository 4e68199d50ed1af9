# SPDX-License-Identifier: Apache-2.0
"""A structure-from-motion model: pinhole cameras, and points observed at known pixels of several keyframes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.focal import intrinsics_from_pointmap
from st3r_ros.geometry.pixels import project, rays
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.tracks import matched_pixels
from st3r_ros.types import Keyframe

MAX_REPROJECTION_PX = 4.0
MAX_FOCAL_KEYFRAMES = 50


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points (P, 3) float64 in the world, colors (P, 3) uint8, errors (P,) float64: mean reprojection error in pixels.

    The observations (O,), sorted by point: `point` (index), `keyframe` (index in the map's order), `pixels` (O, 2) float64.
    """

    points: np.ndarray
    colors: np.ndarray
    errors: np.ndarray
    point: np.ndarray
    keyframe: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class _Observations:
    """Observed pixels: the track of each, and its point in the pointmap of its keyframe.

    points: (O, 3) in the world. conf: (O,), 0 = unknown. colors: (O, 3).
    """

    track: np.ndarray
    keyframe: np.ndarray
    pixels: np.ndarray
    points: np.ndarray
    conf: np.ndarray
    colors: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> _Observations:
        return _Observations(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def pinhole_intrinsics(keyframe_map: KeyframeMap) -> np.ndarray:
    """The (n, 3, 3) intrinsics of the keyframes. Uncalibrated ones share the focal length estimated from their pointmaps."""
    keyframes = list(keyframe_map.keyframes.values())
    K = np.array([k.K for k in keyframes]).reshape(-1, 3, 3)
    free = [row for row, k in enumerate(keyframes) if not k.calibrated]
    if free:
        asked = np.unique(np.linspace(0, len(free) - 1, min(len(free), MAX_FOCAL_KEYFRAMES)).astype(int))
        found = [_own_intrinsics(keyframes[free[row]]) for row in asked]
        focal = np.array([own[0, 0] for own in found])
        if np.isfinite(focal).any():
            K[free] = found[0]
            K[free, 0, 0] = K[free, 1, 1] = np.nanmedian(focal)
    return K


def build_tracks(keyframe_map: KeyframeMap, K: np.ndarray) -> Tracks:
    """The points connected by the matches of the edges, from the pointmaps. K: (n, 3, 3) of the keyframes.

    A point starts at the position of its most confident keyframe and becomes the mean of all that agree; an observation is kept
    when the point projects within `MAX_REPROJECTION_PX` of its pixel, and a point when two keyframes observe it.
    """
    seen = _observations(keyframe_map, K)
    poses = _stacked([k.T_world_cam for k in keyframe_map.keyframes.values()])
    order = np.lexsort((-seen.conf, seen.track))
    seen = seen[order]
    first = np.unique(seen.track, return_index=True)[1]
    estimate = seen.points[first][_runs(seen.track)]
    seen, _ = _agreeing(seen, estimate, poses, K)
    seen, errors = _agreeing(seen, _means(seen, seen.points)[_runs(seen.track)], poses, K)
    run = _runs(seen.track)
    return Tracks(
        points=_means(seen, seen.points),
        colors=np.rint(_means(seen, seen.colors)).astype(np.uint8),
        errors=np.bincount(run, errors) / np.maximum(np.bincount(run), 1),
        point=run,
        keyframe=seen.keyframe,
        pixels=seen.pixels,
    )


def _own_intrinsics(keyframe: Keyframe) -> np.ndarray:
    X = torch.where(keyframe.conf[..., None] > 0, keyframe.X.float(), torch.nan)
    return intrinsics_from_pointmap(X).cpu().numpy().astype(np.float64)


def _observations(keyframe_map: KeyframeMap, K: np.ndarray) -> _Observations:
    """All matched pixels; pixels connected by matches have the same track."""
    keyframes = list(keyframe_map.keyframes.values())
    matched = matched_pixels(keyframe_map.keyframes, keyframe_map.edges)
    row, pixels = matched.camera, matched.pixels
    points, conf, colors = np.zeros((len(row), 3)), np.zeros(len(row)), np.zeros((len(row), 3), np.uint8)
    bounds = np.searchsorted(row, np.arange(len(keyframes) + 1))
    for index, keyframe in enumerate(keyframes):
        own = slice(bounds[index], bounds[index + 1])
        points[own], conf[own], colors[own] = _sampled(keyframe, pixels[own], K[index])
    return _Observations(matched.track, row, pixels, points, conf, colors)


def _sampled(keyframe: Keyframe, pixels: np.ndarray, K: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in the world, confidences and colours at pixels (N, 2)."""
    h, w = keyframe.image.shape[:2]
    column, row = np.clip(np.rint(pixels).astype(int), 0, (w - 1, h - 1)).T
    X = keyframe.X[row, column].float().cpu().numpy().astype(np.float64)
    if keyframe.calibrated:  # on the ray of the pixel itself, not of the nearest whole pixel
        X = X[:, 2:] * rays(pixels, K)
    conf = keyframe.conf[row, column].float().cpu().numpy()
    return keyframe.T_world_cam.act(X), conf, keyframe.image[row, column]


def _agreeing(seen: _Observations, points: np.ndarray, poses: Sim3, K: np.ndarray) -> tuple[_Observations, np.ndarray]:
    """The observations (of sorted tracks) whose points (O, 3) project near their pixels, and the distances (O,), pixels.

    At most one per keyframe and track; tracks of fewer than two are left out.
    """
    R, t = poses.rotation[seen.keyframe], poses.translation[seen.keyframe]
    X_cam = np.einsum("nji,nj->ni", R, points - t)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.linalg.norm(project(X_cam, K[seen.keyframe]) - seen.pixels, axis=1)
    good = np.flatnonzero((X_cam[:, 2] > 0) & (errors < MAX_REPROJECTION_PX) & (seen.conf > 0))
    good = good[np.lexsort((errors[good], seen.keyframe[good], seen.track[good]))]
    track, keyframe = seen.track[good], seen.keyframe[good]
    repeated = np.zeros(len(good), bool)
    repeated[1:] = (track[1:] == track[:-1]) & (keyframe[1:] == keyframe[:-1])
    good = good[~repeated]
    run = _runs(seen.track[good])
    good = good[np.bincount(run, minlength=1)[run] >= 2]
    return seen[good], errors[good]


def _runs(sorted_track: np.ndarray) -> np.ndarray:
    """The tracks counted from 0."""
    return np.cumsum(np.diff(sorted_track, prepend=sorted_track[:1]) != 0)


def _means(seen: _Observations, values: np.ndarray) -> np.ndarray:
    """The means (P, 3) of values (O, 3) over each track, weighted by confidence."""
    run = _runs(seen.track)
    total = np.bincount(run, seen.conf)
    return np.stack([np.bincount(run, seen.conf * values[:, axis]) / total for axis in range(3)], axis=1)


def _stacked(poses: list[Sim3]) -> Sim3:
    return Sim3(*(np.array([getattr(T, name) for T in poses]) for name in ("rotation", "translation", "scale")))
