# SPDX-License-Identifier: Apache-2.0
"""Runs beside each other have domains of their own."""

import os
import subprocess
import sys

from ros_harness import isolated_environment

from st3r_ros.ros.demo.isolation import DOMAINS

RUN = """
import os
import sys
os.getpid = lambda: int(sys.argv[1])
from st3r_ros.ros.demo import isolation
print(isolation.isolated_environment()["ROS_DOMAIN_ID"], flush=True)
input()
"""


def test_a_process_has_one_domain_and_stays_local() -> None:
    environment = isolated_environment()
    assert environment == isolated_environment()
    assert os.environ["ROS_DOMAIN_ID"] == environment["ROS_DOMAIN_ID"]
    assert int(environment["ROS_DOMAIN_ID"]) in DOMAINS
    assert "LOCALHOST" in "".join(environment.values()) or environment["ROS_LOCALHOST_ONLY"] == "1"


def test_runs_that_would_choose_the_same_domain_do_not_share_it() -> None:
    """Each is told the number of this process."""
    runs = [
        subprocess.Popen([sys.executable, "-c", RUN, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        domains = {run.stdout.readline() for run in runs}
    finally:
        for run in runs:
            run.communicate("\n")
    assert len(domains | {os.environ["ROS_DOMAIN_ID"] + "\n"}) == 4
