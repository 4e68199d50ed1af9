# SPDX-License-Identifier: Apache-2.0
"""What a new keyframe shows beyond what tracking knows of it: its dense depth, its ties to keyframes around it, loops."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch

from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.fusion import distrust_specks, smooth_correction
from st3r_ros.slam.keyframes.projection import sample
from st3r_ros.slam.places.covisibility import PosedCamera
from st3r_ros.slam.places.loops import LoopFinder, LoopSearch
from st3r_ros.slam.places.search import LOCAL_HOPS
from st3r_ros.slam.tracking.tracker import CarriedPoints, Tracked, carried_points
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Keyframe, Matches

RECENT_KEYFRAMES = 2
COVISIBLE_KEYFRAMES = 4
MIN_OVERLAP = 0.25
NEW_POINT_PX = 2.0
"""A corner of a new keyframe that is farther from all its matches is a point of its own."""
CARRIED_SHARE = 0.5
"""A depth known from earlier keyframes, which rests on more views, is better than a new one of up to twice its confidence."""


@dataclass(frozen=True, eq=False)
class DensePair:
    """Pointmaps of a keyframe and of the one before it, in its camera and its unit: X (h, w, 3), conf (h, w)."""

    X: torch.Tensor
    conf: torch.Tensor
    X_before: torch.Tensor | None
    conf_before: torch.Tensor | None

    def with_known(self, X: torch.Tensor, conf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The pointmap (h, w, 3) and its confidence (h, w), but the depths that are known already where these are better."""
        better = conf > CARRIED_SHARE * self.conf
        X_best = torch.where(better[..., None], X.to(self.X.dtype), self.X)
        return X_best, torch.where(better, conf.to(self.conf.dtype), self.conf)


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found for `keyframe`, made from `previous`.

    descriptor: (D,) of its place. dense: None where it has dense depth already. ties: keyframes, `previous` first, with the
    matches (0 = `keyframe`) that agree.
    """

    keyframe: Keyframe
    previous: Keyframe
    T_previous: SE3
    descriptor: torch.Tensor
    dense: DensePair | None
    ties: list[tuple[Keyframe, Matches]]
    loops: LoopSearch


class Surveyor:
    """Surveys new keyframes of one map, which it does not change. Meanwhile nobody else changes its graph or moves keyframes."""

    def __init__(self, workspace: Workspace) -> None:
        self._model, self._map, self._tracker = workspace.model, workspace.map, workspace.tracker
        self._store, self._places = workspace.store, workspace.places
        self._loops = LoopFinder(workspace)

    def survey(self, keyframe: Keyframe, previous: Keyframe, tracked: Tracked) -> Survey:
        """Of a keyframe made of a frame that was tracked against `previous`."""
        descriptor = self._model.describe(self._store.of(keyframe)).float().cpu()
        dense = self._dense(keyframe, previous, tracked) if tracked.prediction.X_0_0 is None else None
        deep = replace(keyframe, descriptor=descriptor)
        if dense is not None:
            deep.X, deep.conf = dense.with_known(keyframe.X, keyframe.conf)
        ties = [(previous, self._with_new_points(keyframe, previous, tracked))]
        ties += [(other, tied.agreed) for other in self._around(deep, previous) if (tied := self.tie(deep, other)) is not None]
        loops = self._search_loops(deep, [other.id for other, _ in ties])
        return Survey(keyframe, previous, tracked.result.T_kf_cam.se3(), descriptor, dense, ties, loops)

    def tie(self, keyframe: Keyframe, other: Keyframe) -> Tracked | None:
        """The pose of a keyframe relative to another one that it should see, if their images match well."""
        expected = self._places.matches(PosedCamera.of(keyframe, keyframe.T_world_cam), other)
        tied = self._tracker.tie(keyframe, self._store.of(keyframe), other, self._store.of(other), expected)
        return tied if tied is not None and self._tracker.is_solid(tied) else None

    def _around(self, keyframe: Keyframe, previous: Keyframe) -> list[Keyframe]:
        """The keyframes around it in the graph that still share a view with it."""
        around = self._places.near(previous.id) - {keyframe.id, previous.id}
        recent = around & set(list(self._map.keyframes)[-1 - RECENT_KEYFRAMES :])
        camera, others = PosedCamera.of(keyframe, keyframe.T_world_cam), RECENT_KEYFRAMES + COVISIBLE_KEYFRAMES - len(recent)
        seen = self._places.covisible(camera, recent, at_least=MIN_OVERLAP)
        seen += self._places.covisible(camera, around - recent, others, at_least=MIN_OVERLAP)
        return [found.keyframe for found in seen]

    def _search_loops(self, keyframe: Keyframe, tied: Collection[int]) -> LoopSearch:
        if not self._tracker.config.loop_closure:
            return LoopSearch((), 0)
        recent = set(list(self._map.keyframes)[-self._tracker.config.window_size :])
        return self._loops.search(keyframe, recent.union(*(self._places.near(k, LOCAL_HOPS - 1) for k in tied)))

    def _dense(self, keyframe: Keyframe, previous: Keyframe, tracked: Tracked) -> DensePair:
        """The pointmaps of both, that of the keyframe with the carried-over points' depths in between."""
        T_0_1 = tracked.result.T_kf_cam.se3().inverse()
        prediction = self._model.predict(self._store.of(keyframe), self._store.of(previous), T_0_1=T_0_1, seed=tracked.matches)
        assert prediction.X_0_0 is not None and prediction.conf0 is not None
        factor = self.correction(prediction.X_0_0, prediction.conf0, carried_points(tracked))
        X, conf = prediction.X_0_0 * factor, prediction.conf0
        if self._model.traits.monocular_depth:
            conf = distrust_specks(X, conf, self._model.traits.relative_depth_sigma)
        X_before = None if prediction.X_0_1 is None else prediction.X_0_1 * factor
        return DensePair(X, conf, X_before, prediction.conf1)

    def correction(self, X: torch.Tensor, conf: torch.Tensor, carried: CarriedPoints) -> torch.Tensor:
        """Factor of a prediction's pointmap to agree with the carried-over points: a number, or a field (h, w, 1)."""
        claimed = sample(X, carried.pixels)
        both = sample(conf, carried.pixels) > 0
        if int(both.sum()) < self._tracker.config.min_inliers:
            return X.new_ones(1)
        log_ratio = (carried.X[both].norm(dim=1) / claimed[both].norm(dim=1).clamp_min(1e-9)).log()
        if not self._model.traits.monocular_depth:
            return log_ratio.median().exp().float()
        weight = carried.information[both].clamp_max(1e4)
        return smooth_correction(carried.pixels[both], log_ratio, weight / weight.mean(), *conf.shape).exp()[..., None]

    def _with_new_points(self, keyframe: Keyframe, previous: Keyframe, tracked: Tracked) -> Matches:
        """The matches that agree, and those of the new keyframe's own new points with the previous one."""
        agreed = tracked.agreed
        if self._model.traits.monocular_depth:
            return agreed
        T_0_1 = tracked.result.T_kf_cam.se3()
        back = self._model.predict(
            self._store.of(previous), self._store.of(keyframe), T_0_1=T_0_1, seed=agreed.swapped(), dense=False
        ).matches.swapped()
        if len(back) == 0 or len(agreed) == 0:
            return agreed
        new = torch.cdist(back.pixels0, agreed.pixels0).amin(1) > NEW_POINT_PX
        back = back.chosen(new)
        return Matches(
            torch.cat([agreed.pixels0, back.pixels0]),
            torch.cat([agreed.pixels1, back.pixels1]),
            torch.cat([agreed.weight, back.weight]),
            agreed.possible,
        )
