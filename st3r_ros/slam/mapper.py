# SPDX-License-Identifier: Apache-2.0
"""The mapper: one image after the other in, a growing map out. `Mapper.register_frame` is the algorithm."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from st3r_ros.config import MapperConfig
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.slam.map_builder import MapBuilder
from st3r_ros.slam.stream import FrameStream
from st3r_ros.slam.tracker import Tracked, fuse_depths, solve_matches, track_against
from st3r_ros.types import (
    Features,
    Frame,
    FramePose,
    Keyframe,
    MappingState,
    MappingUpdate,
    PairModel,
    PairPrediction,
)

MAX_PENDING = 300
RELOCALIZATION_CANDIDATES = 3
TINY_MAP_KEYFRAMES = 3
TINY_MAP_PATIENCE = 20
EXPECTED_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class _Pending:
    """A frame seen before the map exists: matched against the first keyframe, placed once that has depth."""

    frame_id: int
    stamp_ns: int
    K: np.ndarray
    prediction: PairPrediction


@dataclass(eq=False)
class _Step:
    """What happened while one frame was processed."""

    timings_ms: dict[str, float] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    new_keyframe: int | None = None
    message: str = ""
    tracked: Tracked | None = None
    clock: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + 1000 * (now - self.clock)
        self.clock = now


class Mapper:
    """Builds a `KeyframeMap` from frames, with any pair model. Not thread-safe: one thread calls it."""

    def __init__(self, model: PairModel, config: MapperConfig | None = None) -> None:
        self._config = config or MapperConfig()
        self._model = model
        self.reset()

    @property
    def config(self) -> MapperConfig:
        """The settings; assigning others takes effect with the next frame."""
        return self._config

    @config.setter
    def config(self, config: MapperConfig) -> None:
        self._config = self._builder.config = config

    def reset(self) -> None:
        """Forgets everything."""
        self.map = KeyframeMap()
        self.state = MappingState.WAITING
        self._builder = MapBuilder(self._model, self.map, self.config)
        self._stream = FrameStream()
        self._pending: list[_Pending] = []
        self._current: Keyframe | None = None
        self.reset_tracking()

    def reset_tracking(self) -> None:
        """Keeps the map and forgets the motion: stamps may start again, the next frames look for the last keyframes."""
        self._stream.forget_time()
        self._T_kf_cam = Sim3.identity()
        self._most_trusted = 0
        self._lost_frames = 0
        self._previous: tuple[Frame, Features, Tracked] | None = None
        if self.state in (MappingState.TRACKING, MappingState.RELOCALIZED):
            self.state = MappingState.LOST
        elif self.state is MappingState.INITIALIZING:
            self.state, self._current, self._pending = MappingState.WAITING, None, []
            self.map.clear()

    def register_frame(self, frame: Frame) -> MappingUpdate:
        """Places one frame, extends and corrects the map.

        Raises FrameError, changing nothing, for a frame that cannot be used.
        """
        self._stream.admit(frame)
        step = _Step()
        frame = self._stream.undistorted(frame)
        step.lap("undistort")
        features = self._model.encode(frame)
        step.lap("encode")

        if self._current is None:
            self._start(frame, features, step)
        elif self.state is MappingState.INITIALIZING:
            self._initialize(frame, features, self._current, step)
        elif self.state is MappingState.LOST:
            self._relocalize(frame, features, step)
        else:
            self._track(frame, features, self._current, step)
        return self._update(frame, step)

    # Before there is a map ------------------------------------------------------------------------------------------

    def _start(self, frame: Frame, features: Features, step: _Step) -> None:
        """The first frame becomes the first keyframe; whether it has depth at once depends on the model."""
        self._current = self._builder.first_keyframe(frame, features)
        self._pending = []
        if self._model.sees_depth_alone and self._builder.give_own_depth(self._current):
            self._begin_tracking(self._current, step)
            return
        self.state = MappingState.INITIALIZING
        step.message = "Waiting for the camera to move sideways."

    def _begin_tracking(self, first: Keyframe, step: _Step) -> None:
        """The first keyframe has its depth."""
        self.state = MappingState.TRACKING
        self._most_trusted = 0
        self.map.frames.append(FramePose(first.frame_id, first.stamp_ns, first.id, Sim3.identity()))
        step.changed.add(first.id)
        step.lap("initialize")

    def _initialize(self, frame: Frame, features: Features, first: Keyframe, step: _Step) -> None:
        """The first frame with enough parallax gives the first keyframe its depth; the frames in between are placed then."""
        seed = self._pending[-1].prediction.matches if self._pending else None
        prediction = self._model.predict(features, first.features, seed=seed, dense=False)
        step.lap("predict")
        matches = len(prediction.matches)
        self._most_trusted = max(self._most_trusted, matches)
        fading = matches < 1.3 * self.config.keyframe_match_fraction * self._most_trusted
        needed = self.config.init_parallax_deg * (0.5 if fading else 1.0)
        if prediction.parallax_deg < needed or not self._builder.give_depth(first, features, prediction.matches):
            gone = matches < max(self.config.keyframe_match_fraction * self._most_trusted, self.config.min_inliers)
            if gone or len(self._pending) >= MAX_PENDING:
                self._restart(frame, features, step)
            else:
                self._pending.append(_Pending(frame.id, frame.stamp_ns, features.K, prediction))
            step.lap("initialize")
            return
        self._begin_tracking(first, step)
        for pending in self._pending:
            placed = solve_matches(self._model, pending.prediction, pending.K, first, self._T_kf_cam, self.config.min_inliers)
            if placed is not None:
                self._T_kf_cam = placed.result.T_kf_cam
                self.map.frames.append(FramePose(pending.frame_id, pending.stamp_ns, first.id, self._T_kf_cam))
        self._pending = []
        tracked = solve_matches(self._model, prediction, features.K, first, self._T_kf_cam, self.config.min_inliers)
        if tracked is None:
            self._lose(step)
            return
        self._accept(frame, features, first, tracked, step)
        self._promote(frame, features, tracked, step)

    def _restart(self, frame: Frame, features: Features, step: _Step) -> None:
        """The view of the first keyframe is gone and showed no depth: begin again here."""
        self.map.clear()
        self._T_kf_cam, self._most_trusted = Sim3.identity(), 0
        self._start(frame, features, step)

    # Tracking -------------------------------------------------------------------------------------------------------

    def _track(self, frame: Frame, features: Features, keyframe: Keyframe, step: _Step) -> None:
        seed = self._previous[2].matches if self._previous else None
        tracked = track_against(self._model, features, keyframe, self._T_kf_cam, self.config.min_inliers, seed)
        step.lap("track")
        has_room = len(self.map.keyframes) < self.config.max_keyframes
        if not self._good(tracked) and self._previous is not None and has_room:
            # A sudden move: the last frame is nearer to this one than the keyframe is. Make it the keyframe and try again.
            keyframe = self._promote(*self._previous, step)
            tracked = track_against(self._model, features, keyframe, self._T_kf_cam, self.config.min_inliers)
            step.lap("track")
        if tracked is None or not self._good(tracked):
            self._lose(step)
            return
        self._accept(frame, features, keyframe, tracked, step)
        if self._view_has_changed(tracked):
            if len(self.map.keyframes) < self.config.max_keyframes:
                self._promote(frame, features, tracked, step)
            else:
                step.message = f"The map is full: max_keyframes is {self.config.max_keyframes}; raise it to map further."

    def _lose(self, step: _Step) -> None:
        self.state, self._previous, self._lost_frames = MappingState.LOST, None, 0
        step.message = "Lost: too few of the last keyframe's points are seen. Point the camera back to where it was."

    def _view_has_changed(self, tracked: Tracked) -> bool:
        """Whether the keyframe shares too little with the frame, compared with what it once did and could at all."""
        expected = max(self._most_trusted, EXPECTED_SHARE * tracked.matches.possible)
        return tracked.trusted < self.config.keyframe_match_fraction * expected

    def _good(self, tracked: Tracked | None) -> bool:
        return tracked is not None and tracked.trusted >= self.config.lost_match_fraction * self._most_trusted

    def _accept(self, frame: Frame, features: Features, keyframe: Keyframe, tracked: Tracked, step: _Step) -> None:
        """Records the frame's pose and lets the keyframe learn from it."""
        self.state = MappingState.TRACKING
        self._most_trusted = max(self._most_trusted, tracked.trusted)
        self._T_kf_cam = tracked.result.T_kf_cam
        self._previous = (frame, features, tracked)
        self.map.frames.append(FramePose(frame.id, frame.stamp_ns, keyframe.id, self._T_kf_cam))
        fuse_depths(keyframe, tracked, self._model.relative_depth_sigma)
        step.tracked = tracked
        step.lap("fuse")

    def _promote(self, frame: Frame, features: Features, tracked: Tracked, step: _Step) -> Keyframe:
        """Makes a tracked frame the new keyframe."""
        assert self._current is not None
        keyframe = self._builder.add_keyframe(frame, features, self._current, tracked)
        self.map.frames.replace_last(FramePose(frame.id, frame.stamp_ns, keyframe.id, Sim3.identity()))
        step.lap("keyframe")
        step.changed |= {keyframe.id, *self._builder.optimize()}
        step.new_keyframe = keyframe.id
        self._current, self._previous = keyframe, None
        self._T_kf_cam, self._most_trusted = Sim3.identity(), 0
        step.lap("optimize")
        return keyframe

    # Lost -----------------------------------------------------------------------------------------------------------

    def _relocalize(self, frame: Frame, features: Features, step: _Step) -> None:
        """Looks for the view of the last keyframes."""
        keyframes = list(self.map.keyframes.values())
        last, older = keyframes[-RELOCALIZATION_CANDIDATES:], keyframes[:-RELOCALIZATION_CANDIDATES]
        # Some of the older ones each time, in turn: the cost per frame stays the same however large the map is.
        turn = self._lost_frames * RELOCALIZATION_CANDIDATES % max(len(older), 1)
        candidates = last + older[turn : turn + RELOCALIZATION_CANDIDATES]
        self._lost_frames += 1
        found = [(track_against(self._model, features, k, Sim3.identity(), 2 * self.config.min_inliers), k) for k in candidates]
        step.lap("relocalize")
        best, keyframe = max(found, key=lambda item: item[0].trusted if item[0] else 0)
        if best is None:
            step.message = "Lost: looking for the last keyframes."
            if len(keyframes) <= TINY_MAP_KEYFRAMES and self._lost_frames > TINY_MAP_PATIENCE:
                self._restart(frame, features, step)
                step.message = "The camera was lost right after the start; starting again here."
            return
        self._current = keyframe
        self._most_trusted = 0
        self._accept(frame, features, keyframe, best, step)
        self.state = MappingState.RELOCALIZED
        step.message = f"Relocalized against keyframe {keyframe.id}."

    # Around the algorithm -------------------------------------------------------------------------------------------

    def _update(self, frame: Frame, step: _Step) -> MappingUpdate:
        pose, covariance = None, None
        if step.tracked is not None and self.map.frames:
            record = self.map.frames[-1]
            T_world_kf = self.map.keyframes[record.keyframe_id].T_world_cam
            T_world_cam = T_world_kf @ record.T_kf_cam
            pose = T_world_cam.se3()
            # The tangent is applied in camera axes and units; the pose is reported in world axes and units.
            to_world = np.zeros((6, 6))
            to_world[:3, :3] = float(T_world_cam.scale) * T_world_cam.rotation
            to_world[3:, 3:] = T_world_cam.rotation
            covariance = to_world @ step.tracked.result.covariance[:6, :6] @ to_world.T
        return MappingUpdate(
            frame.id,
            frame.stamp_ns,
            self.state,
            pose,
            covariance,
            step.new_keyframe,
            tuple(sorted(step.changed)),
            step.timings_ms,
            step.message,
        )
