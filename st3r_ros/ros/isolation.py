# SPDX-License-Identifier: Apache-2.0
"""Keeps the ROS traffic of the demo, the tests and the benchmarks on this machine and away from other ROS programs on it."""

from __future__ import annotations

import os
import socket
import sys
from functools import cache

DOMAINS = range(1, 102)
"""Those whose ports no system gives away otherwise."""
_claims: list[socket.socket] = []


def isolated_environment() -> dict[str, str]:
    """Environment variables for a run of its own: local discovery only, and a domain that no other such run has.

    They must be set before rclpy.init.
    """
    environment = {"ROS_DOMAIN_ID": str(_own_domain(os.getpid()))}
    if os.environ.get("ROS_DISTRO") == "humble":
        return environment | {"ROS_LOCALHOST_ONLY": "1"}
    return environment | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


@cache
def _own_domain(process: int) -> int:
    """A domain for a process, until it ends: two runs in one would see, and disturb, each other's nodes."""
    first = process % len(DOMAINS)
    candidates = [*DOMAINS[first:], *DOMAINS[:first]]
    return next(filter(_claim, candidates), candidates[0])


def _claim(domain: int) -> bool:
    """Whether no other process has claimed this domain. A claim ends with its process; only Linux has such."""
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
