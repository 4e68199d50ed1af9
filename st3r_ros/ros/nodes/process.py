# SPDX-License-Identifier: Apache-2.0
"""One node as a process: the executor in its own thread, signals in the main thread, a clean shutdown."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol, cast

import rclpy
from ament_index_python.packages import get_package_share_directory
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from st3r_ros.errors import St3rError

TOGETHER_S = 1.0
LOOK_AGAIN_S = 0.2
"""Python may miss a signal just before its main thread starts to wait, and handle it only after the wait."""


class RunnableNode(Protocol):
    """Methods of a node that `run` calls."""

    def start(self) -> None:
        """Begin; called once, before the executor spins. Raises St3rError when it cannot."""
        ...

    def close(self) -> None:
        """End and save; called once, after the executor has stopped, with ROS still alive."""
        ...


class Interrupted(BaseException):
    """Raised for a signal during work that need not be finished; not an Exception, so that it is not taken for a failure."""


class Stop:
    """Asks the process to end: set by a signal, by the node when it has finished, or by a crash."""

    def __init__(self) -> None:
        self._asked = False
        self._woken: SimpleQueue[None] = SimpleQueue()  # has no lock that a signal's handler could find taken by its own thread
        self._signalled: float | None = None
        self._interrupts = False
        self.exit_code = 0

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """On the main thread: for something long, such as loading a model, that a signal interrupts.

        Raises:
            Interrupted: a signal has come, now or before.
        """
        self._interrupts = True
        try:
            if self._signalled is not None:
                raise Interrupted
            yield
        finally:
            self._interrupts = False

    def finish(self, exit_code: int = 0) -> None:
        """End the process with this code; the first non-zero code counts."""
        self.exit_code = self.exit_code or exit_code
        self._ask()

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """End cleanly. A second Ctrl-C interrupts the clean end.

        Signals in quick succession count as one: launch, systemd and the terminal may each send theirs.
        """
        now = time.monotonic()
        if self._signalled is None:
            self._signalled = now
            self._ask()
            if self._interrupts:
                raise Interrupted
        elif signum == signal.SIGINT and now - self._signalled > TOGETHER_S:
            raise KeyboardInterrupt

    def wait(self, timeout: float | None = None) -> bool:
        """On the main thread: wait until the process shall end, at most `timeout` seconds; whether it shall."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self._asked and (left := end - time.monotonic()) > 0.0:
            with suppress(Empty):
                self._woken.get(timeout=min(left, LOOK_AGAIN_S))
        return self._asked

    def _ask(self) -> None:
        self._asked = True
        self._woken.put(None)


def run(make_node: Callable[[Stop], RunnableNode], args: list[str] | None = None) -> int:
    """Run a node until Ctrl-C, SIGTERM or its own end. Returns the exit code: 0, 1 after a crash, 2 for a user error.

    rclpy's own signal handlers would shut down ROS first, before the node could publish its last map.
    """
    make_room_for_images()
    stop = Stop()
    signal.signal(signal.SIGINT, stop.on_signal)
    signal.signal(signal.SIGTERM, stop.on_signal)
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # from rcl: an invalid remapping or log level
        print(f"Error: {error}", file=sys.stderr)
        return 2
    try:
        node = make_node(stop)
        with _library_logs(cast(Node, node)):
            _spin_until(stop, node)
    except St3rError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return stop.exit_code


class _NodeLog(logging.Handler):
    """Forwards the log of the library to a node's logger and /rosout."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        if record.levelno >= logging.ERROR:
            self._logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())


@contextmanager
def _library_logs(node: Node) -> Iterator[None]:
    library, handler = logging.getLogger("st3r_ros"), _NodeLog(node)
    library.addHandler(handler)
    try:
        yield
    finally:
        library.removeHandler(handler)


def _spin_until(stop: Stop, node: RunnableNode) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(cast(Node, node))
    spinning = threading.Thread(target=_spin, args=(executor, stop), name="executor", daemon=True)
    try:
        node.start()
        spinning.start()
        stop.wait()
    finally:
        executor.shutdown()
        if spinning.is_alive():
            spinning.join()
        node.close()


def _spin(executor: SingleThreadedExecutor, stop: Stop) -> None:
    try:
        executor.spin()
    except Exception:  # the boundary of the thread: reported, and the process ends
        traceback.print_exc()
        stop.finish(exit_code=1)


def make_room_for_images() -> None:
    """Let Fast DDS take more shared memory, unless the user has configured it; other middlewares ignore this.

    Fast DDS 2 (Humble, Jazzy) reads only FASTRTPS_DEFAULT_PROFILES_FILE, Fast DDS 3 only FASTDDS_DEFAULT_PROFILES_FILE: a user
    who has set the other name has configured nothing. A profile would overrule FASTDDS_BUILTIN_TRANSPORTS.
    """
    if os.environ.get("FASTDDS_BUILTIN_TRANSPORTS"):
        return
    profile = Path(get_package_share_directory("st3r_ros"), "config", "fastdds_images.xml")
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        if profile.exists() and not os.environ.get(name):
            os.environ[name] = str(profile)
