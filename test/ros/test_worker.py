# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Iterator

import pytest

from st3r_ros.ros.nodes.worker import Worker

WAIT_S = 10.0


class Recorder:
    """Processes items one at a time when told to, and notes what happened in which order."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.errors: list[Exception] = []
        self.idle = threading.Event()
        self.started, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.worker: Worker[object] = Worker(self.process, idle=self.idle.set, report=self.errors.append, idle_period=0.01)

    def process(self, item: object) -> None:
        self.started.release()
        assert self.go.acquire(timeout=WAIT_S)
        self.log.append(item)
        if isinstance(item, Exception):
            raise item


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    recorder.worker.start()
    yield recorder
    recorder.go.release(100)
    recorder.worker.stop()


def test_the_newest_item_wins(recorder: Recorder) -> None:
    assert recorder.worker.submit("first") == 0
    assert recorder.started.acquire(timeout=WAIT_S)
    dropped = [recorder.worker.submit(item) for item in ("b", "c", "d")]
    assert dropped == [0, 1, 1]
    recorder.go.release(2)
    assert recorder.started.acquire(timeout=WAIT_S)
    recorder.worker.run(lambda: None).result(WAIT_S)
    assert recorder.log == ["first", "d"]


def test_jobs_run_in_order_before_the_waiting_item(recorder: Recorder) -> None:
    recorder.worker.submit("first")
    assert recorder.started.acquire(timeout=WAIT_S)
    recorder.worker.submit("second")
    jobs = [recorder.worker.run(lambda name=name: recorder.log.append(name) or name) for name in ("job 1", "job 2")]
    recorder.go.release(2)
    assert [job.result(WAIT_S) for job in jobs] == ["job 1", "job 2"]
    assert recorder.started.acquire(timeout=WAIT_S)
    recorder.worker.run(lambda: None).result(WAIT_S)
    assert recorder.log == ["first", "job 1", "job 2", "second"]


def test_a_discarded_item_is_not_processed(recorder: Recorder) -> None:
    recorder.worker.submit("first")
    assert recorder.started.acquire(timeout=WAIT_S)
    recorder.worker.submit("second")
    assert (recorder.worker.discard(), recorder.worker.discard()) == (1, 0)
    recorder.go.release(2)
    recorder.worker.run(lambda: None).result(WAIT_S)
    assert recorder.log == ["first"]


def test_errors_are_reported_and_the_worker_lives_on(recorder: Recorder) -> None:
    failure = ValueError("broken")
    recorder.go.release(2)
    recorder.worker.submit(failure)
    assert recorder.started.acquire(timeout=WAIT_S)
    job = recorder.worker.run(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        job.result(WAIT_S)
    recorder.worker.submit("next")
    assert recorder.started.acquire(timeout=WAIT_S)
    recorder.worker.run(lambda: None).result(WAIT_S)
    assert recorder.errors == [failure]
    assert recorder.log == [failure, "next"]


def test_it_ticks_when_idle(recorder: Recorder) -> None:
    assert recorder.idle.wait(WAIT_S)
    recorder.idle.clear()
    assert recorder.idle.wait(WAIT_S)


def test_stop_finishes_the_jobs_and_refuses_new_ones(recorder: Recorder) -> None:
    recorder.worker.submit("first")
    assert recorder.started.acquire(timeout=WAIT_S)
    recorder.worker.submit("second")
    job = recorder.worker.run(lambda: "done")
    recorder.go.release()
    recorder.worker.stop()
    assert job.result(WAIT_S) == "done"
    assert recorder.worker.run(lambda: None).cancelled()
    assert recorder.log == ["first"]


def test_spare_time_is_used_until_there_is_no_more_to_do_and_items_come_first() -> None:
    log: list[str] = []
    left = [3]
    worker: Worker[str]

    def spare() -> bool:
        log.append("spare")
        left[0] -= 1
        if left[0] == 1:
            worker.submit("second")
        if left[0] == 0:
            done.set()
        return left[0] > 0

    done = threading.Event()
    errors: list[Exception] = []
    worker = Worker(log.append, idle=lambda: None, spare=spare, report=errors.append, idle_period=WAIT_S)
    worker.submit("first")
    worker.start()
    assert done.wait(WAIT_S)
    worker.stop()
    assert log[:5] == ["first", "spare", "spare", "second", "spare"]
    assert errors == []
