# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of the set-up: their output goes to a log, one line on the screen says how far they are."""

from __future__ import annotations

import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from machine import SetupError

HEARTBEAT = 20.0  # seconds between signs of life where the screen is not a terminal
TAIL = 25  # lines of the log that are shown when a command fails


class Progress:
    """The line of one stage. On a terminal it is rewritten in place, elsewhere a line is added now and then."""

    def __init__(self, title: str, log: Path):
        self._title, self._log = title, log
        self._started = self._spoken = time.monotonic()
        self._live = sys.stdout.isatty()
        print(title, end="" if self._live else " ...\n", flush=True)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Runs a command to its end. Raises SetupError with the end of its output when it fails."""
        with self._log.open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
            ) as process:
                try:
                    self._follow(process, log)
                except BaseException:
                    process.terminate()
                    raise
        if process.returncode:
            tail = self._log.read_text(errors="replace").splitlines()[-TAIL:]
            raise SetupError(
                "\n".join(["", *tail, "", f"The set-up stopped at: {self._title}. The lines above end its log, {self._log}."])
            )

    def done(self) -> None:
        """Closes the line with the time the stage took."""
        start = "\r\x1b[K" if self._live else ""
        print(f"{start}{self._title}: {time.monotonic() - self._started:.1f} s", flush=True)

    def _follow(self, process: subprocess.Popen, log) -> None:
        assert process.stdout is not None
        last = ""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=1.0):
                    block = process.stdout.read(65536)
                    if not block:
                        return
                    log.write(block)
                    last = next(reversed(block.decode(errors="replace").split("\n")[:-1]), last).strip() or last
                self._tell(last)

    def _tell(self, last: str) -> None:
        now = time.monotonic()
        elapsed = f"{now - self._started:.0f} s"
        if self._live:
            text = f"{self._title}  {elapsed}  {last}"
            print(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        elif now - self._spoken >= HEARTBEAT:
            self._spoken = now
            print(f"    {elapsed}: {last[:100]}", flush=True)
