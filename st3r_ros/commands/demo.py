# SPDX-License-Identifier: Apache-2.0
"""`st3r demo`: the whole chain over real topics where ROS 2 is, the library alone where it is not."""

from __future__ import annotations

import importlib
import importlib.util

from st3r_ros.config import DemoConfig, MapCommandConfig

ROS_DEMO = "st3r_ros.ros.demo"


def run_demo(config: DemoConfig) -> int:
    """Maps the demo's input; returns the exit code.

    Raises:
        St3rError: the input or the output folder cannot be used.
    """
    lacking = what_ros_lacks()
    if not lacking:
        # By name, because this package works without ROS, too. Not `python -m`: that would put the current folder first on the
        # path, and a checkout has no generated messages.
        return importlib.import_module(ROS_DEMO).main(["--input", config.input, "--out", config.out])
    print(f"Without ROS 2 ({lacking}): mapping {config.input} with the library alone. `st3r doctor` says how to get ROS.")
    from st3r_ros.commands.map import run_map
    from st3r_ros.commands.settings import Settings

    return run_map(config.input, MapCommandConfig(out=config.out), Settings())


def what_ros_lacks() -> str:
    """What is missing for nodes, as half a sentence; "" when they can run."""
    if importlib.util.find_spec("rclpy") is None:
        return "rclpy is not installed or not sourced"
    if importlib.util.find_spec("st3r_ros.msg") is None:
        return "the messages of st3r_ros are not built or not sourced"
    return ""
