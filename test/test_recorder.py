# SPDX-License-Identifier: Apache-2.0
import csv
import io
import threading

import numpy as np
import pytest

from st3r_ros.recorder import LISTED_SKIPS, RunRecorder
from st3r_ros.types import MappingState, MappingUpdate

PERIOD_NS = 50_000_000


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def record_states(letters: str) -> RunRecorder:
    states = {"i": MappingState.INITIALIZING, "t": MappingState.TRACKING, "l": MappingState.LOST, "r": MappingState.RELOCALIZED}
    recorder = RunRecorder()
    for number, letter in enumerate(letters):
        recorder.record(MappingUpdate(10 + number, number * PERIOD_NS, states[letter]))
    return recorder


@pytest.mark.parametrize(
    ("letters", "spans"),
    [
        ("", []),
        ("itttt", []),
        ("ittlltt", [(13, 14)]),
        ("lllrttl", [(10, 12), (16, 16)]),
        ("tltltl", [(11, 11), (13, 13), (15, 15)]),
    ],
)
def test_lost_spans_are_the_runs_of_lost_frames(letters, spans):
    found = record_states(letters).lost_spans()
    assert [(span.first_frame, span.last_frame) for span in found] == spans
    assert sum(span.frames for span in found) == letters.count("l")
    for span in found:
        assert span.first_stamp == pytest.approx((span.first_frame - 10) * 0.05)
        assert span.last_stamp == pytest.approx((span.last_frame - 10) * 0.05)


def test_the_rate_follows_the_clock():
    clock = Clock()
    recorder = RunRecorder(clock)
    for number in range(100):
        clock.now += 0.1 if number < 60 else 0.5
        recorder.record(MappingUpdate(number, number, MappingState.TRACKING))
    assert recorder.duration_s == pytest.approx(26.0)
    assert recorder.fps == pytest.approx(100 / 26.0)
    assert recorder.recent_fps == pytest.approx(2.0)


def test_latencies_are_percentiles_of_the_frames_that_went_through_a_stage():
    recorder = RunRecorder()
    for number in range(101):
        timings = {"track": float(number)} | ({"keyframe": 1000.0} if number == 50 else {})
        recorder.record(MappingUpdate(number, number, MappingState.TRACKING, timings_ms=timings))
    latencies = recorder.latencies()
    assert (latencies["track"].median_ms, latencies["track"].p95_ms) == (50.0, 95.0)
    assert (latencies["keyframe"].median_ms, latencies["keyframe"].p95_ms) == (1000.0, 1000.0)
    assert latencies["total"].median_ms == 51.0


def test_all_skipped_frames_are_counted_and_the_first_ones_listed():
    recorder = RunRecorder()
    for number in range(200):
        recorder.skip(number, f"{number}.png", "It is damaged.")
    assert recorder.skipped == 200
    recorder.skip(200, "end", "The file was cut off.")
    assert [skip.frame for skip in recorder.skips] == [*range(LISTED_SKIPS), 200]


def test_the_table_has_every_processed_frame():
    recorder = record_states("ittl")
    rows = list(csv.DictReader(io.StringIO(recorder.table())))
    assert [(int(row["frame"]), int(row["stamp_ns"]), row["state"]) for row in rows] == [
        (10, 0, "initializing"),
        (11, PERIOD_NS, "tracking"),
        (12, 2 * PERIOD_NS, "tracking"),
        (13, 3 * PERIOD_NS, "lost"),
    ]
    assert recorder.state is MappingState.LOST
    assert recorder.state_counts == {MappingState.INITIALIZING: 1, MappingState.TRACKING: 2, MappingState.LOST: 1}


def test_an_empty_run_can_be_read():
    recorder = RunRecorder(Clock())
    assert (recorder.frames, recorder.fps, recorder.recent_fps, recorder.latencies()) == (0, 0.0, 0.0, {})
    assert recorder.state is MappingState.WAITING
    assert recorder.stamps_ns.shape == (0,)


def test_reading_from_another_thread_does_not_disturb_recording():
    recorder, done = RunRecorder(), threading.Event()

    def read():
        while not done.is_set():
            recorder.latencies()
            recorder.lost_spans()
            assert recorder.recent_fps >= 0.0

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(5000):
        recorder.record(MappingUpdate(number, number, MappingState.LOST, timings_ms={"track": 1.0}))
    done.set()
    reader.join()
    np.testing.assert_array_equal(recorder.stamps_ns, np.arange(5000))


def test_what_is_known_of_the_input_counts_as_no_frame():
    recorder = RunRecorder()
    recorder.note("The bag is damaged: 'a.mcap' was cut off.")
    assert recorder.notes == ("The bag is damaged: 'a.mcap' was cut off.",)
    assert recorder.skipped == 0 and recorder.skips == ()
