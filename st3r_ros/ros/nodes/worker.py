# SPDX-License-Identifier: Apache-2.0
"""One worker thread with a slot for one item, which a newer one replaces.

Everything that touches the map runs here, so the map needs no lock: the items (images), the jobs (reset, pause, writing
results) and the idle work (publishing what has changed).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """A thread that processes the newest item, runs jobs in their order, and ticks when there is nothing to do.

    process: called with each item. idle: called about every `idle_period` seconds without an item. spare: called while no item
    waits, again and again until it returns that there is no more to do; it takes a few milliseconds.
    report: called with an exception that one of these raised; the worker lives on. A job's exception goes into its future.
    """

    def __init__(
        self,
        process: Callable[[Item], None],
        *,
        idle: Callable[[], None],
        report: Callable[[Exception], None],
        spare: Callable[[], bool] = lambda: False,
        idle_period: float = 0.1,
        name: str = "worker",
    ) -> None:
        self._process, self._idle, self._spare, self._report = process, idle, spare, report
        self._idle_period = idle_period
        self._condition = threading.Condition()
        self._slot: Item | None = None
        self._jobs: deque[tuple[Callable[[], Any], Future]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. A worker runs once: make a new one to run again."""
        self._thread.start()

    def submit(self, item: Item, *, surely: bool = False) -> int:
        """Put an item into the slot. Returns how many items that waited there were dropped: 0 or 1.

        surely: it is processed like a job, before the item in the slot and whatever comes after it.
        """
        if surely:
            self.run(lambda: self._guarded(self._process, item))
            return 0
        with self._condition:
            dropped = self._empty_slot()
            self._slot = item
            self._condition.notify()
        return dropped

    def discard(self) -> int:
        """Drop the item that waits. Returns how many were dropped: 0 or 1."""
        with self._condition:
            return self._empty_slot()

    def run(self, job: Callable[[], Any]) -> Future:
        """Run a job on the worker, after the item in work and before the one that waits. The future ends with its result."""
        future: Future = Future()
        with self._condition:
            if self._stopping:
                future.cancel()
            else:
                self._jobs.append((job, future))
                self._condition.notify()
        return future

    def stop(self) -> None:
        """End the thread after the item and the jobs in work; returns when it has ended. A waiting item is dropped."""
        with self._condition:
            self._stopping = True
            self._slot = None
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        spare = False
        while True:
            with self._condition:
                if not (spare or self._jobs or self._slot is not None or self._stopping):
                    self._condition.wait(self._idle_period)
                job = self._jobs.popleft() if self._jobs else None
                item = None
                if job is None:
                    if self._stopping:
                        return
                    item, self._slot = self._slot, None
            if job is not None:
                _run_job(*job)
            elif item is not None:
                self._guarded(self._process, item)
            elif spare:
                spare = bool(self._guarded(self._spare))
                continue
            else:
                self._guarded(self._idle)
            spare = True

    def _empty_slot(self) -> int:
        dropped, self._slot = int(self._slot is not None), None
        return dropped

    def _guarded(self, work: Callable, *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except Exception as error:  # the boundary of the thread: reported, and the worker lives on
            self._report(error)
            return None


def _run_job(job: Callable[[], Any], future: Future) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except Exception as error:  # passed to the caller of the job
        future.set_exception(error)
