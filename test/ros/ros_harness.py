# SPDX-License-Identifier: Apache-2.0
"""Real ROS for the tests: nodes that spin in a thread of their own, and waiting for what must happen."""

import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from st3r_ros.ros.demo.isolation import isolated_environment

# Before anything reads the environment, here or in a process that a test starts.
os.environ.update(isolated_environment())
gc.freeze()  # what the imports have made is not looked through again whenever ROS stops

PATIENCE_S = 60.0


def wait_until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition; fail with `what` when it does not come true."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"Waited {patience_s:.0f} s in vain for {what}.")
        time.sleep(0.01)


def give(node: Node, topic: str, message: Any) -> None:
    """Give a message to the node's subscription of a topic, as its executor would."""
    subscription = next(each for each in node.subscriptions if each.topic_name == topic)
    subscription.callback(message)


class Ros:
    """An rclpy context. Nodes spin from `spin` on until the end of the test, each in its own executor thread."""

    def __init__(self) -> None:
        self._running: list[tuple[SingleThreadedExecutor, threading.Thread, Node]] = []

    def init(self, *arguments: str) -> None:
        """Initialise rclpy with command line arguments such as `-p`, `name:=value`."""
        rclpy.init(args=["--ros-args", *arguments], signal_handler_options=SignalHandlerOptions.NO)

    def spin(self, node: Node) -> None:
        """Spin a node in a thread."""
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin)
        thread.start()
        self._running.append((executor, thread, node))

    def change(self, node: Node, *transitions: str) -> None:
        """Take a spinning lifecycle node through transitions, on its executor: elsewhere it would lose what it waits for."""
        executor = next(executor for executor, _, running in self._running if running is node)
        for transition in transitions:
            done = executor.create_task(getattr(node, f"trigger_{transition}"))
            executor.wake()
            wait_until(done.done, transition)
            done.result()

    def stop_nodes(self) -> None:
        """Stop and destroy the nodes."""
        for executor, thread, _ in self._running:
            executor.shutdown()
            thread.join()
        for _, _, node in self._running:
            close = getattr(node, "close", node.destroy_node)
            close()
        self._running = []

    def stop(self) -> None:
        """Stop all nodes and ROS."""
        self.stop_nodes()
        rclpy.try_shutdown()
        gc.collect()  # lifecycle nodes are in a circle of references; until it goes, the next test sees them in the graph
