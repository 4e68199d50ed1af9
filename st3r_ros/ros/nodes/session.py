# SPDX-License-Identifier: Apache-2.0
"""A mapping run in the node: maps image messages and publishes the results. Everything here runs on the worker thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.impl.rcutils_logger import RcutilsLogger

from st3r_ros.config import MappingSettings
from st3r_ros.errors import OutputError, St3rError
from st3r_ros.geometry.leveling import level_by_odometry, tilt_deg
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.picture import ToneRange
from st3r_ros.mapping_run import MappingRun
from st3r_ros.results import RunInfo, write_results
from st3r_ros.ros.input.image_input import ImageInput
from st3r_ros.ros.input.mask_input import MaskInput
from st3r_ros.ros.nodes.map_files import MapFiles
from st3r_ros.ros.nodes.queries import expected_pose
from st3r_ros.ros.nodes.situation import TRACKED, Situation
from st3r_ros.ros.outputs.mapping_outputs import MappingOutputs
from st3r_ros.ros.tf.transforms import MapAnchor, View
from st3r_ros.types import Frame, MappingState, MappingUpdate

REPEAT_S = 5.0
"""Seconds after which the log repeats what an initializing or lost camera waits for."""
MAX_TILT_DEG = 60.0
"""Degrees; no robot starts tilted more."""
_SAY_AGAIN_S = 10.0


class MappingSession:
    """Makes frames of image messages for a `MappingRun`, and publishes what happened to them.

    info: of the run, for its results. settings: `configure` replaces them. masks: of the images; None while the node does not
    listen. stamp_ns: of the newest image that was mapped, 0 before.
    odometry_fault: why the newest odometry is not used, "" if it is, or without one. odometry_doubt: how odometry that is used
    contradicts the camera. odometry_refused: images whose odometry was not used.
    changed: called after an image that has changed the state of the mapper or what gives the map its scale.
    """

    def __init__(
        self,
        run: MappingRun,
        files: MapFiles,
        outputs: MappingOutputs,
        info: RunInfo,
        settings: MappingSettings,
        logger: RcutilsLogger,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.run, self.mapper, self.info, self.settings = run, run.mapper, info, settings
        self.masks: MaskInput | None = None
        self.outputs, self._files, self._logger, self._changed = outputs, files, logger, changed
        self._begin(info.map)

    def _begin(self, folder: str) -> None:
        """Begins anew, together with the run. folder: of the map that it continues, "" for none."""
        self.info = replace(self.info, map=folder, first_keyframe=self.run.first_keyframe)
        self._situation = Situation()
        self._told, self._told_state, self._told_s = "", MappingState.WAITING, -math.inf
        self.stamp_ns = 0
        self._tones = ToneRange()
        self._expected: PoseWithCovarianceStamped | None = None
        self._camera_assumed = False
        self.odometry_fault = self.odometry_doubt = ""
        self.odometry_refused = 0
        self.outputs.begin_anew()

    def configure(self, settings: MappingSettings) -> None:
        """Uses other settings from the next image on."""
        self.settings = settings
        self.mapper.configure(settings.mapper, settings.relocalizer)
        self.outputs.configure(settings)

    def message(self, state: MappingState) -> str:
        """One sentence about a state, which is the mapper's unless that has just changed."""
        return self._situation.text(state)

    def say(self, condition: str) -> None:
        """How things are until the next image or another state; "" for as the state says."""
        self._situation.set_condition(self.mapper.state, condition)

    # The map --------------------------------------------------------------------------------------------------------

    def reset(self) -> str:
        """Clears the map, except in localization mode, and all counts; publishes the empty map."""
        self.run.reset()
        if self.mapper.frozen:
            done, folder = "The map is kept; localizing the camera in it again.", self.info.map
        else:
            done, folder = "The map is empty; the next image starts a new one.", ""
        self._begin(folder)
        self.say(done)
        return done

    def load_map(self, folder: str) -> str:
        """Replaces the current map by a saved one; returns a message.

        Raises:
            St3rError: it cannot be loaded; the current map is kept.
        """
        done = self._files.load(folder)
        self._begin(self._files.folder)
        self.say(done)
        return done

    def save_map(self, folder: str) -> str:
        """Saves the map; returns a message.

        Raises:
            St3rError: nothing was saved.
        """
        self.catch_up(wait=True)
        return self._files.save(folder)

    def save_at_end(self) -> None:
        """Saves the map in its folder, if it has one; logs the outcome."""
        if not self.mapper.map.frames:
            self._logger.info("The map is not saved: it is empty.")
            return
        try:
            self._logger.info(self.save_map(""))
        except St3rError as error:
            self._logger.error(str(error))

    def export_map(self, kind: str, path: str) -> str:
        """Exports the map for other programs; returns a message.

        Raises:
            St3rError: nothing was written.
        """
        self.catch_up(wait=True)
        return self._files.export(kind, path, self.settings.cloud, self.outputs.whole_cloud)

    def expect(self, pose: PoseWithCovarianceStamped) -> None:
        """Searches for the camera around an approximate pose of the robot first, with the next image, which has its camera."""
        self._expected = pose

    # Images ---------------------------------------------------------------------------------------------------------

    def process(self, item: ImageInput) -> None:
        """Maps one image and publishes the result; unusable images are counted with their reason."""
        outcome = self.run.register_next(lambda number: self._prepared(item, number), self.info.input)
        if outcome.time_jump:
            self._logger.warning(outcome.time_jump)
            self.outputs.forget_odometry()
        if outcome.frame is None or outcome.update is None:
            self._tell_of_skipped(outcome.reason)
        else:
            self._publish(outcome.frame, outcome.update, item)
        if outcome.changed:
            self._changed()

    def _publish(self, frame: Frame, update: MappingUpdate, item: ImageInput) -> None:
        self.stamp_ns = frame.stamp_ns
        self._tell(update)
        view = View(self._anchored(frame, item.anchor), frame.stamp_ns, item.parent is not None, item.time)
        self.outputs.publish(update, view)

    def _prepared(self, item: ImageInput, number: int) -> Frame:
        """The frame of an image, and the mapper ready for it.

        Raises:
            FrameError: the image cannot be used.
        """
        frame = self._frame(number, item)
        self._notice_camera(item.anchor)
        self._look_where_expected(item.anchor)
        return frame

    def _tell(self, update: MappingUpdate) -> None:
        """Reports the events of an image to the status and the log."""
        self._tell_of_odometry(update.odometry_fault, update.odometry_doubt)
        if update.state in TRACKED and update.message:
            self._situation.set_event(update.message)
        else:
            self.say(update.message)
        now, tracked = time.monotonic(), update.state in TRACKED
        is_new = update.message != self._told if tracked else update.state is not self._told_state
        if update.message and (update.note or is_new or (not tracked and now - self._told_s > REPEAT_S)):
            self._logger.info(update.message)
            self._told_s = now
        self._told, self._told_state = update.message, update.state

    @property
    def odometry_complaint(self) -> str:
        """One sentence about what is wrong with odometry, "" for nothing."""
        if self.odometry_fault:
            return f"Odometry is not used: {self.odometry_fault}."
        return f"Odometry contradicts the camera: {self.odometry_doubt}." if self.odometry_doubt else ""

    def _tell_of_odometry(self, fault: str, doubt: str) -> None:
        if fault:
            self.odometry_refused += 1
        elif self.odometry_fault:
            self._logger.info("Odometry is used again.", throttle_duration_sec=_SAY_AGAIN_S)
        self.odometry_fault, self.odometry_doubt = fault, doubt
        if fault or doubt:
            self._logger.warning(self.odometry_complaint, throttle_duration_sec=_SAY_AGAIN_S)

    def _tell_of_skipped(self, reason: str) -> None:
        said = f"Skipped an image: {reason}"
        self.say(said)
        self._logger.warning(said, throttle_duration_sec=5.0)

    def idle(self) -> None:
        """Publishes changes while no image waits."""
        self.catch_up()
        self.outputs.poll(idle=True)

    def catch_up(self, *, wait: bool = False) -> None:
        """Applies and publishes what other threads have found out about the map. wait: until nothing is left to find out."""
        step = self.mapper.catch_up(wait=wait)
        if step.changed:
            self.outputs.follow(step.completed)

    def spare(self) -> bool:
        """Continues building messages between two images; whether there is more to do."""
        return self.outputs.go_on()

    def finish(self, output_dir: str) -> None:
        """Publishes the last state of the map and writes the results, if a folder is given and frames were mapped."""
        self.catch_up(wait=True)
        if not output_dir or not self.run.recorder.frames:
            self.outputs.flush()
            return
        self._logger.info(f"Writing the results to {output_dir}.")
        config, cloud = self.settings.cloud, self.outputs.finish()
        try:
            summary = write_results(
                Path(output_dir), self.mapper.map, self.run.recorder, self.info, cloud_config=config, cloud=cloud
            )
        except OutputError as error:
            self._logger.error(str(error))
            return
        self._logger.info(f"Wrote {output_dir}: {summary.tracked} of {summary.frames} frames tracked, {summary.points} points.")

    def _frame(self, index: int, item: ImageInput) -> Frame:
        picture, stamp_ns = item.picture(), item.stamp_ns
        image, mask = self._tones.to_rgb(picture), picture.usable
        more = self.masks.of(stamp_ns, image.shape[1], image.shape[0]) if self.masks is not None else None
        if more is not None:
            mask = more if mask is None else mask & more
        T_odom_cam = None
        if item.odometry is not None:
            T_odom_frame = item.odometry.pose(item.anchor.frame_id, stamp_ns)
            T_odom_cam = T_odom_frame @ item.anchor.T_frame_cam if T_odom_frame is not None else None
        return Frame(index, stamp_ns, image, item.camera, T_odom_cam, source=self.info.input, mask=mask)

    def _anchored(self, frame: Frame, anchor: MapAnchor) -> MapAnchor:
        """Fixes the pose of the map in TF, levelled by odometry, with the first frame of the map."""
        keyframe_map = self.mapper.map
        if keyframe_map.T_map_world is None and keyframe_map.keyframes:
            begins = next(iter(keyframe_map.keyframes.values())).frame_id == frame.id
            T_odom_cam = frame.T_odom_cam if begins else None
            keyframe_map.T_map_world = anchor.T_map_world
            if T_odom_cam is not None and self._is_level(anchor, T_odom_cam):
                keyframe_map.T_map_world = level_by_odometry(anchor.T_map_world, T_odom_cam)
        return anchor.of(keyframe_map)

    def _is_level(self, anchor: MapAnchor, T_odom_cam: SE3) -> bool:
        """Whether odometry can tell which way is up; warns where a robot would start tilted more than robots do."""
        tilt = tilt_deg(anchor.T_map_world, T_odom_cam)
        if anchor.frame_id == anchor.image_frame or tilt <= MAX_TILT_DEG:
            return True
        self._logger.warning(
            f"Odometry has {anchor.frame_id} tilted by {tilt:.0f} degrees at the start, so the map is not levelled by it. "
            f"Does the z axis of {self.settings.node.odom_frame} point up (REP-103)?"
        )
        return False

    def _look_where_expected(self, anchor: MapAnchor) -> None:
        """Passes on the pose given to `expect`."""
        pose, self._expected = self._expected, None
        if pose is None:
            return
        try:
            T_map_frame = expected_pose(pose, anchor, self.settings.node.map_frame)
        except St3rError as error:
            self._logger.warning(str(error))
            return
        known = self.mapper.expect(anchor.of(self.mapper.map).T_map_world.inverse() @ T_map_frame @ anchor.T_frame_cam)
        self.outputs.forget_odometry()
        self._logger.info(
            "Searching for the camera around the pose on initialpose."
            if known
            else "initialpose is ignored: there is no map yet."
        )

    def _notice_camera(self, anchor: MapAnchor) -> None:
        """TF tells late where the camera is: a start begins again with it."""
        if self._camera_assumed and not anchor.is_assumed and self.mapper.state is MappingState.INITIALIZING:
            self.mapper.reset_tracking()
        self._camera_assumed = anchor.is_assumed
