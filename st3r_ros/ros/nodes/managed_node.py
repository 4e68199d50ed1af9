# SPDX-License-Identifier: Apache-2.0
"""Base of the lifecycle nodes: transitions that report errors, one worker, services that wait for it."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError
from concurrent.futures import Future as WorkerFuture
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future

from st3r_ros.config import Validated
from st3r_ros.errors import St3rError
from st3r_ros.pair import PAIR_MODELS, with_pair_models
from st3r_ros.ros.input.image_input import ImageInput
from st3r_ros.ros.nodes import parameters
from st3r_ros.ros.nodes.process import Interrupted, Stop
from st3r_ros.ros.nodes.worker import Worker
from st3r_ros.ros.outputs.diagnostics import OK, WARN, Diagnostics, health
from st3r_ros.runtime import start_pair_model
from st3r_ros.slam.keyframes.memory import give_back_freed
from st3r_ros.types import PairModel
from st3r_ros.warm_up import warm_up

Response = TypeVar("Response")


class ManagedNode(LifecycleNode):
    """A lifecycle node with one executor thread and one worker thread; it activates itself when `autostart` is set.

    Subclasses define the transitions: `_configure` creates the worker and the publishers, `_listen` and `_finish` start and stop
    the input, `_release` releases everything else. Services exist in every state. groups: the parameters, besides those of the
    pair models.
    """

    def __init__(self, name: str, stop: Stop, groups: Mapping[str, type[Validated]]) -> None:
        super().__init__(name)
        groups = with_pair_models(groups)
        parameters.declare(self, groups)
        parameters.watch(self, groups, self._apply)
        self._stop = stop
        self._worker: Worker[ImageInput] | None = None
        self._last_error = ""
        self._diagnostics = Diagnostics(self, self.report_health)
        self._standing = list(self.timers)
        # A service that waits for the worker must not block images and timers.
        self._requests = MutuallyExclusiveCallbackGroup()

    @property
    def worker(self) -> Worker[ImageInput]:
        """The worker of a configured node."""
        assert self._worker is not None
        return self._worker

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager does it (`autostart` false)."""
        if not self.get_parameter("autostart").value:
            return
        try:
            with self._stop.interrupting():
                configured = self.trigger_configure()
        except Interrupted:
            self.get_logger().info("Stopped before it was configured.")
            self._clean_up()
            return
        if configured != TransitionCallbackReturn.SUCCESS or self.trigger_activate() != TransitionCallbackReturn.SUCCESS:
            self._stop.finish(exit_code=2)

    def close(self) -> None:
        """Publishes and writes the results, then ends."""
        if self._worker is not None:
            self.trigger_shutdown()
        self.destroy_node()

    def _load_pair_model(self, name: str, checkpoint: str) -> PairModel:
        """The pair model with the parameters of its group.

        Raises:
            St3rError: it cannot be loaded or does not fit on the device.
        """
        self.get_logger().info(f"Loading the pair model {name} {checkpoint}".rstrip() + ".")
        begin = time.monotonic()
        configs = {group: parameters.read(self, group, kind.config) for group, kind in PAIR_MODELS.items()}
        model = start_pair_model(name, checkpoint, configs.get(name))
        self.get_logger().info(f"The pair model {model.name} is loaded after {time.monotonic() - begin:.1f} s.")
        return model

    def _warm_up(self, model: PairModel) -> None:
        """Maps synthetic images on the worker, so that the first real ones do not wait for libraries, kernels and thread pools.

        Raises:
            St3rError: the model fails, for example because the device's memory is full.
        """
        self.get_logger().info(f"Warming up the pair model {model.name}.")
        cancelled = threading.Event()
        try:
            seconds = self.worker.run(lambda: warm_up(model, cancelled.is_set)).result()
        except BaseException:  # also a signal: the worker is to end soon
            cancelled.set()
            raise
        self.get_logger().info(f"The pair model {model.name} is warm after {seconds:.1f} s.")

    # What a subclass does -------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        """Creates everything, the worker last, and starts it."""
        raise NotImplementedError

    def _listen(self) -> None:
        """Subscribes to images."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Unsubscribes, if subscribed, and publishes the results."""
        raise NotImplementedError

    def _save(self) -> None:
        """Saves what must survive a shutdown; the input has been finished."""

    def _release(self) -> None:
        """Releases what `_configure` created, completely or in part."""
        raise NotImplementedError

    def _apply(self, groups: dict[str, Validated]) -> None:
        """Live parameters have changed. groups: the changed ones, by name, as `parameters.changed` takes them."""
        raise NotImplementedError

    def _health(self) -> list[DiagnosticStatus]:
        """Diagnostics of a configured node."""
        raise NotImplementedError

    def report_health(self) -> list[DiagnosticStatus]:
        """The diagnostics of the node in its present state."""
        if self._worker is None:
            level = WARN if self._last_error else OK
            return [health("lifecycle", level, self._last_error or "The node is not configured.", {})]
        return self._health()

    # Lifecycle ------------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the pair model."""
        self._last_error = ""
        return self._guarded(self._set_up, super().on_configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to images."""
        return self._guarded(self._listen, super().on_activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes; the map stays."""
        return self._guarded(self._finish, super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Clears everything."""
        return self._guarded(self._clean_up, super().on_cleanup, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivates and cleans up, from any state."""
        return self._guarded(self._shut_down, super().on_shutdown, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a failed transition: cleans up, ready to be configured again."""
        return self._guarded(self._clean_up, super().on_error, state)

    def _guarded(
        self,
        work: Callable[[], None],
        default: Callable[[LifecycleState], TransitionCallbackReturn],
        state: LifecycleState,
    ) -> TransitionCallbackReturn:
        """Runs a transition and reports its errors, which rclpy would hide."""
        try:
            work()
        except St3rError as error:
            self._last_error = str(error)
            self.get_logger().error(self._last_error)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self._last_error = f"Internal error: {error!r}; the log has the details."
            self.get_logger().fatal(traceback.format_exc())
            raise
        return default(state)

    def _set_up(self) -> None:
        try:
            self._configure()
        except St3rError:
            self._clean_up()
            raise

    def _clean_up(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        self._release()
        for timer in [timer for timer in self.timers if timer not in self._standing]:
            self.destroy_timer(timer)
        for publisher in [publisher for publisher in self.publishers if isinstance(publisher, LifecyclePublisher)]:
            self.destroy_lifecycle_publisher(publisher)
        gc.collect()  # pair model and map refer to each other in circles
        give_back_freed()

    def _shut_down(self) -> None:
        self._finish()
        self._save()
        self._clean_up()

    # Services -------------------------------------------------------------------------------------------------------

    def _offer(self, kind: type, name: str, callback: Callable[[Any, Any], Awaitable[Any]]) -> None:
        """A service ~/name; `callback` answers it while the node is configured.

        It is never destroyed: that would end the executor while a request is being answered.
        """

        async def answer(request: Any, response: Any) -> Any:
            if self._worker is None:
                response.success, response.message = False, "The node is not configured; configure it."
                return response
            return await callback(request, response)

        self.create_service(kind, f"~/{name}", answer, callback_group=self._requests)

    async def _answer(self, response: Response, job: Callable[[], Any], message: str = "") -> Response:
        """Runs a job on the worker and answers when it is done, without blocking the executor.

        The response's `message` is the text of the job, otherwise `message`; or the error.
        """
        answer: Any = response
        answer.success = False
        if self._worker is None:
            answer.message = "The node is not configured; configure it."
            return response
        done = self._worker.run(job)
        await self._woken_by(done)
        try:
            text = done.result()
        except CancelledError:
            answer.message = "The node is shutting down."
        except St3rError as error:
            answer.message = str(error)
        except Exception as error:  # boundary of a request: answered and logged, the node continues
            answer.message = f"Internal error: {error!r}; the log has the details."
            self._log_traceback("A service failed", error)
        else:
            answer.success, answer.message = True, text if isinstance(text, str) else message
        return response

    async def _woken_by(self, future: WorkerFuture) -> None:
        """Waits for a future of the worker without blocking the executor."""
        done = Future()

        def wake(_: WorkerFuture) -> None:
            done.set_result(None)
            if self.executor is not None:
                self.executor.wake()

        future.add_done_callback(wake)
        await done

    def _log_traceback(self, what: str, error: Exception) -> None:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._last_error = f"{what}: {error!r}"
        self.get_logger().error(f"{what}; the node continues: {text}", throttle_duration_sec=5.0)
