# SPDX-License-Identifier: Apache-2.0
"""Node `st3r_mapping`: images in, a map out. A lifecycle node with one executor thread and one worker thread."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future as WorkerFuture
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_srvs.srv import Trigger

from st3r_ros.config import CloudConfig, MapperConfig, MappingNodeConfig, MASt3RPairConfig, OpenCVPairConfig, Validated
from st3r_ros.errors import St3rError
from st3r_ros.msg import MappingStatus
from st3r_ros.pair import load_pair_model
from st3r_ros.results import RunInfo, check_output_folder
from st3r_ros.ros import parameters
from st3r_ros.ros.image_input import ImageCounts, ImageInput, ImageSource
from st3r_ros.ros.outputs import MappingOutputs
from st3r_ros.ros.process import Stop, run
from st3r_ros.ros.qos import LATCHED
from st3r_ros.ros.session import MappingSession
from st3r_ros.ros.status import status_message
from st3r_ros.ros.worker import Worker
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.warm_up import warm_up
from st3r_ros.types import MappingState

_GROUPS: dict[str, type[Validated]] = {
    "": MappingNodeConfig,
    "mapper": MapperConfig,
    "cloud": CloudConfig,
    "opencv": OpenCVPairConfig,
    "mast3r": MASt3RPairConfig,
}
_SILENCE_S = 3.0
"""Seconds without an image after which the status says so."""


class MappingNode(LifecycleNode):
    """Configured, it has a `session` (pair model, map) and services. Active, it has a `source` of images, and publishes."""

    def __init__(self, stop: Stop) -> None:
        super().__init__("st3r_mapping")
        parameters.declare(self, _GROUPS)
        parameters.watch(self, _GROUPS, self._apply)
        self._stop = stop
        self.session: MappingSession | None = None
        self.source: ImageSource | None = None

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager does it (`autostart` false)."""
        if not self.get_parameter("autostart").value:
            return
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                self._stop.finish(exit_code=2)
                return

    def close(self) -> None:
        """Publish and write what there is, then end."""
        if self.session is not None:
            self.trigger_shutdown()
        self.destroy_node()

    # Lifecycle ------------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the pair model and begin an empty map."""
        return self._guarded(self._configure, super().on_configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to images."""
        return self._guarded(self._listen, super().on_activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; publish the last state of the map and write the results. The map stays."""
        return self._guarded(self._finish, super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the map."""
        return self._guarded(self._clean_up, super().on_cleanup, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate and clean up, from any state."""
        return self._guarded(self._shut_down, super().on_shutdown, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a failed transition: back to the beginning, ready to be configured again."""
        return self._guarded(self._clean_up, super().on_error, state)

    def _guarded(
        self,
        work: Callable[[], None],
        default: Callable[[LifecycleState], TransitionCallbackReturn],
        state: LifecycleState,
    ) -> TransitionCallbackReturn:
        """Do the work of a transition; rclpy itself would hide what goes wrong in it."""
        try:
            work()
        except St3rError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:
            self.get_logger().fatal(traceback.format_exc())
            raise
        return default(state)

    def _configure(self) -> None:
        self._config = parameters.read(self, "", MappingNodeConfig)
        if self._config.output_dir:
            check_output_folder(Path(self._config.output_dir))
        model = load_pair_model(
            self._config.pair_model,
            self._config.checkpoint,
            opencv=parameters.read(self, "opencv", OpenCVPairConfig),
            mast3r=parameters.read(self, "mast3r", MASt3RPairConfig),
        )
        seconds = warm_up(model)
        self.get_logger().info(f"The pair model {model.name} is warm after {seconds:.1f} s.")
        self._optimizer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="optimizer")
        mapper = Mapper(model, parameters.read(self, "mapper", MapperConfig), self._optimizer)
        self._counts = ImageCounts()
        self._outputs = MappingOutputs(self, mapper, self._config, parameters.read(self, "cloud", CloudConfig))
        info = RunInfo(self.resolve_topic_name("image"), model.name)
        self.session = MappingSession(mapper, self._outputs, info, self.get_logger())
        self._status = self.create_lifecycle_publisher(MappingStatus, "~/status", LATCHED)
        group = MutuallyExclusiveCallbackGroup()  # a service that waits for the worker must not keep images and timers waiting
        for name, callback in (("reset", self._on_reset), ("pause", self._on_pause), ("resume", self._on_resume)):
            self.create_service(Trigger, f"~/{name}", callback, callback_group=group)
        self.create_timer(self._config.status_period, self._publish_status)
        if self._config.odom_frame:
            self.create_timer(self._config.transform_publish_period, self._outputs.repeat_transform)
        self._worker: Worker[ImageInput] = Worker(self._process, idle=self.session.idle, report=self._report, name="mapping")
        self._worker.start()

    def _listen(self) -> None:
        self._silent = False
        self.source = ImageSource(self, self._config, self._counts, self._deliver)
        self.get_logger().info(f"Listening to {self.source.topic} and {self.source.info_topic}.")

    def _finish(self) -> None:
        if self.source is None or self.session is None:
            return
        self.source.close()
        self.source = None
        session, folder = self.session, self._config.output_dir
        self._counts.dropped += self._worker.discard()
        self._worker.run(lambda: session.finish(folder)).result()

    def _clean_up(self) -> None:
        if self.session is None:
            return
        self._worker.stop()
        self._optimizer.shutdown(cancel_futures=True)
        self.session = None
        for timer in list(self.timers):
            self.destroy_timer(timer)
        for service in [service for service in self.services if service.srv_type is Trigger]:
            self.destroy_service(service)
        for publisher in [publisher for publisher in self.publishers if isinstance(publisher, LifecyclePublisher)]:
            self.destroy_lifecycle_publisher(publisher)

    def _shut_down(self) -> None:
        self._finish()
        self._clean_up()

    # Images ---------------------------------------------------------------------------------------------------------

    def _deliver(self, item: ImageInput) -> None:
        """On the executor: hand an image to the worker."""
        self._counts.dropped += self._worker.submit(item)

    def _process(self, item: ImageInput) -> None:
        """On the worker: map an image."""
        session = self.session
        assert session is not None
        before = session.mapper.state, session.mapper.map.scale.source
        session.process(item)
        if (session.mapper.state, session.mapper.map.scale.source) != before:
            self._publish_status()

    def _report(self, error: Exception) -> None:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.get_logger().error(f"The worker failed and goes on: {text}", throttle_duration_sec=5.0)
        if self.session is not None:
            self.session.message = f"Internal error: {error!r}; the log has the details."

    def _publish_status(self) -> None:
        session, source = self.session, self.source
        if session is None:
            return
        paused = source is not None and source.muted
        state = MappingState.PAUSED if paused else session.mapper.state
        message = status_message(session, self._counts, state, self._config.map_frame)
        if source is not None and not paused:
            silent = source.waiting_s > _SILENCE_S
            if silent:
                message.message, message.fps = source.silence(), 0.0
            if silent and not self._silent:
                self.get_logger().warning(message.message)
            self._silent = silent
        self._status.publish(message)

    # Services and parameters ----------------------------------------------------------------------------------------

    async def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget the map."""
        assert self.session is not None
        self._worker.discard()
        self._counts.received = self._counts.dropped = 0
        if self.source is not None:
            self.source.restart()
        return await self._answer(response, self._reset_session, "The map is empty; the next image begins a new one.")

    def _reset_session(self) -> None:
        assert self.session is not None
        self.session.reset()
        self._publish_status()

    async def _on_pause(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Ignore images; answers when the one in work is done."""
        if self.source is None:
            response.message = "The node is not active, there is nothing to pause; activate it."
            return response
        self.source.muted = True
        self._counts.dropped += self._worker.discard()
        return await self._answer(response, self._publish_status, "Paused: images are ignored until ~/resume.")

    async def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Listen to images again."""
        if self.source is None:
            response.message = "The node is not active, there is nothing to resume; activate it."
            return response
        self.source.muted = False
        return await self._answer(response, self._publish_status, "Mapping goes on.")

    async def _answer(self, response: Trigger.Response, job: Callable[[], None], message: str) -> Trigger.Response:
        """Run a job on the worker and answer when it is done, while the executor goes on."""
        done = Future()

        def wake(future: WorkerFuture) -> None:
            done.set_result(None if future.cancelled() else future.exception())
            if self.executor is not None:
                self.executor.wake()

        job_future = self._worker.run(job)
        job_future.add_done_callback(wake)
        error = await done
        cancelled = job_future.cancelled()
        response.success = error is None and not cancelled
        response.message = "The node is shutting down." if cancelled else message if error is None else str(error)
        return response

    def _apply(self, group: str, config: Validated) -> None:
        """A live parameter has changed."""
        if self.session is None:
            return
        self._worker.run(partial(self._apply_on_worker, group, config))

    def _apply_on_worker(self, group: str, config: Validated) -> None:
        assert self.session is not None
        if isinstance(config, MappingNodeConfig):
            self._config = self._outputs.config = config
        elif isinstance(config, CloudConfig):
            self._outputs.cloud = config
            self._outputs.mark_changed()
        elif isinstance(config, MapperConfig):
            self.session.mapper.config = config


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `mapping_node`."""
    return run(MappingNode, args)


if __name__ == "__main__":
    sys.exit(main())
