# SPDX-License-Identifier: Apache-2.0
"""Keeps the ROS traffic of the demo, the tests and the benchmarks on this machine and away from other ROS programs on it."""

from __future__ import annotations

import os


def isolated_environment() -> dict[str, str]:
    """Environment variables for a run of its own: local discovery only, and a domain that depends on the process.

    They must be set before rclpy.init. Domains up to 101 have ports that no system gives away otherwise.
    """
    environment = {"ROS_DOMAIN_ID": str(1 + os.getpid() % 101)}
    if os.environ.get("ROS_DISTRO") == "humble":
        return environment | {"ROS_LOCALHOST_ONLY": "1"}
    return environment | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
