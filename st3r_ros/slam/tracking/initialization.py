# SPDX-License-Identifier: Apache-2.0
"""The start of a map: from the first frame to a first keyframe with depth."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.map_builder import MapBuilder
from st3r_ros.slam.tracking.start_fit import StartFit, StartView, fit_start
from st3r_ros.slam.tracking.trace_back import Passed, trace_back
from st3r_ros.slam.tracking.tracker import Tracked
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Frame, FramePose, Keyframe, Matches, PairModel, PairPrediction

MAX_PENDING = 300
MAX_PASSED = 100
SURE_SHARE = 0.3
MAX_VIEWS = 5
SURE_POINTS, SURE_POINTS_SHARE = 3, 0.25
"""Points with a sure depth that a start needs, as a multiple of `min_inliers` and as a share of the matches."""
AGREEING_SHARE, RIVAL_COST = 0.8, 1.2
"""Share of the matches that must agree on a start; how much worse another solution must be."""
TINY_MAP_KEYFRAMES = 3
TINY_MAP_GRACE_S, TINY_MAP_PATIENCE_S = 2.0, 5.0


@dataclass(frozen=True, eq=False)
class _Pending:
    """A frame seen before the map exists: matched against the first keyframe, placed once that has depth."""

    frame_id: int
    stamp_ns: int
    K: np.ndarray
    prediction: PairPrediction


@dataclass(frozen=True, eq=False)
class Start:
    """The result of a frame during the start. first: the first keyframe, once it has depth.

    tracked: the frame against it; None for the first frame itself, and when it could not be placed (`lost`).
    """

    first: Keyframe | None = None
    tracked: Tracked | None = None
    lost: bool = False


@dataclass(eq=False)
class Initialization:
    """Waits for depth: that of the first frame alone, where the model sees it, or that of the first pair with enough parallax.

    passed: how many frames before the first keyframe are placed as well, at most.
    """

    workspace: Workspace
    builder: MapBuilder
    passed: int = MAX_PASSED
    _first: Keyframe | None = None
    _pending: list[_Pending] = field(default_factory=list)
    _recent: deque[Passed] = field(default_factory=deque)
    _passed: tuple[Passed, ...] = ()
    _most_matches: int = 0

    def register(self, frame: Frame, features: Any) -> Start:
        """Takes the next frame."""
        if self._first is None:
            return self._begin(frame, features)
        return self._continue(frame, features, self._first)

    def _begin(self, frame: Frame, features: Any) -> Start:
        """The first frame becomes the first keyframe."""
        self.builder.begin_anew()
        self._pending, self._most_matches = [], 0
        self._passed = tuple(self._recent)
        self._first = self.builder.first_keyframe(frame, features)
        self._remember(frame, features)
        if self.workspace.model.traits.monocular_depth and self.builder.give_own_depth(self._first):
            return Start(self._place_first(self._first))
        return Start()

    def _continue(self, frame: Frame, features: Any, first: Keyframe) -> Start:
        """The first frame with enough parallax gives the first keyframe its depth; the frames in between are placed then."""
        model, config = self.workspace.model, self.workspace.config
        seed = self._pending[-1].prediction.matches if self._pending else None
        prediction = model.predict(features, first.features, seed=seed, dense=model.traits.monocular_depth)
        if seed is not None and len(prediction.matches) < SURE_SHARE * prediction.matches.possible:
            # After a gap the seed may have led astray, and a map must not start from the few wrong matches that agree.
            unseeded = model.predict(features, first.features, dense=model.traits.monocular_depth)
            prediction = max(prediction, unseeded, key=lambda found: len(found.matches))
        self._most_matches = max(self._most_matches, len(prediction.matches))
        if self._give_depth(first, features, prediction):
            return self._start_from(first, features, prediction)
        gone = len(prediction.matches) < max(config.keyframe_match_fraction * self._most_matches, config.min_inliers)
        if gone or len(self._pending) >= MAX_PENDING:
            return self._begin(frame, features)  # the first view is gone and showed no depth
        self._pending.append(_Pending(frame.id, frame.stamp_ns, features.K, prediction))
        self._remember(frame, features)
        return Start()

    def _give_depth(self, first: Keyframe, features: Any, prediction: PairPrediction) -> bool:
        """Whether this frame and those since the first determine the depth of the first keyframe, which then has it."""
        config = self.workspace.config
        fading = len(prediction.matches) < 1.3 * config.keyframe_match_fraction * self._most_matches
        if prediction.parallax_deg < config.init_parallax_deg * (0.5 if fading else 1.0):
            return False
        if self.workspace.model.traits.monocular_depth:
            return self.builder.give_depth(first, features, prediction.matches)
        fit = self._fit(first, features.K, prediction.matches)
        return fit is not None and self.builder.give_depth(first, features, prediction.matches, fit)

    def _start_from(self, first: Keyframe, features: Any, prediction: PairPrediction) -> Start:
        """Places the frames before and since the first keyframe, which has depth now, and the newest one."""
        for passed, seen in trace_back(self.workspace, self.builder, first, self._passed):
            self.workspace.map.add_frame(passed, seen)
        self._place_first(first)
        guess = Sim3.identity()
        for pending in self._pending:
            placed = self.workspace.tracker.solve(pending.prediction, pending.K, first, guess)
            if placed is not None:
                guess = placed.result.T_kf_cam
                seen = self.workspace.tracker.sighting(first, pending.K, placed)
                self.workspace.map.add_frame(FramePose(pending.frame_id, pending.stamp_ns, first.id, guess), seen)
        self._pending, self._passed = [], ()
        self._recent.clear()
        tracked = self.workspace.tracker.solve(prediction, features.K, first, guess)
        return Start(first, tracked, lost=tracked is None)

    def _fit(self, first: Keyframe, K: np.ndarray, matches: Matches) -> StartFit | None:
        """The geometry of the first image with the frames since, if they determine it and no other fits as well."""
        if len(matches) < self.workspace.config.min_inliers:
            return None
        earlier = np.unique(np.linspace(0, len(self._pending) - 1, min(len(self._pending), MAX_VIEWS - 1)).round().astype(int))
        views = [StartView(self._pending[n].prediction.matches, self._pending[n].K) for n in earlier]
        fits = fit_start(first.K, [*views, StartView(matches, K)], self.workspace.config.min_inliers)
        if not fits:
            return None
        best, others = fits[0], fits[1:]
        enough = best.sure >= max(SURE_POINTS * self.workspace.config.min_inliers, SURE_POINTS_SHARE * len(matches))
        rivals = any(other.cost < RIVAL_COST * best.cost and 2 * other.sure >= best.sure for other in others)
        return best if enough and best.share >= AGREEING_SHARE and not rivals else None

    def _remember(self, frame: Frame, features: Any) -> None:
        self._recent.append(Passed.of(frame, features))
        if len(self._recent) > self.passed:
            self._recent.popleft()

    def _place_first(self, first: Keyframe) -> Keyframe:
        self.workspace.map.add_frame(FramePose(first.frame_id, first.stamp_ns, first.id, Sim3.identity()))
        return first


def has_barely_begun(keyframe_map: KeyframeMap, lost_ns: int, model: PairModel) -> bool:
    """Whether another start may replace a map in which the camera is lost at a stamp.

    It may when the map has at most TINY_MAP_KEYFRAMES and the camera has been lost for as long as it was tracked, but not before
    the grace and after the patience at the latest. A start that needs parallax takes its time and succeeds only where the camera
    sees a scene: while the map is younger than the grace it may begin with the first lost frame. A model that sees depth in one
    image would start from whatever covers the camera.
    """
    frames = keyframe_map.frames
    if len(keyframe_map.keyframes) > TINY_MAP_KEYFRAMES or not len(frames):
        return False
    tracked_s, lost_s = (frames[-1].stamp_ns - frames[0].stamp_ns) * 1e-9, (lost_ns - frames[-1].stamp_ns) * 1e-9
    if tracked_s < TINY_MAP_GRACE_S and not model.traits.monocular_depth:
        return True
    return lost_s > min(max(tracked_s, TINY_MAP_GRACE_S), TINY_MAP_PATIENCE_S)
