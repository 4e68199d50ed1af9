# SPDX-License-Identifier: Apache-2.0
"""Records state and timing of every frame of a run, in a few bytes each, and summarizes them."""

from __future__ import annotations

import csv
import io
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from st3r_ros.types import MappingState, MappingUpdate

STATES = tuple(MappingState)
LISTED_SKIPS = 50
RECENT_FRAMES = 30
LATENCY_FRAMES = 20_000


@dataclass(frozen=True)
class LostSpan:
    """Consecutive frames on which the camera was lost; stamps in seconds."""

    first_frame: int
    last_frame: int
    first_stamp: float
    last_stamp: float
    frames: int


@dataclass(frozen=True)
class Skip:
    """A skipped frame and the reason."""

    frame: int
    source: str
    reason: str


@dataclass(frozen=True)
class Latency:
    """Latency of a stage over the last 20 000 frames that went through it."""

    median_ms: float
    p95_ms: float


class RunRecorder:
    """Collects the `MappingUpdate` of every frame and the skipped frames.

    clock: seconds, monotonic. One thread records, any may read.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._started = clock()
        self._finished = self._started
        self._recent: deque[float] = deque([self._started], maxlen=RECENT_FRAMES)
        self._frame_ids = array("q")
        self._stamps_ns = array("q")
        self._states = array("b")
        self._total_ms = array("f")
        self._sources: list[str] = []
        self._latencies: dict[str, deque[float]] = {}
        self._skips: list[Skip] = []
        self._notes: list[str] = []
        self._skipped = 0

    def record(self, update: MappingUpdate, source: str = "") -> None:
        """Records a frame that the mapper has processed, tracked or not. source: as in `Frame`."""
        total_ms = sum(update.timings_ms.values())
        with self._lock:
            self._frame_ids.append(update.frame_id)
            self._stamps_ns.append(update.stamp_ns)
            self._states.append(STATES.index(update.state))
            self._total_ms.append(total_ms)
            self._sources.append(source)
            for stage, milliseconds in {**update.timings_ms, "total": total_ms}.items():
                self._latencies.setdefault(stage, deque(maxlen=LATENCY_FRAMES)).append(milliseconds)
            self._finished = self._clock()
            self._recent.append(self._finished)

    def skip(self, frame: int, source: str, reason: str) -> None:
        """Records a skipped frame. All are counted; the first ones are listed, and later ones for another reason."""
        self._skipped += 1
        listed = len(self._skips)
        if listed < LISTED_SKIPS or (listed < 2 * LISTED_SKIPS and all(skip.reason != reason for skip in self._skips)):
            self._skips.append(Skip(frame, source, reason))

    def note(self, sentence: str) -> None:
        """Records what is to be known of the input, as that it is damaged, and is about no single frame."""
        self._notes.append(sentence)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the input."""
        return tuple(self._notes)

    @property
    def frames(self) -> int:
        """Number of frames processed by the mapper."""
        return len(self._states)

    @property
    def skipped(self) -> int:
        """Number of skipped frames."""
        return self._skipped

    @property
    def skips(self) -> tuple[Skip, ...]:
        """The first skipped frames, and later ones that were skipped for another reason."""
        return tuple(self._skips)

    @property
    def state(self) -> MappingState:
        """The state after the last frame."""
        return STATES[self._states[-1]] if self._states else MappingState.WAITING

    @property
    def state_counts(self) -> dict[MappingState, int]:
        """Number of frames per state."""
        with self._lock:
            counts = Counter(self._states)
        return {STATES[index]: count for index, count in counts.items()}

    @property
    def stamps_ns(self) -> np.ndarray:
        """(N,) int64 stamps of all processed frames."""
        return self._copy(self._stamps_ns)

    @property
    def duration_s(self) -> float:
        """Seconds from the start to the end of the last frame."""
        return self._finished - self._started

    @property
    def fps(self) -> float:
        """Frames per second of the whole run."""
        return self.frames / self.duration_s if self.duration_s > 0 else 0.0

    @property
    def recent_fps(self) -> float:
        """Frames per second of the last frames."""
        with self._lock:
            recent = tuple(self._recent)
        elapsed = recent[-1] - recent[0]
        return (len(recent) - 1) / elapsed if elapsed > 0 else 0.0

    def lost_spans(self) -> tuple[LostSpan, ...]:
        """The spans in which the camera was lost."""
        lost = self._copy(self._states) == STATES.index(MappingState.LOST)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(np.int8), [0]])))
        return tuple(
            LostSpan(
                first_frame=self._frame_ids[first],
                last_frame=self._frame_ids[end - 1],
                first_stamp=self._stamps_ns[first] * 1e-9,
                last_stamp=self._stamps_ns[end - 1] * 1e-9,
                frames=int(end - first),
            )
            for first, end in edges.reshape(-1, 2)
        )

    def latencies(self) -> dict[str, Latency]:
        """Latency per stage, and per frame as `total`."""
        with self._lock:
            samples = {stage: np.array(milliseconds) for stage, milliseconds in self._latencies.items()}
        return {stage: Latency(*np.percentile(ms, (50, 95)).round(3).tolist()) for stage, ms in samples.items()}

    def table(self) -> str:
        """All processed frames as CSV: frame, stamp in nanoseconds, state, milliseconds, where the image comes from."""
        columns = (self._copy(column).tolist() for column in (self._frame_ids, self._stamps_ns, self._states, self._total_ms))
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["frame", "stamp_ns", "state", "latency_ms", "source"])
        for frame, stamp, state, ms, source in zip(*columns, self._sources, strict=False):
            table.writerow([frame, stamp, STATES[state].value, f"{ms:.2f}", source])
        return text.getvalue()

    def _copy(self, samples: array) -> np.ndarray:
        """A copy made under the lock: an `array` cannot grow while NumPy views it."""
        with self._lock:
            return np.array(samples)
