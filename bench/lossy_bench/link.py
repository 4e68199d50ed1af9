# SPDX-License-Identifier: Apache-2.0
"""Two machines on one: network namespaces joined by a veth pair that loses packets and has a limited rate."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from st3r_ros.errors import St3rError

TOOLS = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables"}
ROBOT, BASE = "robot", "base"
OTHER = {ROBOT: BASE, BASE: ROBOT}
ADDRESSES = {ROBOT: "10.76.0.1", BASE: "10.76.0.2"}

_RULES = """
table netdev link {{
  chain received {{
    type filter hook ingress device "eth0" priority 0
    counter name "arrived"
    {multicast}
    numgen random mod 1000 < {per_mille} counter name "lost" drop
  }}
  counter arrived {{ }}
  counter lost {{ }}
}}
"""


class LinkError(St3rError):
    """The two namespaces cannot be made here; the message says what is missing."""


def check_machine() -> None:
    """Raises LinkError, with what to do, where network namespaces, nftables or traffic control cannot be used."""
    if os.geteuid() != 0:
        raise LinkError("Network namespaces need root; run this with sudo.")
    missing = {tool: package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise LinkError(f"There is no {' and no '.join(missing)}; install it with: apt install {packages}")


class Link:
    """A robot and a base station, each a namespace with one interface, `eth0`; there is no way out of the two.

    Every packet that arrives, in either direction, is dropped with the probability `loss` (0..1): single IP fragments and TCP
    segments, as on the air. rate_mbit: megabits per second in each direction, with a queue of 100 ms; 0 for no limit.
    multicast: whether that passes, which some access points forbid. sysctl: settings of the kernel on both sides.
    Raises LinkError where the kernel refuses one of the steps.
    """

    def __init__(self, loss: float, rate_mbit: float, *, multicast: bool, sysctl: dict[str, str]) -> None:
        self._rate_mbit, self._sysctl = rate_mbit, sysctl
        self._rules = _RULES.format(per_mille=round(1000 * loss), multicast="" if multicast else "ip daddr 224.0.0.0/4 drop")
        self._names = {side: f"st3r-{side}-{os.getpid()}" for side in (ROBOT, BASE)}
        self._stack = ExitStack()

    def __enter__(self) -> Link:
        _remove_left_over()
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def command(self, side: str, words: list[str]) -> list[str]:
        """The command line that runs `words` on one side, with a /dev/shm that the other side does not see."""
        script = 'mount --bind "$0" /dev/shm && exec "$@"'
        return ["ip", "netns", "exec", self._names[side], "sh", "-c", script, str(self._shared_memory / side), *words]

    def sent_bytes(self) -> int:
        """What the robot has sent so far, as the base sees it, lost packets included."""
        found = json.loads(self._run(*self._inside(BASE, "nft", "--json", "list", "counters")).stdout)["nftables"]
        return next(item["counter"]["bytes"] for item in found if item.get("counter", {}).get("name") == "arrived")

    def _build(self) -> None:
        self._shared_memory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="st3r_link_")))
        for side, name in self._names.items():
            (self._shared_memory / side).mkdir()
            self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)
            self._run("ip", "netns", "add", name)
        robot, base = self._names[ROBOT], self._names[BASE]
        self._run("ip", "-n", robot, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", base)
        for side, name in self._names.items():
            self._run("ip", "-n", name, "address", "add", f"{ADDRESSES[side]}/24", "dev", "eth0")
            self._run("ip", "-n", name, "link", "set", "lo", "up")
            for key, value in self._sysctl.items():
                self._run(*self._inside(side, "sh", "-c", 'echo "$1" > "/proc/sys/$0"', key.replace(".", "/"), value))
            # no large segments: what is dropped is a packet, not a bundle of them
            self._run("ip", "-n", name, "link", "set", "eth0", "gso_max_segs", "1", "up")
            self._run(*self._inside(side, "nft", "-f", "-"), text=self._rules)
            if self._rate_mbit:
                shape = ["rate", f"{round(1000 * self._rate_mbit)}kbit", "burst", "32kb", "latency", "100ms"]
                self._run(*self._inside(side, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *shape))
        for name in self._names.values():
            self._wait_until_up(name)

    def _wait_until_up(self, name: str) -> None:
        """Fast DDS ignores an interface that is not running yet when a node starts."""
        end = time.monotonic() + 10.0
        while json.loads(self._run("ip", "-j", "-n", name, "link", "show", "eth0").stdout)[0]["operstate"] != "UP":
            if time.monotonic() > end:
                raise LinkError(f"The interface eth0 of {name} is not up after 10 s.")
            time.sleep(0.05)

    def _inside(self, side: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self._names[side], *words]

    def _run(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LinkError(f"`{' '.join(words)}` failed: {' '.join(done.stderr.split())}")
        return done


def _remove_left_over() -> None:
    """Namespaces of runs that were killed."""
    for word in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout.split():
        found = re.fullmatch(r"st3r-(?:robot|base)-(\d+)", word)
        if found and not Path("/proc", found.group(1)).exists():
            subprocess.run(["ip", "netns", "delete", word], check=False)
