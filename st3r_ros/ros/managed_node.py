# SPDX-License-Identifier: Apache-2.0
"""What the lifecycle nodes have in common: transitions that report what goes wrong, one worker, services that wait for it."""

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

from st3r_ros.config import MASt3RPairConfig, OpenCVPairConfig, Validated
from st3r_ros.errors import St3rError
from st3r_ros.pair import load_pair_model
from st3r_ros.ros import parameters
from st3r_ros.ros.diagnostics import OK, WARN, Diagnostics, health
from st3r_ros.ros.image_input import ImageInput
from st3r_ros.ros.process import Interrupted, Stop
from st3r_ros.ros.worker import Worker
from st3r_ros.slam.memory import give_back_freed
from st3r_ros.slam.warm_up import warm_up
from st3r_ros.types import PairModel

Response = TypeVar("Response")


class ManagedNode(LifecycleNode):
    """A lifecycle node with one executor thread and one worker thread; it brings itself up when `autostart` is set.

    A subclass says what each transition does: `_configure` makes the worker and the publishers, `_listen` and `_finish` begin and
    end the input, `_release` lets go of everything else. Its services are there in every state.
    """

    def __init__(self, name: str, stop: Stop, groups: Mapping[str, type[Validated]]) -> None:
        super().__init__(name)
        parameters.declare(self, groups)
        parameters.watch(self, groups, self._apply)
        self._stop = stop
        self._worker: Worker[ImageInput] | None = None
        self._last_error = ""
        self._diagnostics = Diagnostics(self, self._report_health)
        self._standing = list(self.timers)
        # A service that waits for the worker must not keep images and timers waiting.
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
            self.get_logger().info("Ended before it was configured.")
            self._clean_up()
            return
        if configured != TransitionCallbackReturn.SUCCESS or self.trigger_activate() != TransitionCallbackReturn.SUCCESS:
            self._stop.finish(exit_code=2)

    def close(self) -> None:
        """Publish and write what there is, then end."""
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
        model = load_pair_model(
            name,
            checkpoint,
            opencv=parameters.read(self, "opencv", OpenCVPairConfig),
            mast3r=parameters.read(self, "mast3r", MASt3RPairConfig),
        )
        self.get_logger().info(f"The pair model {model.name} is loaded after {time.monotonic() - begin:.1f} s.")
        return model

    def _warm_up(self, model: PairModel) -> None:
        """Map made-up images on the worker, so that the first real ones do not wait for libraries, kernels and thread pools.

        Raises:
            St3rError: the model cannot work, for example because the device's memory is full.
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
        """Make what is needed, the worker last, and start it."""
        raise NotImplementedError

    def _listen(self) -> None:
        """Begin to listen to images."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Stop listening, if that was begun, and publish what there is."""
        raise NotImplementedError

    def _save(self) -> None:
        """Save what is to outlive a shutdown; what was listened to has been finished."""

    def _release(self) -> None:
        """Let go of what `_configure` made, be it all or a part of it."""
        raise NotImplementedError

    def _apply(self, group: str, config: Validated) -> None:
        """A live parameter has changed."""
        raise NotImplementedError

    def _health(self) -> list[DiagnosticStatus]:
        """How a configured node is."""
        raise NotImplementedError

    def _report_health(self) -> list[DiagnosticStatus]:
        if self._worker is None:
            level = WARN if self._last_error else OK
            return [health("lifecycle", level, self._last_error or "The node is not configured.", {})]
        return self._health()

    # Lifecycle ------------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the pair model and get ready."""
        self._last_error = ""
        return self._guarded(self._set_up, super().on_configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to images."""
        return self._guarded(self._listen, super().on_activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; what was learnt stays."""
        return self._guarded(self._finish, super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget everything."""
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

        It is never destroyed: a request that is being answered when its service goes would end the executor.
        """

        async def answer(request: Any, response: Any) -> Any:
            if self._worker is None:
                response.success, response.message = False, "The node is not configured; configure it."
                return response
            return await callback(request, response)

        self.create_service(kind, f"~/{name}", answer, callback_group=self._requests)

    async def _answer(self, response: Response, job: Callable[[], Any], message: str = "") -> Response:
        """Run a job on the worker and answer when it is done, while the executor goes on.

        The response's `message` is the job's text, or `message` where the job returns none; or what went wrong.
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
        except Exception as error:  # the boundary of a request: answered and logged, and the node lives on
            answer.message = f"Internal error: {error!r}; the log has the details."
            self._log_traceback("A service failed", error)
        else:
            answer.success, answer.message = True, text if isinstance(text, str) else message
        return response

    async def _woken_by(self, future: WorkerFuture) -> None:
        """Wait for a future of the worker while the executor goes on."""
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
        self.get_logger().error(f"{what}, and the node goes on: {text}", throttle_duration_sec=5.0)
