# SPDX-License-Identifier: Apache-2.0
"""Node `st3r_mapping`: builds a map from images. A lifecycle node with one executor thread and one worker thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from std_srvs.srv import Trigger

from st3r_ros.config import NODE_SETTINGS, MappingSettings, Validated
from st3r_ros.errors import ConfigError, St3rError
from st3r_ros.mapping_run import MappingRun
from st3r_ros.msg import MappingStatus
from st3r_ros.results import RunInfo, check_output_folder
from st3r_ros.ros.clocks import steady_timer
from st3r_ros.ros.input.image_input import ImageCounts, ImageSource
from st3r_ros.ros.input.mask_input import MaskInput, read_mask
from st3r_ros.ros.input.topics import message_type
from st3r_ros.ros.nodes import parameters
from st3r_ros.ros.nodes.managed_node import ManagedNode
from st3r_ros.ros.nodes.map_files import MapFiles
from st3r_ros.ros.nodes.process import Stop, run
from st3r_ros.ros.nodes.session import MappingSession
from st3r_ros.ros.nodes.situation import PAUSED
from st3r_ros.ros.nodes.worker import Worker
from st3r_ros.ros.outputs.diagnostics import InputHealth
from st3r_ros.ros.outputs.mapping_outputs import MappingOutputs
from st3r_ros.ros.outputs.status import memory_health, processing_health, status_message, tracking_health
from st3r_ros.ros.qos import OVERRIDABLE, latched
from st3r_ros.runtime import background_threads
from st3r_ros.slam.mapper import NO_MAP, Mapper
from st3r_ros.srv import ExportMap, LoadMap, SaveMap


class MappingNode(ManagedNode):
    """Configured, it has a `session` (pair model, map) and `counts` of images. Active, it has their `source`, and publishes."""

    def __init__(self, stop: Stop) -> None:
        self.session: MappingSession | None = None
        self.source: ImageSource | None = None
        self._optimizer: ThreadPoolExecutor | None = None
        super().__init__("st3r_mapping", stop, NODE_SETTINGS["mapping"])
        self._offer(Trigger, "reset", self._on_reset)
        self._offer(Trigger, "pause", self._on_pause)
        self._offer(Trigger, "resume", self._on_resume)
        self._offer(LoadMap, "load_map", self._on_load_map)
        self._offer(SaveMap, "save_map", self._on_save_map)
        self._offer(ExportMap, "export_map", self._on_export_map)

    # Lifecycle ------------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        settings = self._settings = parameters.read_settings(self, MappingSettings)
        config = settings.node
        message_type(config.image_transport)  # raises when its messages are not installed
        if config.save_on_shutdown and not config.map_path:
            raise ConfigError("save_on_shutdown is true, but map_path is empty; give the folder to save the map in.")
        if config.output_dir:
            check_output_folder(Path(config.output_dir))
        self._static_mask = read_mask(config.mask_file)
        model = self._load_pair_model(config.pair_model, config.checkpoint)
        self._optimizer = background_threads()
        mapper = Mapper(model, settings.mapper, self._optimizer, settings.relocalizer)
        mapping = MappingRun(mapper, unusable=(St3rError,))
        files = MapFiles(mapping, model, config)
        begun = files.begin(may_be_new=config.save_on_shutdown)
        if begun:
            self.get_logger().info(begun)
        self.counts = ImageCounts()
        self._input_health = InputHealth()
        outputs = MappingOutputs(self, mapper, settings)
        loaded = mapper.map.keyframes
        self._uncalibrated = "" if any(keyframe.K_known for keyframe in loaded.values()) else model.traits.uncalibrated
        continued = config.map_path if loaded else ""
        info = RunInfo(self.resolve_topic_name("image"), model.name, continued)
        session = MappingSession(mapping, files, outputs, info, settings, self.get_logger(), changed=self._publish_status)
        self.session = session
        session.say(begun or (NO_MAP if mapper.frozen else ""))
        self._status = self.create_lifecycle_publisher(MappingStatus, "~/status", latched(), qos_overriding_options=OVERRIDABLE)
        steady_timer(self, config.status_period, self._publish_status)
        self._worker = Worker(session.process, idle=session.idle, spare=session.spare, report=self._report, name="mapping")
        self.worker.start()
        self._warm_up(model)

    def _listen(self) -> None:
        assert self.session is not None
        owns_transform, mapper = self.session.outputs.owns_transform, self.session.mapper
        self.source = ImageSource(
            self,
            self._settings.node,
            self.counts,
            lambda item: self.worker.submit(item, surely=item.waited),
            owns_transform,
            map_begun=lambda: mapper.has_begun,
            without_calibration=self._uncalibrated,
        )
        self._masks = self.session.masks = MaskInput(self, self._static_mask)
        self._initialpose = self.create_subscription(PoseWithCovarianceStamped, "initialpose", self._on_initialpose, 1)
        self.get_logger().info(f"Subscribed to {self.source.topic} and {self.source.info_topic}.")

    def _finish(self) -> None:
        if self.source is None or self.session is None:
            return
        self.source.close()
        self._masks.close()
        self.source = None
        self.destroy_subscription(self._initialpose)
        session, folder = self.session, self._settings.node.output_dir
        self.counts.dropped += self.worker.discard()
        self.worker.run(lambda: session.finish(folder)).result()
        self._publish_status()

    def _save(self) -> None:
        if self.session is not None and self._settings.node.save_on_shutdown and self._settings.node.mode == "mapping":
            self.worker.run(self.session.save_at_end).result()

    def _release(self) -> None:
        if self._optimizer is not None:
            self._optimizer.shutdown(cancel_futures=True)
        self._optimizer = self.session = None

    # Status ---------------------------------------------------------------------------------------------------------

    def _report(self, error: Exception) -> None:
        self._log_traceback("The worker failed", error)
        if self.session is not None:
            self.session.say(f"Internal error: {error!r}; the log has the details.")

    def _publish_status(self) -> None:
        if self.session is not None:
            self._status.publish(status_message(self.session, self.source, self.counts, self._settings.node.map_frame))

    def _health(self) -> list[DiagnosticStatus]:
        session = self.session
        assert session is not None
        return [
            tracking_health(session, self.source, self._settings.node.mode, self._last_error),
            self._input_health.report(self.source, self.counts),
            processing_health(session),
            memory_health(session, session.outputs.kept_bytes),
        ]

    # Services and parameters ----------------------------------------------------------------------------------------

    async def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget the map."""
        assert self.session is not None
        self.worker.discard()
        if self.source is not None:
            self.source.restart()
        return await self._answer(response, lambda: self._changed(MappingSession.reset))

    async def _on_load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        """Replaces the current map by a saved one."""
        self.worker.discard()
        return await self._answer(response, lambda: self._changed(lambda session: session.load_map(request.folder)))

    def _changed(self, change: Callable[[MappingSession], str]) -> str:
        """On the worker: changes the session, publishes its status and returns a message."""
        assert self.session is not None
        done = change(self.session)
        self.worker.discard()
        self.counts.received = self.counts.dropped = 0
        self._publish_status()
        return done

    async def _on_save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        """Save the map."""
        assert self.session is not None
        return await self._answer(response, partial(self.session.save_map, request.folder))

    async def _on_export_map(self, request: ExportMap.Request, response: ExportMap.Response) -> ExportMap.Response:
        """Exports the map for other programs."""
        assert self.session is not None
        return await self._answer(response, partial(self.session.export_map, request.format, request.path))

    def _on_initialpose(self, pose: PoseWithCovarianceStamped) -> None:
        """Handles an approximate pose of the robot."""
        if self.session is not None:
            self.worker.run(partial(self.session.expect, pose))

    async def _on_pause(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Ignores images; answers when the current one is finished."""
        if self.source is None:
            response.message = "The node is not active; activate it before pausing."
            return response
        self.source.muted = True
        self.counts.dropped += self.worker.discard()
        return await self._answer(response, self._publish_status, PAUSED)

    async def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Processes images again."""
        if self.source is None:
            response.message = "The node is not active; activate it before resuming."
            return response
        self.source.muted = False
        return await self._answer(response, self._publish_status, "Mapping continues.")

    def _apply(self, groups: dict[str, Validated]) -> None:
        """Live parameters have changed: the session gets all settings anew, on the worker."""
        if self._worker is None or self.session is None:
            return
        self._settings = parameters.changed(self._settings, groups)
        if self.source is not None:
            self.source.follow(self._settings.node)
        self._worker.run(partial(self.session.configure, self._settings))


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `mapping_node`."""
    return run(MappingNode, args)


if __name__ == "__main__":
    sys.exit(main())
