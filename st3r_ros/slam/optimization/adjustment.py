# SPDX-License-Identifier: Apache-2.0
"""Bundles of a whole map, or of its newest part: keyframes, frames between them, and the points that their matches connect.

Every frame that sees a point tells where it is, and every point where the frames are. The map is only read, in `of`; it may go on
while the bundle is adjusted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from st3r_ros.geometry.pixels import rays
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.sightings import MAX_FRAMES, Sighting
from st3r_ros.slam.keyframes.tracks import MatchedPixels
from st3r_ros.solver.damped import Schedule, minimize
from st3r_ros.solver.structure import Structure, StructureEstimate, distances, lens_intrinsics
from st3r_ros.types import Keyframe

FITTED_PX = 2.0
"""Views that are farther off at the end are wrong."""
MIN_VIEWS = 12
"""A camera with fewer is left as it is, relative to its keyframe."""


@dataclass(frozen=True)
class Round:
    """gates: pixels that a view may be off to take part, one after the other, while points are found anew without the views that
    are farthest off. sigma: of a pixel. schedule: of the steps."""

    gates: tuple[float, ...]
    sigma: float
    schedule: Schedule


@dataclass(frozen=True, eq=False)
class Cameras:
    """Keyframes by their ids, then frames by their places in the log, with what they see. K: (n, 3, 3).

    then: T_world_cam of the keyframes when the map was read. poses: (n, 4, 4) of all, without scale. held: (n,) bool, which stay
    where they are.
    """

    then: dict[int, Sim3]
    places: list[int]
    seen: list[Sighting]
    poses: torch.Tensor
    K: torch.Tensor
    held: torch.Tensor

    @staticmethod
    def of(
        keyframe_map: KeyframeMap,
        keyframes: Sequence[Keyframe],
        held: Collection[int] = (),
        most_frames: Callable[[int], int] = lambda keyframe_id: MAX_FRAMES,
    ) -> Cameras:
        """held: ids of the keyframes that stay. most_frames: how many of a keyframe take part, evenly chosen, with the last."""
        frames = [frame for k in keyframes for frame in _evenly(keyframe_map.sightings.of_keyframe(k.id), most_frames(k.id))]
        places, seen = [place for place, _ in frames], [sighting for _, sighting in frames]
        each = [k.T_world_cam for k in keyframes]
        T = Sim3(*(np.stack([getattr(t, part) for t in each]) for part in ("rotation", "translation", "scale")))
        number = {k.id: n for n, k in enumerate(keyframes)}
        of_frames = T[np.array([number[s.keyframe_id] for s in seen], int)] @ keyframe_map.frames.T_kf_cam[places]
        poses = np.concatenate([T.se3().as_matrix(), of_frames.se3().as_matrix()])
        K = np.stack([k.K for k in keyframes] + [s.K for s in seen])
        stays = torch.tensor([k.id in held for k in keyframes] + [False] * len(places))
        then = {k.id: k.T_world_cam for k in keyframes}
        return Cameras(then, places, seen, torch.from_numpy(poses), torch.from_numpy(K), stays)


def _evenly(frames: list[tuple[int, Sighting]], most: int) -> list[tuple[int, Sighting]]:
    if len(frames) <= most:
        return frames
    return [frames[n] for n in np.linspace(len(frames) - 1, 0, most, endpoint=False).astype(int)[::-1]]


@dataclass(frozen=True, eq=False)
class Views:
    """Views of points: track, camera (M,) int64, pixels (M, 2) float64, sorted by track."""

    track: torch.Tensor
    camera: torch.Tensor
    pixels: torch.Tensor

    @staticmethod
    def of(matched: MatchedPixels) -> Views:
        order = np.argsort(matched.track, kind="stable")
        return Views(*(torch.from_numpy(v[order]) for v in (matched.track, matched.camera, matched.pixels)))

    def __getitem__(self, kept: torch.Tensor) -> Views:
        if kept.dtype == torch.bool:
            kept = torch.nonzero(kept)[:, 0]
        return Views(self.track[kept], self.camera[kept], self.pixels[kept])

    @property
    def tracks(self) -> int:
        """One more than the last track."""
        return int(self.track[-1]) + 1 if len(self.track) else 0

    @property
    def point(self) -> torch.Tensor:
        """The tracks counted from 0, (M,)."""
        return torch.unique_consecutive(self.track, return_inverse=True)[1]

    def seen_by(self, cameras: torch.Tensor) -> Views:
        """Of the tracks that at least one of some cameras, (n,) bool, sees."""
        kept = torch.zeros(self.tracks, dtype=torch.bool)
        kept[self.track[cameras[self.camera]]] = True
        return self[kept[self.track]]

    def most_seen(self, count: int) -> Views:
        """Of the tracks that each camera sees, the `count` seen most often; which of those seen equally often, is drawn."""
        if not len(self.track):
            return self
        seen = torch.bincount(self.track)[self.track]
        drawn = torch.rand(self.tracks, generator=torch.Generator().manual_seed(0))[self.track]
        order = torch.argsort(self.camera - (seen + drawn) / (int(seen.max()) + 2), stable=True)
        per_camera = torch.bincount(self.camera)
        start = torch.cumsum(per_camera, 0) - per_camera
        rank = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)) - start[self.camera[order]])
        kept = torch.zeros(self.tracks, dtype=torch.bool)
        kept[self.track[rank < count]] = True
        return self[kept[self.track]]


@dataclass(frozen=True, eq=False)
class Solved:
    """Where the first round began, and where the last one ended."""

    first: StructureEstimate
    last: StructureEstimate

    @property
    def used(self) -> torch.Tensor:
        """Which cameras (n,) took part in the last round."""
        return torch.bincount(self.last.problem.camera, minlength=len(self.last.poses)) > 0

    @property
    def rmse_before_px(self) -> float:
        """Of the views, pixels, those far off counted as `FITTED_PX`."""
        return _rmse(self.first)

    @property
    def rmse_px(self) -> float:
        return _rmse(self.last)


def _rmse(estimate: StructureEstimate) -> float:
    return float(estimate.distance.clamp_max(FITTED_PX).square().mean()) ** 0.5


def solve(
    cameras: Cameras,
    views: Views,
    rounds: Sequence[Round],
    lens_terms: int = 0,
    notify: Callable[[str], None] = lambda sentence: None,
) -> Solved | None:
    """All rounds, with so many lens terms; None where too little is connected."""
    poses, lens, first, last = cameras.poses, torch.zeros(lens_terms, dtype=torch.float64), None, None
    what = "points" if lens_terms == 0 else "points, and the lens,"
    for number, turn in enumerate(rounds, 1):
        kept = _agreeing(views, poses, lens_intrinsics(cameras.K, lens), turn.gates)
        if not len(kept.camera):
            return None
        start = _stated(kept, cameras, poses, lens, turn.sigma)
        images = len(torch.unique(kept.camera))
        notify(f"Adjusting {images} images and {len(start.X)} {what} together, {number} of {len(rounds)}.")
        last = minimize(start, turn.schedule).estimate
        first = first or start
        poses, lens = last.poses, last.lens
    return None if first is None or last is None else Solved(first, last)


# What is adjusted ---------------------------------------------------------------------------------------------------------


def _agreeing(views: Views, poses: torch.Tensor, K: torch.Tensor, gates: tuple[float, ...]) -> Views:
    """The views that agree with the points of their tracks, of the cameras that hang together."""
    for gate in gates:
        views = views[_distances(views, _triangulated(views, poses, K), poses, K) < gate]
        views = _connected(views, len(poses))
        if not len(views.camera):
            break
    return views


def _triangulated(views: Views, poses: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """The points (P, 3) closest to all rays that see them, the more the nearer these begin."""
    if not len(views.camera):
        return poses.new_zeros(0, 3)
    point, camera = views.point, views.camera
    R, t = poses[camera, :3, :3], poses[camera, :3, 3]
    ray = (R * rays(views.pixels, K[camera])[:, None]).sum(2)
    ray = ray / ray.norm(dim=1, keepdim=True)
    across = torch.eye(3, dtype=ray.dtype) - ray[:, :, None] * ray[:, None]
    # Of each view the 3 x 3 equations and, as a last column, their right side.
    equations = torch.cat([across, t[..., None] - ray[..., None] * (ray * t).sum(1)[:, None, None]], dim=2).flatten(1)
    weight, points = torch.ones_like(ray[:, 0]), int(point[-1]) + 1
    X = poses.new_zeros(points, 3)
    for _ in range(3):
        summed = poses.new_zeros(points, 12).index_add_(0, point, equations * weight[:, None]).view(points, 3, 4)
        H, g = summed[..., :3], summed[..., 3]
        held = 1e-9 * H.diagonal(dim1=1, dim2=2).sum(1) + 1e-12
        X = torch.linalg.solve_ex(H + torch.diag_embed(held[:, None].expand(-1, 3)), g)[0]
        weight = (X[point] - t).square().sum(1).clamp_min(1e-12).reciprocal()
    return X


def _distances(views: Views, X: torch.Tensor, poses: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """How far from their pixels the points (P, 3) appear, (M,) pixels."""
    if not len(views.camera):
        return poses.new_zeros(0)
    R, t = poses[views.camera, :3, :3], poses[views.camera, :3, 3]
    return distances((R * (X[views.point] - t)[..., None]).sum(1), views.pixels, K[views.camera])


def _connected(views: Views, cameras: int) -> Views:
    """Those of the largest part of the cameras that see points together, each at least `MIN_VIEWS`."""
    for _ in range(2):
        count = len(views.camera)
        once = torch.unique(views.track * cameras + views.camera) // cameras
        views = views[torch.bincount(once, minlength=views.tracks)[views.track] > 1]
        views = views[torch.bincount(views.camera, minlength=cameras)[views.camera] >= MIN_VIEWS]
        if len(views.camera) == count:
            break
    if not len(views.camera):
        return views
    # Cameras that see a point hang together with the first one that does.
    camera, point = views.camera.numpy(), views.point.numpy()
    first = camera[np.searchsorted(point, np.arange(point[-1] + 1))]
    graph = coo_matrix((np.ones(len(camera), bool), (camera, first[point])), shape=(cameras, cameras))
    part = torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))
    of_view = part[views.camera]
    return views[of_view == torch.bincount(of_view).argmax()]


def _stated(views: Views, cameras: Cameras, poses: torch.Tensor, lens: torch.Tensor, sigma: float) -> StructureEstimate:
    """Where none is held, the first camera that takes part holds position and orientation; cameras that do not take part stay."""
    free = (torch.bincount(views.camera, minlength=len(poses)) > 0) & ~cameras.held
    if free[views.camera].all():
        free[views.camera.min()] = False
    structure = Structure(views.camera, views.point, views.pixels, cameras.K, free, len(lens), sigma)
    X = _triangulated(views, poses, lens_intrinsics(cameras.K, lens))
    return StructureEstimate.first(structure, poses, X, lens)
