# SPDX-License-Identifier: Apache-2.0
"""A mapping run inside the node: image messages in, map and messages out. Everything here runs on the worker thread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rclpy.impl.rcutils_logger import RcutilsLogger

from st3r_ros.errors import FrameError, OutputError
from st3r_ros.geometry.se3 import SE3
from st3r_ros.recorder import RunRecorder
from st3r_ros.results import RunInfo, write_results
from st3r_ros.ros.conversions import image_from_message, stamp_to_ns
from st3r_ros.ros.image_input import ImageInput
from st3r_ros.ros.outputs import MappingOutputs, View
from st3r_ros.ros.transforms import MapAnchor
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame

TIME_JUMP_NS = 1_000_000_000
"""A stamp that is this much earlier than the last one means that time has begun again (a looping recording)."""


class MappingSession:
    """Feeds a `Mapper`, records what happened, publishes. `message` is the last noteworthy event, for the status."""

    def __init__(self, mapper: Mapper, outputs: MappingOutputs, info: RunInfo, logger: RcutilsLogger) -> None:
        self.mapper, self.info = mapper, info
        self._outputs, self._logger = outputs, logger
        self._begin()

    def _begin(self) -> None:
        self.recorder = RunRecorder()
        self.message = ""
        self.stamp_ns = 0
        self._images = 0
        self._T_map_world: SE3 | None = None

    def reset(self) -> None:
        """Forget the map and all counts; subscribers get the empty map."""
        self.mapper.reset()
        self._begin()
        self._outputs.forget_odometry()
        self._outputs.mark_changed()
        self._outputs.flush()

    def process(self, item: ImageInput) -> None:
        """Map one image and publish the result; an image that cannot be used is counted, with the reason."""
        if self._images == 0:
            self.recorder = RunRecorder()  # its time counts from the first image
        index, self._images = self._images, self._images + 1
        try:
            frame = self._frame(index, item)
            self._notice_time_jump(frame)
            update = self.mapper.register_frame(frame)
        except FrameError as error:
            self._skip(index, str(error))
            return
        except Exception as error:
            self.recorder.skip(index, self.info.input, f"internal error: {error!r}")
            raise
        self.stamp_ns = frame.stamp_ns
        self.recorder.record(update)
        if update.message:
            self.message = update.message
            self._logger.info(update.message)
        view = View(self._anchored(frame, item.anchor), item.message.header.frame_id, frame.T_odom_cam, item.parent is not None)
        self._outputs.publish(update, view)

    def _skip(self, index: int, reason: str) -> None:
        """Count an image that cannot be used."""
        self.recorder.skip(index, self.info.input, reason)
        self.message = f"Skipped an image: {reason}"
        self._logger.warning(self.message, throttle_duration_sec=5.0)

    def idle(self) -> None:
        """Publish what has changed while no image waits."""
        self._outputs.poll(idle=True)

    def finish(self, output_dir: str) -> None:
        """Publish the last state of the map and write the results, when a folder is given and there are any."""
        self._outputs.flush()
        if not output_dir or not self.recorder.frames:
            return
        try:
            summary = write_results(Path(output_dir), self.mapper.map, self.recorder, self.info, cloud_config=self._outputs.cloud)
        except OutputError as error:
            self._logger.error(str(error))
            return
        self._logger.info(f"Wrote {output_dir}: {summary.tracked} of {summary.frames} frames tracked, {summary.points} points.")

    def _frame(self, index: int, item: ImageInput) -> Frame:
        if item.error is not None:
            raise FrameError(str(item.error))
        stamp_ns, image = stamp_to_ns(item.message.header.stamp), image_from_message(item.message)
        T_odom_cam = None
        if item.odometry is not None:
            T_odom_frame = item.odometry.pose(item.anchor.frame_id, stamp_ns)
            T_odom_cam = T_odom_frame @ item.anchor.T_frame_cam if T_odom_frame is not None else None
        return Frame(index, stamp_ns, image, item.camera, T_odom_cam)

    def _anchored(self, frame: Frame, anchor: MapAnchor) -> MapAnchor:
        """Where the map is in TF: settled, and levelled by odometry, with the frame that the map begins with."""
        keyframes = self.mapper.map.keyframes
        begins = len(keyframes) == 1 and next(iter(keyframes.values())).frame_id == frame.id
        if begins or self._T_map_world is None:
            self._T_map_world = anchor.T_map_world if frame.T_odom_cam is None else anchor.levelled(frame.T_odom_cam).T_map_world
        return replace(anchor, T_map_world=self._T_map_world)

    def _notice_time_jump(self, frame: Frame) -> None:
        if frame.stamp_ns < self.stamp_ns - TIME_JUMP_NS:
            self.message = f"Time went back by {(self.stamp_ns - frame.stamp_ns) * 1e-9:.1f} s: tracking starts again."
            self._logger.warning(self.message)
            self.mapper.reset_tracking()
            self._outputs.forget_odometry()
