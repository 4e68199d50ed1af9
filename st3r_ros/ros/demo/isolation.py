# SPDX-License-Identifier: Apache-2.0
"""Keeps the ROS traffic of the demo, the tests and the benchmarks on this machine and away from other ROS programs on it."""

from __future__ import annotations

import os
import socket
import sys
from functools import cache

DOMAINS = range(1, 102)
"""Domains whose ports are outside the ephemeral range of all systems."""
_claims: list[socket.socket] = []


def isolated_environment() -> dict[str, str]:
    """Environment variables for an isolated run: local discovery only, and a domain that no other such run uses.

    They must be set before rclpy.init.
    """
    environment = {"ROS_DOMAIN_ID": str(_own_domain(os.getpid()))}
    if os.environ.get("ROS_DISTRO") == "humble":
        return environment | {"ROS_LOCALHOST_ONLY": "1"}
    return environment | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


@cache
def _own_domain(process: int) -> int:
    """Reserves a domain for this process until it ends: runs in the same domain would see each other's nodes."""
    first = process % len(DOMAINS)
    candidates = [*DOMAINS[first:], *DOMAINS[:first]]
    return next(filter(_claim, candidates), candidates[0])


def _claim(domain: int) -> bool:
    """Reserves the domain unless another process has it. A reservation ends with its process; only on Linux."""
    if sys.platform != "linux":
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0st3r_ros domain {domain}")
    except OSError:
        name.close()
        return False
    _claims.append(name)
    return True
