# SPDX-License-Identifier: Apache-2.0
"""The mapper: builds a map image by image. `Mapper.register_frame` is the algorithm."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from st3r_ros.config import MapperConfig, RelocalizerConfig
from st3r_ros.errors import MapFileError
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.slam.keyframes.culling import Culler
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.local_mapping import LocallyMapped, LocalMapping
from st3r_ros.slam.keyframes.map_builder import MapBuilder
from st3r_ros.slam.mapping_step import MappingStep
from st3r_ros.slam.optimization.correction import GlobalOptimizer
from st3r_ros.slam.optimization.global_bundle import BundleReport, adjust_map
from st3r_ros.slam.optimization.odometry_check import OdometryCheck
from st3r_ros.slam.optimization.odometry_way import OdometryWay
from st3r_ros.slam.optimization.scale import ScaleEstimator
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.slam.tracking.fitted_images import FittedImages
from st3r_ros.slam.tracking.frontend import Frontend
from st3r_ros.slam.tracking.initialization import MAX_PASSED, TINY_MAP_KEYFRAMES, Initialization, Start, has_barely_begun
from st3r_ros.slam.tracking.stream import FrameStream, LensCorrection, MapStage, StreamCamera
from st3r_ros.slam.tracking.tracker import Tracked
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Features, Frame, FramePose, Keyframe, MappingState, MappingUpdate, PairModel

PROTECTED_KEYFRAMES = 3
MAX_PASSED_LIVE = 10
TIME_JUMP_S = 1.0
"""Stamps that go back by more are of another run of the recording, or of a clock that was set."""
CAMERA_CHECKS, CAMERA_CHECK_FRAMES = 6, 5
"""How often, and every how many images, the calibration of images that are found in a loaded map is compared with it."""
LOOKING = "Lost: searching for a known place."
NO_MAP = "There is no map to find the camera in; load one."


class Mapper:
    """Builds a `KeyframeMap` from frames, with any pair model. Not thread-safe: one thread calls it.

    executor: runs what takes time: what a new keyframe shows beyond the tracking, the optimization of the newest ones, and that
    of the whole map after a loop. None runs it within `register_frame`, for repeatable runs.
    relocalizer: when a lost camera is accepted as found.
    """

    def __init__(
        self,
        model: PairModel,
        config: MapperConfig | None = None,
        executor: Executor | None = None,
        relocalizer: RelocalizerConfig | None = None,
    ) -> None:
        self._config = config or MapperConfig()
        self._model = model
        self._executor = executor
        self._relocalizer = Relocalizer(model, relocalizer)
        self._guess: SE3 | None = None
        self._second_start: Initialization | None = None
        self._lens = LensCorrection()
        self._unchecked = 0
        self.reset()

    def register_frame(self, frame: Frame) -> MappingUpdate:
        """Places one frame, extends and corrects the map.

        Raises, changing nothing:
            FrameError: the frame cannot be used.
            MapFileError: its image has not the shape of those of the loaded map.
        """
        step = MappingStep()
        self._admit(frame, step)
        frame = self._calibrated(frame, step)
        looks = self.state is not MappingState.LOST or self._frontend.time_to_look(frame)
        if not looks:
            step.message = LOOKING
            if not self._may_start_again(frame):
                return step.update(frame, self.state, self.map)
        frame = self._lens.undistorted(frame)
        step.lap("undistort")
        features = self._encoded(frame)
        step.lap("encode")

        self._catch_up(step)
        if self.state in (MappingState.WAITING, MappingState.INITIALIZING):
            self._start(frame, features, step)
        elif self.state is MappingState.LOST:
            found = looks and self._relocalize(frame, features, step)
            if not found and self._may_start_again(frame):
                self._start_again(frame, features, step)
        else:
            self._track(frame, features, step)
        self._check_camera(frame, features, step)
        self._correct_scale(step)
        return step.update(frame, self.state, self.map)

    def _calibrated(self, frame: Frame, step: MappingStep) -> Frame:
        """The frame with the calibration to use."""
        settled = self._loaded or len(self.map.keyframes) > TINY_MAP_KEYFRAMES
        starting = self.state is MappingState.INITIALIZING
        ruling = self._camera.rule(frame, MapStage(starting, self.has_begun, settled, self.frozen))
        if ruling.begin_again:
            self._use(KeyframeMap())
        step.note = ruling.note or step.note
        return ruling.frame

    def _check_camera(self, frame: Frame, features: Any, step: MappingStep) -> None:
        """Compares the calibration with a loaded map, over the first images that are found in it; says when it does not fit."""
        if self._unchecked == 0 or step.tracked is None or not features.K_known:
            return
        self._unchecked -= 1
        if self._unchecked % CAMERA_CHECK_FRAMES == 0 and self._relocalizer.doubt is None:
            self._relocalizer.find(features, self.map.T_world_cam(len(self.map.frames) - 1))
        if self._relocalizer.doubt is not None:
            of_map = " It is that of the map: give the images their own." if self._camera.lent else ""
            step.note, self._unchecked = self._relocalizer.doubt.sentence(frame.camera) + of_map, 0

    def _start(self, frame: Frame, features: Any, step: MappingStep) -> None:
        """Frames until the first keyframe has depth."""
        self.state = MappingState.INITIALIZING
        start = self._initialization.register(frame, features)
        step.lap("initialize")
        if start.first is None:
            step.message = "Waiting for the camera to move sideways."
            return
        self._begin_map(start, start.first, frame, features, step)

    def _start_again(self, frame: Frame, features: Any, step: MappingStep) -> None:
        """A second start beside a map that has barely begun and lost the camera; its map replaces that one when it has depth."""
        if self._second_start is None:
            workspace = Workspace.of(self._model, KeyframeMap(), self._config)
            self._second_start = self._initialization_of(workspace)
        start = self._second_start.register(frame, features)
        step.lap("initialize")
        if start.first is None:
            return
        dropped, second = len(self.map.frames), self._second_start
        self._enter(second.workspace, second)
        self._begin_map(start, start.first, frame, features, step)
        step.message = f"The camera was lost right after the start: the map begins again; its first {dropped} frames are dropped."

    def _begin_map(self, start: Start, first: Keyframe, frame: Frame, features: Any, step: MappingStep) -> None:
        """Tracks from the first keyframe on, which has depth now."""
        self._frontend.enter(first)
        self.state = MappingState.TRACKING
        step.changed.add(first.id)
        step.message = "The map has begun."
        if start.lost:
            self._lose(step)
        elif start.tracked is not None:
            self._accept(frame, features, start.tracked, step)
            self._promote(frame, features, start.tracked, step)

    def _track(self, frame: Frame, features: Any, step: MappingStep) -> None:
        """Against the current keyframe; where that shows too little of the view, against another one of the map, or a new one."""
        tracked = self._follow(frame, features, step)
        if tracked is None and self._frontend.previous is not None and self._has_room(step):
            # A sudden move: the last frame is nearer to this one than the keyframe is. Make it the keyframe and try again.
            self._promote(*self._frontend.previous, step)
            tracked = self._follow(frame, features, step)
        step.lap("track")
        if tracked is None:
            self._lose(step)
            return
        changed = self._frontend.view_has_changed(tracked)
        known_place = self._frontend.switch(features, tracked) if changed else None
        if known_place is not None:
            tracked, changed = known_place, self._frontend.view_has_changed(known_place)
        step.lap("switch")
        self._accept(frame, features, tracked, step)
        if changed and self._has_room(step):
            self._promote(frame, features, tracked, step)

    def _follow(self, frame: Frame, features: Any, step: MappingStep) -> Tracked | None:
        """Against the current keyframe; where that fails, once more when its depth is known."""
        tracked = self._frontend.follow(frame, features)
        if tracked is None and self._local.surveying:
            self._catch_up(step, wait=True)
            tracked = self._frontend.follow(frame, features)
        return tracked

    def _accept(self, frame: Frame, features: Any, tracked: Tracked, step: MappingStep) -> None:
        """Records the pose of the frame and fuses it into the keyframe."""
        keyframe = self._frontend.keyframe
        assert keyframe is not None
        continuous = self.state is not MappingState.LOST
        self.state = MappingState.TRACKING
        self._frontend.accept(frame, features, tracked)
        seen = None if self.frozen else self._tracker.sighting(keyframe, features.K, tracked)
        self.map.add_frame(FramePose(frame.id, frame.stamp_ns, keyframe.id, tracked.result.T_kf_cam), seen)
        if not self.frozen:
            units = self._tracker.fuse(keyframe, tracked)
            if units is not None and self._model.traits.metric:
                self._scale.observe_prediction(keyframe.id, units)
        if frame.T_odom_cam is not None:
            self._compare_odometry(frame.T_odom_cam, step, continuous=continuous)
        step.tracked = tracked
        step.lap("fuse")

    def _compare_odometry(self, T_odom_cam: SE3, step: MappingStep, *, continuous: bool) -> None:
        """Takes the scale from odometry, as far as it does not contradict the camera."""
        believed = self._odometry.judge(self.map, T_odom_cam, continuous=continuous)
        if self._odometry.jumped:
            step.note = f"Odometry has jumped: {self._odometry.jumped}."
        if self._odometry.jumped or not continuous:
            self._odometry_way.break_off()
        if believed:
            self._odometry_way.observe(self.map, T_odom_cam)
        if self._odometry.jumped or self._odometry_way.doubt:
            self._scale.break_off_odometry()
        if believed and not self._odometry_way.doubt:
            self._scale.observe_odometry(self.map, T_odom_cam)
        step.odometry_fault = self._odometry.fault or self._scale.odometry_fault
        step.odometry_doubt = "" if step.odometry_fault else self._odometry_way.doubt
        step.T_odom_cam = None if step.odometry_fault else T_odom_cam

    def _promote(self, frame: Frame, features: Any, tracked: Tracked, step: MappingStep) -> None:
        """Makes the newest tracked frame a keyframe."""
        assert self._frontend.keyframe is not None
        previous = self._frontend.keyframe
        keyframe = self._builder.add_keyframe(frame, features, previous, tracked)
        self.map.promote_last_frame(FramePose(frame.id, frame.stamp_ns, keyframe.id, Sim3.identity()))
        self._frontend.enter(keyframe)
        step.new_keyframe = keyframe.id
        step.changed.add(keyframe.id)
        self._local.begin(keyframe, previous, tracked)
        step.lap("keyframe")
        self._catch_up(step)

    def _catch_up(self, step: MappingStep, *, wait: bool = False) -> None:
        """Applies what was found out about the map since the last frame. wait: for what the newest keyframe shows."""
        while (found := self._local.apply(wait=wait and self._local.surveying)) is not None:
            self._take(found, step)
            self._correct(step)
        self._correct(step)

    def _take(self, found: LocallyMapped | None, step: MappingStep) -> None:
        if found is None:
            return
        if found.completed is not None:
            step.completed.append(found.completed.id)
        step.changed |= {*step.completed, *found.moved}
        self.map.loops_rejected += found.loops_rejected
        self._optimizer.close(list(found.loops))
        step.lap("optimize")

    def _correct(self, step: MappingStep, *, wait: bool = False) -> None:
        """Applies the result of the optimization of the whole map, completely between two frames."""
        correction = None if self._local.surveying else self._optimizer.step(wait=wait)
        if correction is None:
            return
        self.map.loops_rejected += len(correction.rejected)
        step.changed |= set(correction.moved)
        if correction.accepted:
            newest = correction.accepted[-1]
            step.message = f"Closed a loop: keyframe {newest.i} shows the same place as keyframe {newest.j}."
        step.lap("global")

    def _correct_scale(self, step: MappingStep) -> None:
        """Rescales the map when its metric scale has changed: one event for poses, clouds and status."""
        change = None if self.frozen or self._local.surveying else self._scale.update(self.map)
        if change is not None:
            step.changed |= set(self.map.keyframes)
            step.rescaled, step.message = change.factor, f"{step.message} {change.message}".lstrip()

    def _has_room(self, step: MappingStep) -> bool:
        """Whether the map can take another keyframe; drops redundant ones if full."""
        if self.frozen or self._frontend.keyframe is None:
            return False
        self._catch_up(step, wait=True)
        protected = {self._frontend.keyframe.id, *list(self.map.keyframes)[-PROTECTED_KEYFRAMES:]}
        has_room = self._culler.make_room(protected)
        step.changed |= self._culler.take_dropped()
        if not has_room:
            step.message = (
                f"The map is full with {len(self.map.keyframes)} keyframes and none is redundant; raise max_keyframes or "
                "memory_budget_mb to map further."
            )
        return has_room

    def _lose(self, step: MappingStep) -> None:
        self.state = MappingState.LOST
        self._frontend.forget_motion()
        step.message = "Lost: too few of the last keyframe's points are seen. Point the camera back to where it was."

    def _relocalize(self, frame: Frame, features: Any, step: MappingStep) -> bool:
        """Looks for the camera in the whole map; whether it was found."""
        if not self.map.keyframes:
            step.message = NO_MAP
            return False
        tracked, reason = self._frontend.find(features, self._guess)
        step.lap("relocalize")
        if tracked is None:
            step.message = f"{LOOKING} {reason}"
            return False
        self._accept(frame, features, tracked, step)
        self.state, self._guess, self._second_start = MappingState.RELOCALIZED, None, None
        step.message = reason
        return True

    def _may_start_again(self, frame: Frame) -> bool:
        lost = self.state is MappingState.LOST and not self._loaded
        return lost and has_barely_begun(self.map, frame.stamp_ns, self._model)

    # Around the algorithm -------------------------------------------------------------------------------------------

    @property
    def config(self) -> MapperConfig:
        """The settings; `configure` replaces them."""
        return self._config

    def configure(self, config: MapperConfig, relocalizer: RelocalizerConfig) -> None:
        """Uses other settings from the next frame on. relocalizer: when a lost camera is accepted as found."""
        self._config = self._tracker.config = config
        self._relocalizer.config = relocalizer

    @property
    def has_begun(self) -> bool:
        """Whether the map has frames of this run, and with them one kind of camera."""
        return not self.frozen and len(self.map.frames) > self._loaded_frames

    @property
    def frozen(self) -> bool:
        """Whether the map is frozen."""
        return self._workspace.frozen

    def reset(self) -> None:
        """Clears the map."""
        self._stream, self._camera = FrameStream(), StreamCamera()
        self._images = FittedImages(self._model)
        self._use(KeyframeMap())

    def load(self, keyframe_map: KeyframeMap, *, frozen: bool = False) -> None:
        """Continues a saved map: the camera is localized in it. frozen: only localizes, without changing the map."""
        self._stream, self._camera = FrameStream(), StreamCamera(keyframe_map)
        self._images = FittedImages(self._model, keyframe_map)
        self._use(keyframe_map, frozen=frozen)
        self._loaded, self._loaded_frames, self.state = True, len(keyframe_map.frames), MappingState.LOST
        self._unchecked = CAMERA_CHECKS * CAMERA_CHECK_FRAMES

    def catch_up(self, *, wait: bool = False) -> MappingStep:
        """Applies what other threads have found out about the map since the last frame; returns what has changed by that.

        For when no frame comes: the next one begins with it. wait: until nothing is left to find out, as at the end of a run.
        """
        step = MappingStep()
        self._catch_up(step)
        while wait and (self._local.busy or self._optimizer.busy):
            self._take(self._local.apply(wait=True), step)
            self._correct(step, wait=True)
        return step

    def refine(self, notify: Callable[[str], None] = lambda sentence: None) -> BundleReport | None:
        """Adjusts the whole map at the end of a run: keyframes, frames and points together. None where nothing is to be adjusted.

        Not for a frozen map, nor for a model that sees depth in one image: its pointmaps hold the map better than its matches.
        notify: is told what is done, in sentences.
        """
        self.catch_up(wait=True)
        if self.frozen or self._model.traits.monocular_depth or len(self.map.keyframes) < 2:
            return None
        report = adjust_map(self.map, notify)
        for keyframe in self.map.keyframes.values() if report is not None else ():
            self._workspace.places.update(keyframe)
        return report

    def expect(self, T_world_cam: SE3) -> bool:
        """Searches for the camera around an approximate pose first. False without a map."""
        if self.state in (MappingState.WAITING, MappingState.INITIALIZING) or not self.map.keyframes:
            return False
        self._frontend.forget_motion()
        self._guess, self.state = T_world_cam, MappingState.LOST
        return True

    def _admit(self, frame: Frame, step: MappingStep) -> None:
        """Checks the frame. A map made of a few odd frames begins again when others follow that share another size."""
        if self._loaded or not self._stream.began_wrongly(frame):
            self._stream.admit(frame)
            return
        anew, odd = FrameStream(), self._stream.size
        anew.admit(frame)
        self.reset()
        self._stream = anew
        step.note = f"The images are no longer {odd}: the map begins again with the new size."

    def _encoded(self, frame: Frame) -> Features:
        try:
            return self._images.encoded(frame)
        except MapFileError:
            self._stream = FrameStream()  # the next image may have another size
            raise

    def notice_time_jump(self, frame: Frame) -> str:
        """Resets the tracking before a frame whose stamp lies far back, and says so; "" where it does not."""
        back_s = self._stream.seconds_back(frame)
        if back_s <= TIME_JUMP_S:
            return ""
        self.reset_tracking()
        return f"Time went back by {back_s:.1f} s: tracking starts again."

    def reset_tracking(self) -> None:
        """Keeps the map and resets the motion: stamps may restart, the next frames search for known places."""
        self._stream.forget_time()
        self._frontend.forget_motion()
        if self.state in (MappingState.TRACKING, MappingState.RELOCALIZED):
            self.state = MappingState.LOST
        elif self.state is MappingState.INITIALIZING:
            self._use(KeyframeMap())

    def _use(self, keyframe_map: KeyframeMap, *, frozen: bool = False) -> None:
        """Works on a map from now on."""
        workspace = Workspace.of(self._model, keyframe_map, self._config, frozen=frozen)
        self._enter(workspace, self._initialization_of(workspace))

    def _initialization_of(self, workspace: Workspace) -> Initialization:
        """Live, there is no time to place many frames from before the start."""
        return Initialization(workspace, MapBuilder(workspace), MAX_PASSED if self._executor is None else MAX_PASSED_LIVE)

    def _enter(self, workspace: Workspace, initialization: Initialization) -> None:
        """Builds everything around the map of a workspace."""
        self.map = workspace.map
        self.state = MappingState.WAITING
        self._loaded, self._loaded_frames, self._guess = False, 0, None
        self._unchecked = 0
        self._second_start = None
        self._workspace, self._tracker = workspace, workspace.tracker
        self._relocalizer.search(workspace)
        self._initialization, self._builder = initialization, initialization.builder
        self._frontend = Frontend(workspace, self._relocalizer)
        self._local = LocalMapping(self._builder, self._executor)
        self._optimizer = GlobalOptimizer(workspace.map, self._model.traits.relative_depth_sigma, self._executor)
        self._culler = Culler(workspace, self._builder)
        self._odometry, self._odometry_way = OdometryCheck(), OdometryWay()
        self._scale = ScaleEstimator(self._config.known_baseline)
