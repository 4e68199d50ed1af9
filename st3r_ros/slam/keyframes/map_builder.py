# SPDX-License-Identifier: Apache-2.0
"""Adds new keyframes with their pointmaps and edges, and runs the local optimization after each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
import torch

from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.slam.keyframes.fusion import distrust_specks, fuse_pointmap, moved
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import retire, revive
from st3r_ros.slam.keyframes.projection import pixel_index, rays, sample
from st3r_ros.slam.keyframes.survey import CARRIED_SHARE, Survey, Surveyor
from st3r_ros.slam.optimization.following import MAX_CONF
from st3r_ros.slam.optimization.local_bundle import LocalBundle
from st3r_ros.slam.optimization.local_window import LocalWindow
from st3r_ros.slam.optimization.scale import NETWORK_SIGMA
from st3r_ros.slam.tracking.start_fit import StartFit
from st3r_ros.slam.tracking.tracker import TYPICAL_DEPTH, CarriedPoints, Tracked, carried_points
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Edge, Features, Frame, Keyframe, MapScale, Matches, PairPrediction

FIT_INFORMATION = 1.0


class Optimum(Protocol):
    """What was found for the newest keyframes."""

    def apply(self, keyframe_map: KeyframeMap) -> list[int]:
        """Moves the keyframes; ids of those that moved."""
        ...


class MapBuilder:
    """Adds keyframes to a map and optimizes its newest part. surveyor: finds what completes a new keyframe."""

    def __init__(self, workspace: Workspace) -> None:
        self._model, self._map, self._tracker = workspace.model, workspace.map, workspace.tracker
        self._store, self._places = workspace.store, workspace.places
        self.surveyor = Surveyor(workspace)
        self._next_id = max(workspace.map.keyframes, default=-1) + 1

    def begin_anew(self) -> None:
        """Empties the map."""
        for keyframe_id in list(self._map.keyframes):
            self.forget(keyframe_id)
        self._map.clear()
        self._map.scale = MapScale("network", NETWORK_SIGMA) if self._model.traits.metric else MapScale()
        self._next_id = 0

    def first_keyframe(self, frame: Frame, features: Features) -> Keyframe:
        """A keyframe at the origin, without depth."""
        h, w = features.image.shape[:2]
        return self._insert(frame, features, Sim3.identity(), torch.zeros(h, w, 3), torch.zeros(h, w))

    def give_depth(self, first: Keyframe, features: Features, matches: Matches, fit: StartFit | None = None) -> bool:
        """Gives the first keyframe the pointmap of its pair with another view; False when the pair shows no depth.

        matches: of the other view (0) with the first keyframe (1). fit: of several views, this one the last, where there is one;
        its points then have the depths it has found.
        """
        T_0_1 = None if fit is None else fit.T_first_view
        prediction = self._model.predict(first.features, features, T_0_1=T_0_1, seed=matches.swapped())
        assert prediction.X_0_0 is not None and prediction.conf0 is not None
        if fit is not None:
            return self._set_depth(first, prediction.X_0_0, prediction.conf0, self._put_in(prediction, fit, first.K))
        z = sample(prediction.X_0_0, prediction.matches.pixels0)[:, 2]
        known = sample(prediction.conf0, prediction.matches.pixels0) > 0
        return self._set_depth(first, prediction.X_0_0, prediction.conf0, z[known])

    def _put_in(self, prediction: PairPrediction, fit: StartFit, K: np.ndarray) -> torch.Tensor:
        """Puts the depths of a fit, of several views, into the pointmap of image 0; returns those (n,) that are known."""
        assert prediction.X_0_0 is not None and prediction.conf0 is not None
        known = fit.information > FIT_INFORMATION
        pixels, depth = fit.pixels[known], fit.depth[known].float()
        column, row = pixel_index(pixels, prediction.conf0.shape[1], prediction.conf0.shape[0])
        conf = fit.information[known] * self._model.traits.relative_depth_sigma**2
        prediction.X_0_0[row, column] = rays(pixels, K).float() * depth[:, None]
        prediction.conf0[row, column] = conf.clamp_max(MAX_CONF).float()
        return depth

    def give_own_depth(self, first: Keyframe) -> bool:
        """Gives the first keyframe the pointmap that a model sees in its image alone; False when it sees none."""
        prediction = self._model.predict(first.features, first.features)
        assert prediction.X_0_0 is not None and prediction.conf0 is not None
        return self._set_depth(first, prediction.X_0_0, prediction.conf0, prediction.X_0_0[..., 2][prediction.conf0 > 0])

    def _set_depth(self, first: Keyframe, X: torch.Tensor, conf: torch.Tensor, depths: torch.Tensor) -> bool:
        """depths: those that tell the scale."""
        if len(depths) < self._tracker.config.min_inliers:
            return False
        # Without a metric model the first scene gets the typical depth of a room, for a convenient map unit.
        scale = 1.0 if self._model.traits.metric else TYPICAL_DEPTH / float(depths.median())
        if self._model.traits.monocular_depth:
            conf = distrust_specks(X, conf, self._model.traits.relative_depth_sigma)
        first.X, first.conf = X * scale, conf
        first.descriptor = self._model.describe(self._store.of(first)).float().cpu()
        self._places.add(first)
        return True

    def add_keyframe(self, frame: Frame, features: Features, previous: Keyframe, tracked: Tracked) -> Keyframe:
        """Makes a tracked frame a keyframe, with the depth that tracking knows; `complete` gives it the rest."""
        T_kf_cam, prediction = tracked.result.T_kf_cam.se3(), tracked.prediction
        carried, (h, w) = carried_points(tracked), features.image.shape[:2]
        X, conf = torch.zeros(h, w, 3), torch.zeros(h, w)
        if prediction.X_0_0 is not None and prediction.conf0 is not None:
            X = prediction.X_0_0 * self.surveyor.correction(prediction.X_0_0, prediction.conf0, carried)
            conf = prediction.conf0.clone()
            if self._model.traits.monocular_depth:
                conf = distrust_specks(X, conf, self._model.traits.relative_depth_sigma)
        self._carry_over(X, conf, carried)
        keyframe = self._insert(frame, features, previous.T_world_cam @ T_kf_cam, X, conf)
        self._model.adopt(features, tracked.agreed.pixels0)
        self._map.add_edge(self.edge(keyframe, previous, tracked.agreed, "sequential"))
        return keyframe

    def complete(self, survey: Survey) -> None:
        """Gives a new keyframe what was found for it, and by it for the one before."""
        keyframe, dense = survey.keyframe, survey.dense
        keyframe.descriptor = survey.descriptor
        if dense is not None:
            keyframe.X, keyframe.conf = dense.with_known(keyframe.X, keyframe.conf)
        if dense is not None and dense.X_before is not None and dense.conf_before is not None:
            self._fuse_back(survey.previous, dense.X_before, dense.conf_before, survey.T_previous)
        self._places.add(keyframe)
        for other, matches in survey.ties:
            self._map.add_edge(self.edge(keyframe, other, matches, "sequential"))

    def optimization(self) -> Callable[[], Optimum | None]:
        """Work for any thread: the newest keyframes optimized, with the older ones that see the same things."""
        newest = list(self._map.keyframes)[-self._tracker.config.window_size :]
        problem = (LocalWindow if self._model.traits.monocular_depth else LocalBundle).of(self._map, newest)
        return partial(problem.adjusted, self._model.traits.relative_depth_sigma)

    def take(self, optimum: Optimum) -> list[int]:
        """Moves the keyframes to where they were found to be; the ids of those that moved."""
        moved = optimum.apply(self._map)
        if not self._model.traits.monocular_depth:
            for keyframe_id in moved:
                self._places.update(self._map.keyframes[keyframe_id])
        return moved

    def _retire_old(self) -> None:
        """Keyframes that leave the window are packed."""
        leaving = list(self._map.keyframes)[-self._tracker.config.window_size - 2 : -self._tracker.config.window_size]
        for keyframe_id in leaving:
            retire(self._map.keyframes[keyframe_id])

    def _insert(self, frame: Frame, features: Features, T_world_cam: Sim3, X: torch.Tensor, conf: torch.Tensor) -> Keyframe:
        keyframe = Keyframe(
            id=self._next_id,
            frame_id=frame.id,
            stamp_ns=frame.stamp_ns,
            T_world_cam=T_world_cam,
            X=X,
            conf=conf,
            image=features.image,
            K=features.K,
            K_known=features.K_known,
            calibrated=features.K_known or not self._model.traits.monocular_depth,
            features=features,
            source=frame.source,
            lens=frame.lens,
            mask=features.mask,
        )
        self._next_id += 1
        self._map.add_keyframe(keyframe)
        self._store.of(keyframe)
        self._places.add(keyframe)
        self._retire_old()
        return keyframe

    def _fuse_back(self, previous: Keyframe, X_cam: torch.Tensor, conf: torch.Tensor, T_kf_cam: SE3) -> None:
        """Fuses the pair's pointmap of the previous keyframe, given in the new camera, into its canonical one."""
        packed = previous.X.dtype == torch.float16
        revive(previous)
        X = moved(X_cam, T_kf_cam.sim3(1.0))
        previous.X, previous.conf = fuse_pointmap(previous.X, previous.conf, X, conf, self._model.traits.relative_depth_sigma)
        if packed:
            retire(previous)

    def _carry_over(self, X: torch.Tensor, conf: torch.Tensor, points: CarriedPoints) -> None:
        """Puts the depths known from earlier keyframes, which rest on more views, at their pixels of the new one."""
        column, row = pixel_index(points.pixels, conf.shape[1], conf.shape[0])
        known = (points.information * self._model.traits.relative_depth_sigma**2).to(conf.dtype)
        better = (known > CARRIED_SHARE * conf[row, column]) & (points.X[:, 2] > 0)
        row, column = row[better], column[better]
        X[row, column] = points.X[better].to(X.dtype)
        conf[row, column] = known[better]

    def connect(self, keyframe: Keyframe, other: Keyframe, kind: str) -> None:
        """Connects two keyframes with expected overlap, if their images match."""
        tied = self.surveyor.tie(keyframe, other)
        if tied is not None:
            self._map.add_edge(self.edge(keyframe, other, tied.agreed, kind))

    def forget(self, keyframe_id: int) -> None:
        """Handles a removed keyframe."""
        self._store.forget(keyframe_id)
        self._places.remove(keyframe_id)

    def edge(self, keyframe: Keyframe, other: Keyframe, matches: Matches, kind: str) -> Edge:
        """An edge with at most `edge_matches` of the matches (0 = keyframe, 1 = other)."""
        count = min(len(matches), self._tracker.config.edge_matches)
        kept = matches.chosen(torch.linspace(0, len(matches) - 1, count).long())
        return Edge.pack(keyframe.id, other.id, kind, kept.pixels0, kept.pixels1, kept.weight)
