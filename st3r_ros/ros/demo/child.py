# SPDX-License-Identifier: Apache-2.0
"""An executable of this package as a child process that ends with its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

from ament_index_python.packages import get_package_prefix

_LINES_KEPT = 200
# Runs a program that Linux terminates with SIGTERM (15) when the parent dies: prctl(PR_SET_PDEATHSIG = 1, 15).
_DIE_WITH_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Child:
    """A running node. The last lines of its output are kept.

    Ctrl-C in the terminal does not reach it: the parent decides when it ends. If the parent dies, the Linux kernel ends the
    child.
    """

    def __init__(self, executable: str, parameters: dict[str, str | float | bool], environment: dict[str, str]) -> None:
        program = Path(get_package_prefix("st3r_ros"), "lib", "st3r_ros", executable)
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
        self.name = executable
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DIE_WITH_PARENT, str(program), "--ros-args", *arguments],
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {executable}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def lines(self) -> list[str]:
        """The last lines of its output; complete when it has ended."""
        if not self.running:
            self._reader.join(timeout=1.0)
        return list(self._lines)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless it has ended."""
        if self.running:
            self._process.send_signal(number)

    def stop(self, patience_s: float) -> None:
        """Asks it to end and waits; kills it after `patience_s` seconds."""
        self.signal(signal.SIGINT)
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.rstrip())


def last_words(child: Child) -> str:
    """The last log message of a node, without time and name; "" before the first."""
    messages = [line.rpartition("]: ")[2] for line in child.lines if "]: " in line]
    return messages[-1] if messages else ""
