# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment of a whole map: keyframes, the frames between them, and the points that their matches connect.

For the end of a run: while a camera is tracked, a frame is placed by what is known of one keyframe then. Here every frame that
sees a point tells where it is, and every point where the frames are. What is dense, the pointmaps, follows the points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from st3r_ros.geometry.pixels import rays
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import retire, revive
from st3r_ros.slam.keyframes.projection import pixel_index
from st3r_ros.slam.keyframes.sightings import Sighting
from st3r_ros.slam.keyframes.tracks import MatchedPixels, matched_pixels
from st3r_ros.solver.damped import Schedule, minimize
from st3r_ros.solver.structure import Structure, StructureEstimate, lens_intrinsics
from st3r_ros.types import FramePose, Keyframe

ROUNDS = ((30.0, 3.0), (6.0, 0.8), (2.0, 0.2))
"""Pixels that a view may be off to take part, and sigma of a pixel: what is wrong, and what is exact, shows only by and by."""
GATES = (4.0, 2.0, 1.0)
"""Of a round, while points are found anew without the views that are farthest off."""
SCHEDULE = Schedule(iterations=20, share=1e-4, most=1e4)
MIN_VIEWS = 12
"""A camera with fewer is left as it is, relative to its keyframe."""
LENS_TERMS = 2
LENS_FIT_PX, LENS_GAIN = 0.4, 0.97
"""Another lens than the assumed one is believed when the views fit within so many pixels by it, and so many times better: drives
straight ahead tell nothing of the focal length, and where the lens bends more than the terms say, a wrong one may fit a little
better."""


@dataclass(frozen=True, eq=False)
class BundleReport:
    """What was adjusted: numbers of keyframes, other frames, points and views of them; RMS of the views before and after, pixels.

    focal_factor: of the focal length, 1 where the calibration is known.
    """

    keyframes: int
    frames: int
    points: int
    views: int
    rmse_before_px: float
    rmse_px: float
    focal_factor: float


def adjust_map(keyframe_map: KeyframeMap, notify: Callable[[str], None] = lambda sentence: None) -> BundleReport | None:
    """Adjusts a map of calibrated keyframes; None where too little is connected. notify: is told what is done, in sentences."""
    cameras = _Cameras.of(keyframe_map)
    views = _Views.of(matched_pixels(keyframe_map, cameras.seen))
    found = _solve(cameras, views, 0, notify)
    if found is None or all(k.K_known for k in cameras.keyframes):
        return None if found is None else _apply(keyframe_map, cameras, found)
    other = _solve(cameras, views, LENS_TERMS, notify)
    better = other is not None and _rmse(other.last) < min(LENS_FIT_PX, LENS_GAIN * _rmse(found.last))
    return _apply(keyframe_map, cameras, other if other is not None and better else found)


@dataclass(frozen=True, eq=False)
class _Solved:
    """Where the first round began, and where the last one ended."""

    first: StructureEstimate
    last: StructureEstimate


def _solve(cameras: _Cameras, views: _Views, lens_terms: int, notify: Callable[[str], None]) -> _Solved | None:
    """All rounds, with so many lens terms."""
    poses, lens, first, last = cameras.poses, torch.zeros(lens_terms, dtype=torch.float64), None, None
    what = "points" if lens_terms == 0 else "points, and the lens,"
    for number, (gate, sigma) in enumerate(ROUNDS, 1):
        kept = _agreeing(views, poses, lens_intrinsics(cameras.K, lens), gate)
        if not len(kept.camera):
            return None
        start = _stated(kept, cameras.K, poses, lens, sigma)
        images = len(torch.unique(kept.camera))
        notify(f"Adjusting {images} images and {len(start.X)} {what} together, {number} of {len(ROUNDS)}.")
        last = minimize(start, SCHEDULE).estimate
        first = first or start
        poses, lens = last.poses, last.lens
    return None if first is None or last is None else _Solved(first, last)


def _rmse(estimate: StructureEstimate) -> float:
    """Of the views, pixels, those far off counted as at the gate of the last round."""
    return float(estimate.distance.clamp_max(ROUNDS[-1][0]).square().mean()) ** 0.5


# What is adjusted ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Cameras:
    """Keyframes, then frames by their places in the log, with what they see. poses: (n, 4, 4) T_world_cam. K: (n, 3, 3)."""

    keyframes: list[Keyframe]
    places: list[int]
    seen: list[Sighting]
    poses: torch.Tensor
    K: torch.Tensor

    @staticmethod
    def of(keyframe_map: KeyframeMap) -> _Cameras:
        keyframes, frames = list(keyframe_map.keyframes.values()), keyframe_map.frames
        known = [(place, s) for place, s in keyframe_map.sightings if int(frames.keyframe_ids[place]) == s.keyframe_id]
        places, seen = [place for place, _ in known], [s for _, s in known]
        T = [k.T_world_cam.se3() for k in keyframes] + [keyframe_map.T_world_cam(place) for place in places]
        K = [k.K for k in keyframes] + [s.K for s in seen]
        return _Cameras(
            keyframes, places, seen, torch.from_numpy(np.stack([t.as_matrix() for t in T])), torch.from_numpy(np.stack(K))
        )


@dataclass(frozen=True, eq=False)
class _Views:
    """Views of points: track, camera (M,) int64, pixels (M, 2) float64, sorted by track."""

    track: torch.Tensor
    camera: torch.Tensor
    pixels: torch.Tensor

    @staticmethod
    def of(matched: MatchedPixels) -> _Views:
        order = np.argsort(matched.track, kind="stable")
        return _Views(*(torch.from_numpy(v[order]) for v in (matched.track, matched.camera, matched.pixels)))

    def __getitem__(self, kept: torch.Tensor) -> _Views:
        return _Views(self.track[kept], self.camera[kept], self.pixels[kept])

    @property
    def point(self) -> torch.Tensor:
        """The tracks counted from 0, (M,)."""
        return torch.unique_consecutive(self.track, return_inverse=True)[1]


def _agreeing(views: _Views, poses: torch.Tensor, K: torch.Tensor, gate: float) -> _Views:
    """The views that agree with the points of their tracks, of the cameras that hang together."""
    for factor in GATES:
        views = views[_distances(views, _triangulated(views, poses, K), poses, K) < factor * gate]
        views = _connected(views, len(poses))
        if not len(views.camera):
            break
    return views


def _triangulated(views: _Views, poses: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """The points (P, 3) closest to all rays that see them, the more the nearer these begin."""
    if not len(views.camera):
        return poses.new_zeros(0, 3)
    point, camera = views.point, views.camera
    R, t = poses[camera, :3, :3], poses[camera, :3, 3]
    ray = torch.nn.functional.normalize((R @ rays(views.pixels, K[camera])[..., None])[..., 0], dim=1)
    across = torch.eye(3, dtype=ray.dtype) - ray[:, :, None] * ray[:, None]
    weight, points = torch.ones_like(ray[:, 0]), int(point[-1]) + 1
    X = poses.new_zeros(points, 3)
    for _ in range(3):
        weighted = across * weight[:, None, None]
        H = poses.new_zeros(points, 3, 3).index_add_(0, point, weighted)
        g = poses.new_zeros(points, 3).index_add_(0, point, (weighted @ t[..., None])[..., 0])
        held = 1e-9 * H.diagonal(dim1=1, dim2=2).sum(1) + 1e-12
        X = torch.linalg.solve_ex(H + torch.diag_embed(held[:, None].expand(-1, 3)), g)[0]
        weight = (X[point] - t).square().sum(1).clamp_min(1e-12).reciprocal()
    return X


def _distances(views: _Views, X: torch.Tensor, poses: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """How far from their pixels the points (P, 3) appear, (M,) pixels."""
    if not len(views.camera):
        return poses.new_zeros(0)
    structure = Structure(views.camera, views.point, views.pixels, K, torch.ones(len(poses), dtype=torch.bool))
    return StructureEstimate.first(structure, poses, X).distance


def _connected(views: _Views, cameras: int) -> _Views:
    """Those of the largest part of the cameras that see points together, each at least `MIN_VIEWS`."""
    for _ in range(2):
        once = torch.unique(torch.stack([views.track, views.camera]), dim=1)[0]
        views = views[torch.isin(views.track, once[:-1][once[1:] == once[:-1]])]
        views = views[torch.bincount(views.camera, minlength=cameras)[views.camera] >= MIN_VIEWS]
    if not len(views.camera):
        return views
    point = views.point.numpy()
    graph = coo_matrix((np.ones(len(point), bool), (views.camera.numpy(), cameras + point)), shape=(cameras + point[-1] + 1,) * 2)
    part = torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))
    of_view = part[views.camera]
    return views[of_view == torch.bincount(of_view).argmax()]


def _stated(views: _Views, K: torch.Tensor, poses: torch.Tensor, lens: torch.Tensor, sigma: float) -> StructureEstimate:
    """The first camera that takes part holds position and orientation; cameras that do not take part stay."""
    free = torch.bincount(views.camera, minlength=len(poses)) > 0
    free[views.camera.min()] = False
    structure = Structure(views.camera, views.point, views.pixels, K, free, len(lens), sigma)
    X = _triangulated(views, poses, lens_intrinsics(K, lens))
    return StructureEstimate.first(structure, poses, X, lens)


# What comes of it ---------------------------------------------------------------------------------------------------------


def _apply(keyframe_map: KeyframeMap, cameras: _Cameras, found: _Solved) -> BundleReport:
    """Moves keyframes and frames, and lets the pointmaps follow the points."""
    last = found.last
    used = torch.bincount(last.problem.camera, minlength=len(cameras.poses)) > 0
    moved = _in_the_size_of(last, cameras.poses, used)
    focal = float(last.lens[0].exp()) if len(last.lens) else 1.0
    poses = {}
    for number, keyframe in enumerate(cameras.keyframes):
        packed = keyframe.X.dtype == torch.float16
        revive(keyframe)
        scale = _follow_points(keyframe, number, moved, focal)
        if packed:
            retire(keyframe)
        T = Sim3.from_matrix(moved.poses[number].numpy())
        poses[keyframe.id] = Sim3(T.rotation, T.translation, keyframe.T_world_cam.scale * scale)
    keyframe_map.move({k.id: poses[k.id] for n, k in enumerate(cameras.keyframes) if used[n]})
    for number, (place, sighting) in enumerate(zip(cameras.places, cameras.seen, strict=True), len(cameras.keyframes)):
        if used[number]:
            T_world_kf = keyframe_map.keyframes[sighting.keyframe_id].T_world_cam
            T_world_cam = Sim3.from_matrix(moved.poses[number].numpy())
            T_kf_cam = T_world_kf.inverse() @ replace(T_world_cam, scale=T_world_kf.scale)
            frame = keyframe_map.frames[place]
            keyframe_map.frames.put(place, FramePose(frame.frame_id, frame.stamp_ns, frame.keyframe_id, T_kf_cam))
    count = int(used[: len(cameras.keyframes)].sum())
    before, after = _rmse(found.first), _rmse(last)
    return BundleReport(count, int(used.sum()) - count, len(last.X), len(last.distance), before, after, focal)


def _in_the_size_of(estimate: StructureEstimate, poses: torch.Tensor, used: torch.Tensor) -> StructureEstimate:
    """The estimate with the spread of the positions as before, about the camera that was held: views do not tell the unit."""
    before, after = ((p[used, :3, 3] - p[used, :3, 3].mean(0)).norm() for p in (poses, estimate.poses))
    if not (before > 0 and after > 0):
        return estimate
    factor, centre = before / after, estimate.poses[estimate.problem.camera.min(), :3, 3]
    scaled = estimate.poses.clone()
    scaled[used, :3, 3] = centre + factor * (scaled[used, :3, 3] - centre)
    return replace(estimate, poses=scaled, X=centre + factor * (estimate.X - centre))


def _follow_points(keyframe: Keyframe, number: int, estimate: StructureEstimate, focal: float) -> float:
    """Gives the keyframe's pixels the depths of their points, with the change that they have in common as the returned factor of
    its unit, and the keyframe the focal length."""
    views = torch.nonzero(estimate.problem.camera == number)[:, 0]
    if focal != 1.0 and not keyframe.K_known:
        keyframe.K = lens_intrinsics(torch.from_numpy(keyframe.K), estimate.lens[:1]).numpy()
        keyframe.X[..., :2] /= focal
        if keyframe.features is not None:
            keyframe.features.K = keyframe.K
    T = estimate.poses[number]
    z = (estimate.X[estimate.problem.point[views]] - T[:3, 3]) @ T[:3, 2] / float(keyframe.T_world_cam.scale)
    pixels = estimate.problem.pixels[views]
    column, row = pixel_index(pixels, keyframe.conf.shape[1], keyframe.conf.shape[0])
    known = (keyframe.conf[row, column] > 0) & (keyframe.X[row, column, 2] > 0) & (z > 0)
    good = known & (estimate.distance[views] < ROUNDS[-1][0])
    row, column, z = row[good], column[good], z[good]
    if len(z) < MIN_VIEWS:
        return 1.0
    ratio = z / keyframe.X[row, column, 2].double()
    factor = float(ratio.log().median().exp())
    keyframe.X[row, column] *= (ratio / factor).to(keyframe.X.dtype)[:, None]
    return factor
