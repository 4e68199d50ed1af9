# SPDX-License-Identifier: Apache-2.0
"""How the map grows: new keyframes with their pointmaps and edges, and the local optimization after each."""

from __future__ import annotations

import numpy as np
import torch

from st3r_ros.config import MapperConfig
from st3r_ros.geometry.se3 import SE3
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.covisibility import expected_view
from st3r_ros.slam.fusion import fuse_pointmap
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.slam.projection import pixel_index, rays, sample
from st3r_ros.slam.tracker import CarriedPoints, Tracked, carried_points
from st3r_ros.slam.window import optimize_window
from st3r_ros.types import Edge, Features, Frame, Keyframe, Matches, PairModel

COVISIBLE_KEYFRAMES = 4
MIN_OVERLAP = 0.25
INITIAL_MEDIAN_DEPTH = 2.0
MAX_CONF = 100.0


class MapBuilder:
    """Adds keyframes to a map and keeps its newest part optimal."""

    def __init__(self, model: PairModel, keyframes: KeyframeMap, config: MapperConfig) -> None:
        self._model = model
        self._map = keyframes
        self.config = config

    def first_keyframe(self, frame: Frame, features: Features) -> Keyframe:
        """A keyframe at the origin, without depth."""
        h, w = features.image.shape[:2]
        return self._insert(frame, features, Sim3.identity(), torch.zeros(h, w, 3), torch.zeros(h, w))

    def give_depth(self, first: Keyframe, features: Features, matches: Matches) -> bool:
        """Gives the first keyframe the pointmap of its pair with another view; False when the pair shows no depth.

        matches: of the other view (0) with the first keyframe (1).
        """
        seed = Matches(matches.pixels1, matches.pixels0, matches.weight, matches.possible)
        prediction = self._model.predict(first.features, features, seed=seed)
        assert prediction.X_0_0 is not None and prediction.conf0 is not None
        z = sample(prediction.X_0_0, prediction.matches.pixels0)[:, 2]
        known = sample(prediction.conf0, prediction.matches.pixels0) > 0
        return self._set_depth(first, prediction.X_0_0, prediction.conf0, z[known])

    def give_own_depth(self, first: Keyframe) -> bool:
        """Gives the first keyframe the pointmap that a model sees in its image alone; False when it sees none."""
        prediction = self._model.predict(first.features, first.features)
        assert prediction.X_0_0 is not None and prediction.conf0 is not None
        return self._set_depth(first, prediction.X_0_0, prediction.conf0, prediction.X_0_0[..., 2][prediction.conf0 > 0])

    def _set_depth(self, first: Keyframe, X: torch.Tensor, conf: torch.Tensor, depths: torch.Tensor) -> bool:
        """depths: those that tell the scale."""
        if len(depths) < self.config.min_inliers:
            return False
        # Without a metric model the first scene gets a depth that suits a room, so that the map is of a handy size.
        scale = 1.0 if self._model.metric else INITIAL_MEDIAN_DEPTH / float(depths.median())
        first.X, first.conf = X * scale, conf
        return True

    def add_keyframe(self, frame: Frame, features: Features, previous: Keyframe, tracked: Tracked) -> Keyframe:
        """Makes a tracked frame a keyframe: pointmap from its pair with `previous`, edges to the newest keyframes."""
        T_cam_kf = tracked.result.T_kf_cam.se3().inverse()
        prediction = self._model.predict(features, previous.features, T_0_1=T_cam_kf, seed=tracked.matches)
        assert prediction.X_0_0 is not None and prediction.conf0 is not None
        carried = carried_points(tracked)
        # The prediction has a scale of its own; the points carried over from the previous keyframe tell it.
        claimed = sample(prediction.X_0_0, carried.pixels)[:, 2]
        both = sample(prediction.conf0, carried.pixels) > 0
        scale = float((carried.depth[both] / claimed[both]).median()) if int(both.sum()) >= self.config.min_inliers else 1.0
        X, conf = prediction.X_0_0 * scale, prediction.conf0.clone()
        if prediction.X_0_1 is not None and prediction.conf1 is not None:
            self._fuse_back(previous, prediction.X_0_1 * scale, prediction.conf1, T_cam_kf)
        self._carry_over(X, conf, carried, features.K)
        keyframe = self._insert(frame, features, previous.T_world_cam @ T_cam_kf.inverse(), X, conf)
        self._connect(keyframe, previous, tracked)
        self._model.adopt(features, tracked.matches.pixels0[tracked.result.inliers])
        return keyframe

    def optimize(self) -> list[int]:
        """Optimizes the newest keyframes, with the older ones that see the same things; the ids of those that moved."""
        everything = list(self._map.keyframes.values())
        newest = everything[-self.config.window_size :]
        ids = {k.id for k in newest}
        edges = list({(e.i, e.j): e for k in newest for e in self._map.edges_of(k.id) if e.i in ids}.values())
        seen_again = {e.j for e in edges} - ids
        # What lies before the window stays where it is; without such neighbours the window's oldest keyframe holds the map.
        fixed = seen_again or {newest[0].id}
        window = [k for k in everything if k.id in ids | seen_again]
        if len(window) < 2:
            return []
        result = optimize_window(window, edges, fixed, self._model.depth_prior_sigma)
        if result is None:
            return []
        for keyframe in newest:
            keyframe.T_world_cam = result.poses[keyframe.id]
            update = result.points[keyframe.id]
            keyframe.X[update.rows, update.columns] *= update.log_depth.exp()[:, None].to(keyframe.X.dtype)
            seen = update.information * self._model.relative_depth_sigma**2
            keyframe.conf[update.rows, update.columns] = seen.clamp(1e-3, MAX_CONF).to(keyframe.conf.dtype)
        return [k.id for k in newest]

    def _insert(self, frame: Frame, features: Features, T_world_cam: Sim3, X: torch.Tensor, conf: torch.Tensor) -> Keyframe:
        keyframe = Keyframe(
            id=max(self._map.keyframes, default=-1) + 1,
            frame_id=frame.id,
            stamp_ns=frame.stamp_ns,
            T_world_cam=T_world_cam,
            X=X,
            conf=conf,
            image=features.image,
            K=features.K,
            K_known=features.K_known,
            calibrated=features.K_known or not self._model.sees_depth_alone,
            features=features,
        )
        self._map.add_keyframe(keyframe)
        return keyframe

    def _fuse_back(self, previous: Keyframe, X_cam: torch.Tensor, conf: torch.Tensor, T_cam_kf: SE3) -> None:
        """Fuses the pair's pointmap of the previous keyframe, given in the new camera, into its canonical one."""
        T_kf_cam = T_cam_kf.inverse()
        R = torch.tensor(T_kf_cam.rotation, dtype=X_cam.dtype, device=X_cam.device)
        t = torch.tensor(T_kf_cam.translation, dtype=X_cam.dtype, device=X_cam.device)
        previous.X, previous.conf = fuse_pointmap(
            previous.X, previous.conf, X_cam @ R.T + t, conf, self._model.relative_depth_sigma
        )

    def _carry_over(self, X: torch.Tensor, conf: torch.Tensor, points: CarriedPoints, K: np.ndarray) -> None:
        """Puts the depths known from earlier keyframes, which rest on more views, at their pixels of the new one."""
        column, row = pixel_index(points.pixels, conf.shape[1], conf.shape[0])
        known = (points.information * self._model.relative_depth_sigma**2).to(conf.dtype)
        better = (known > 0.5 * conf[row, column]) & (points.depth > 0)
        row, column = row[better], column[better]
        X[row, column] = (rays(points.pixels[better], K) * points.depth[better, None]).to(X.dtype)
        conf[row, column] = known[better]

    def _connect(self, keyframe: Keyframe, previous: Keyframe, tracked: Tracked) -> None:
        """Edges to the previous keyframe and, where they still share a view, to the ones before it."""
        inliers = tracked.result.inliers
        matches = tracked.matches
        agreed = Matches(matches.pixels0[inliers], matches.pixels1[inliers], matches.weight[inliers], matches.possible)
        self._add_edge(keyframe, previous, agreed)
        h, w = keyframe.conf.shape
        views = []
        for other in list(self._map.keyframes.values())[:-1]:
            if other is not previous:
                T_cam_other = keyframe.T_world_cam.inverse() @ other.T_world_cam
                views.append((other, expected_view(other, T_cam_other, keyframe.K, w, h)))
        recent, older = views[-2:], sorted(views[:-2], key=lambda item: item[1].overlap)[-COVISIBLE_KEYFRAMES:]
        for other, view in recent + older:
            if view.overlap < MIN_OVERLAP:
                continue
            prediction = self._model.predict(keyframe.features, other.features, seed=view.matches, dense=False)
            if len(prediction.matches) >= 2 * self.config.min_inliers:
                self._add_edge(keyframe, other, prediction.matches)

    def _add_edge(self, keyframe: Keyframe, other: Keyframe, matches: Matches) -> None:
        chosen = torch.linspace(0, len(matches) - 1, min(len(matches), self.config.edge_matches)).long()
        self._map.add_edge(
            Edge.pack(
                keyframe.id,
                other.id,
                "sequential",
                matches.pixels0[chosen],
                matches.pixels1[chosen],
                matches.weight[chosen],
            )
        )
