# SPDX-License-Identifier: Apache-2.0
"""The demo's viewer: a viewer node as a process, and the page in the browser of the desktop, if there is one."""

from __future__ import annotations

import re
import select
import sys
import time
from types import TracebackType

from st3r_ros.commands.interrupt import Interrupt
from st3r_ros.config import ViewerConfig
from st3r_ros.errors import ViewerError
from st3r_ros.ros.demo.child import Child
from st3r_ros.viewer.server import free_port, open_browser

_START_S = 60.0


class DemoViewer:
    """Runs the viewer while entered; `url` is its address."""

    def __init__(self, environment: dict[str, str], *, browser: bool) -> None:
        self._environment, self._browser = environment, browser
        self.url = ""

    def __enter__(self) -> DemoViewer:
        """Starts it and prints its address.

        Raises:
            ViewerError: it cannot be started.
        """
        defaults = ViewerConfig()
        port = free_port(defaults.host, defaults.port)
        self._child = Child("viewer_node", {"port": port}, self._environment)
        end = time.monotonic() + _START_S
        while not self.url:
            running = self._child.running
            found = [match for line in self._child.lines if (match := re.search(r"is on (http\S+)\.$", line))]
            if found:
                self.url = found[-1].group(1)
            elif not running or time.monotonic() > end:
                self._child.stop(5.0)
                raise ViewerError(self._reason())
            time.sleep(0.05)
        print(f"The map is shown on {self.url}.", flush=True)
        if self._browser:
            open_browser(self.url)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._child.stop(10.0)

    def wait(self, interrupt: Interrupt) -> None:
        """Keeps the page until a signal, or Enter on a terminal."""
        terminal = sys.stdin is not None and sys.stdin.isatty()
        print(f"The map stays on {self.url}. {'Enter or Ctrl-C' if terminal else 'Ctrl-C'} ends.", flush=True)
        while interrupt.signal is None and self._child.running:
            if not terminal:
                time.sleep(0.1)
            elif select.select([sys.stdin], [], [], 0.1)[0]:
                sys.stdin.readline()
                return

    def _reason(self) -> str:
        errors = [line.removeprefix("Error: ") for line in self._child.lines if line.startswith("Error: ")]
        return errors[-1] if errors else "The viewer did not start. " + " ".join(self._child.lines[-5:])
