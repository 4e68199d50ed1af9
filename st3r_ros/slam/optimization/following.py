# SPDX-License-Identifier: Apache-2.0
"""What a bundle that was adjusted means for the map, which may have gone on meanwhile. What is dense, the pointmaps, follows the
points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from st3r_ros.geometry.pixels import rays
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import retire, revive
from st3r_ros.slam.keyframes.projection import pixel_index
from st3r_ros.slam.optimization.adjustment import FITTED_PX, MIN_VIEWS, Cameras, Solved
from st3r_ros.slam.optimization.later import poses_now
from st3r_ros.solver.structure import StructureEstimate, lens_intrinsics
from st3r_ros.types import Keyframe

MAX_CONF = 100.0
"""Of a depth that was found from several views."""
PIXEL_SIGMA = 0.6
"""Of the matches, for what is believed of the depths."""


def apply(keyframe_map: KeyframeMap, cameras: Cameras, found: Solved, depth_sigma: float | None = None) -> list[int]:
    """Moves keyframes and frames, and lets the pointmaps follow the points; ids of the keyframes that moved.

    depth_sigma: relative depth error of a pixel of confidence 1, where the confidences are to follow too, and depths that were
    not known are to be.
    """
    last, ids = found.last, list(cameras.then)
    used = found.used
    still = used & ~last.problem.free
    moved = _in_the_size_of(last, cameras.poses, used) if int(still.sum()) < 2 else last
    told = [ids[n] for n in torch.nonzero(still[: len(ids)])[:, 0].tolist() if ids[n] in keyframe_map.keyframes]
    if not told:
        return []
    changed = [n for n, k in enumerate(ids) if used[n] and not cameras.held[n] and k in keyframe_map.keyframes]
    depths = _Depths.of(moved, depth_sigma)
    solved = {}
    for keyframe_id in cameras.then:
        if keyframe_id in keyframe_map.keyframes:
            _use_lens(keyframe_map.keyframes[keyframe_id], last.lens)
    for number in changed:
        T, then = Sim3.from_matrix(moved.poses[number].numpy()), cameras.then[ids[number]]
        scale = _follow(keyframe_map.keyframes[ids[number]], depths.of_camera(number), float(then.scale))
        solved[ids[number]] = Sim3(T.rotation, T.translation, then.scale * scale)
    poses = poses_now(keyframe_map, cameras.then, solved, told)
    keyframe_map.move(poses)
    _place_frames(keyframe_map, cameras, moved.poses, used, solved)
    return list(poses)


def _follow(keyframe: Keyframe, depths: _Depths, scale: float) -> float:
    """Gives a keyframe the depths of its points; the factor of its unit, which was `scale` in the world."""
    packed = keyframe.X.dtype == torch.float16
    revive(keyframe)
    factor = _follow_points(keyframe, depths, scale)
    if packed:
        retire(keyframe)
    return factor


def _place_frames(
    keyframe_map: KeyframeMap, cameras: Cameras, poses: torch.Tensor, used: torch.Tensor, solved: dict[int, Sim3]
) -> None:
    """Puts the frames that took part where they are to their keyframes; others, between these, follow them."""
    ids = keyframe_map.frames.keyframe_ids
    seen = zip(cameras.places, cameras.seen, strict=True)
    placed = [(p, n, s.keyframe_id) for n, (p, s) in enumerate(seen, len(cameras.then)) if used[n] and ids[p] == s.keyframe_id]
    if not placed:
        return
    places, numbers, keyframes = (np.array(column) for column in zip(*sorted(placed), strict=True))
    each = [solved.get(k) or cameras.then[k] for k in keyframes.tolist()]
    T_world_kf = Sim3(*(np.stack([getattr(T, part) for T in each]) for part in ("rotation", "translation", "scale")))
    T = poses.numpy()[numbers]
    T_world_cam = Sim3(T[:, :3, :3], T[:, :3, 3], T_world_kf.scale)
    keyframe_map.frames.place(places, T_world_kf.inverse() @ T_world_cam)


def _in_the_size_of(estimate: StructureEstimate, poses: torch.Tensor, used: torch.Tensor) -> StructureEstimate:
    """The estimate with the spread of the positions as before, about the camera that was held: views do not tell the unit."""
    before, after = ((p[used, :3, 3] - p[used, :3, 3].mean(0)).norm() for p in (poses, estimate.poses))
    if not (before > 0 and after > 0):
        return estimate
    held = int(torch.nonzero(used & ~estimate.problem.free)[0])
    factor, centre = before / after, estimate.poses[held, :3, 3]
    scaled = estimate.poses.clone()
    scaled[used, :3, 3] = centre + factor * (scaled[used, :3, 3] - centre)
    return replace(estimate, poses=scaled, X=centre + factor * (estimate.X - centre))


@dataclass(frozen=True, eq=False)
class _Depths:
    """Of views of points: camera (M,), pixels (M, 2), depth z (M,) in units of the world, whether the view fits, and the
    confidence of the depth, where it is asked for."""

    camera: torch.Tensor
    pixels: torch.Tensor
    z: torch.Tensor
    fits: torch.Tensor
    conf: torch.Tensor | None

    @staticmethod
    def of(estimate: StructureEstimate, depth_sigma: float | None) -> _Depths:
        problem = estimate.problem
        T, X = estimate.poses[problem.camera], estimate.X[problem.point]
        away = X - T[:, :3, 3]
        z = (away * T[:, :3, 2]).sum(1)
        fits, conf = (estimate.distance < FITTED_PX) & (z > 0), None
        if depth_sigma is not None:
            by_log_depth = (estimate.point_information[problem.point] @ away[..., None])[..., 0]
            conf = (away * by_log_depth).sum(1) * (depth_sigma * problem.sigma / PIXEL_SIGMA) ** 2
        return _Depths(problem.camera, problem.pixels, z, fits, conf)

    def of_camera(self, number: int) -> _Depths:
        """Those that one camera sees and that fit."""
        own = (self.camera == number) & self.fits
        conf = None if self.conf is None else self.conf[own]
        return _Depths(self.camera[own], self.pixels[own], self.z[own], self.fits[own], conf)


def _use_lens(keyframe: Keyframe, lens: torch.Tensor) -> None:
    """Gives a keyframe of an assumed focal length that which was found."""
    if keyframe.K_known or len(lens) == 0 or float(lens[0]) == 0.0:
        return
    keyframe.K = lens_intrinsics(torch.from_numpy(keyframe.K), lens[:1]).numpy()
    keyframe.X[..., :2] /= float(lens[0].exp())
    if keyframe.features is not None:
        keyframe.features.K = keyframe.K


def _follow_points(keyframe: Keyframe, depths: _Depths, scale: float) -> float:
    """Gives the keyframe's pixels the depths of their points, with the change that they have in common as the returned factor of
    its unit, which was `scale` in the world."""
    column, row = pixel_index(depths.pixels, keyframe.conf.shape[1], keyframe.conf.shape[0])
    z = depths.z / scale
    before = keyframe.X[row, column, 2].double()
    known = (keyframe.conf[row, column] > 0) & (before > 0)
    if int(known.sum()) < MIN_VIEWS:
        return 1.0
    factor = float((z[known] / before[known]).log().median().exp())
    if depths.conf is None:
        row, column, ratio = row[known], column[known], (z / before)[known] / factor
        keyframe.X[row, column] *= ratio.to(keyframe.X.dtype)[:, None]
        return factor
    at = rays(torch.stack([column, row], 1).double(), torch.from_numpy(keyframe.K))
    keyframe.X[row, column] = (at * (z / factor)[:, None]).to(keyframe.X.dtype)
    keyframe.conf[row, column] = depths.conf.clamp(1e-3, MAX_CONF).to(keyframe.conf.dtype)
    return factor
