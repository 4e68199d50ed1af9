# SPDX-License-Identifier: Apache-2.0
"""`st3r demo`: camera and mapping node over ROS topics with ROS 2, the library alone without it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from st3r_ros.config import DemoConfig, MapCommandConfig, ViewerConfig

ROS_DEMO = "st3r_ros.ros.demo.__main__"


def run_demo(config: DemoConfig) -> int:
    """Maps the demo's input; returns the exit code.

    Raises:
        St3rError: the input or the output folder cannot be used.
    """
    lacking = what_ros_lacks()
    if not lacking:
        arguments = ["--input", config.input, "--out", config.out, *(["--view"] if config.view else [])]
        # By name, because this package also works without ROS. Not `python -m`: that would put the current folder first on the
        # path, and a checkout has no generated messages.
        return importlib.import_module(ROS_DEMO).main(arguments)
    print(f"Without ROS 2 ({lacking}): mapping {config.input} with the library alone. `st3r doctor` says how to get ROS.")
    from st3r_ros.commands.map import run_map
    from st3r_ros.commands.settings import Settings

    if not config.view:
        return run_map(config.input, MapCommandConfig(out=config.out), Settings())
    from st3r_ros.commands.view import run_view

    saved = str(Path(config.out) / "map")
    exit_code = run_map(config.input, MapCommandConfig(out=config.out, save_map=saved), Settings())
    return exit_code or run_view(saved, ViewerConfig(), Settings(), browser=True)


def what_ros_lacks() -> str:
    """Why nodes cannot run, as part of a sentence; "" when they can."""
    if importlib.util.find_spec("rclpy") is None:
        return "rclpy is not installed or not sourced"
    if importlib.util.find_spec("st3r_ros.msg") is None:
        return "the messages of st3r_ros are not built or not sourced"
    return ""
