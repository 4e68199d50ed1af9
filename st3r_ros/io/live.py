# SPDX-License-Identifier: Apache-2.0
"""Live images: webcams and network streams. A thread reads them and provides the newest one.

A reader that is slower than the images skips some, but never gets an old one. Stamps are the times of arrival.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2

from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.address import Address
from st3r_ros.io.calibration import Calibration
from st3r_ros.io.picture import Picture
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage
from st3r_ros.io.video import opened_capture, retrieve

Clock = Callable[[], int]
"""Nanoseconds since 1970."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
ANSWER_S, SILENCE_S = 5.0, 3.0
"""Timeouts of a connection and of the next image, seconds, after which the stream is reconnected."""
REASON_S = 1.0
"""So long the server is asked why a stream does not open; a stop waits for the end of both."""
CATCH_UP_S = 2.0
"""Maximum time for which images that a stream had buffered are skipped, seconds."""
_LOOK_AGAIN_S = 0.1

logger = logging.getLogger(__name__)


class LiveSequence(ImageSequence):
    """Base of webcams and streams. Endless without `max_frames`."""

    def __init__(self, name: str, camera: Camera | Calibration | None, selection: Selection | None, clock: Clock) -> None:
        super().__init__(name, camera=camera, selection=selection or Selection(), total=None)
        self._clock = clock

    @abstractmethod
    def _arriving(self, ended: threading.Event) -> Iterator[StampedImage]:
        """The images as they arrive, until `ended`; runs in the thread. Raises St3rError at the end of the input."""

    def _entries(self) -> Iterator[Entry]:
        newest = NewestImage()
        # Not a daemon: Python would tear it out of OpenCV at its end, and the process would abort.
        threading.Thread(target=self._take_in, args=(newest,), name=self.name).start()
        try:
            count = 0
            while (image := newest.take(self._stopped)) is not None:
                yield Entry(f"{self.name} frame {count}", partial(_same, image))
                count += 1
        finally:
            newest.ended.set()
        if newest.error is not None:
            raise newest.error

    def _take_in(self, newest: NewestImage) -> None:
        try:
            for image in self._arriving(newest.ended):
                newest.put(image)
                if newest.ended.is_set():
                    return
        except Exception as error:  # the boundary of the thread: raised where the images are taken
            newest.error = error
        finally:
            newest.end()


class WebcamSequence(LiveSequence):
    """A webcam of this machine, stamped by `clock` (nanoseconds) when a frame arrives.

    Raises:
        InputError: no such camera, or it delivers no images.
    """

    kind = "webcam"

    def __init__(
        self,
        index: int,
        camera: Camera | Calibration | None = None,
        selection: Selection | None = None,
        clock: Clock = time.time_ns,
    ) -> None:
        self._index = index
        self._absent = f"There is no webcam {index}, or another program uses it."
        if sys.platform == "linux" and not Path(f"/dev/video{index}").exists():
            present = ", ".join(sorted(file.name[5:] for file in Path("/dev").glob("video*"))) or "none"
            raise InputError(f"There is no webcam {index} (/dev/video{index}); present: {present}.")
        with opened_capture(index, self._absent) as capture:
            if not capture.grab():
                raise InputError(f"Webcam {index} opens but delivers no images; is another program using it?")
        super().__init__(f"webcam {index}", camera, selection, clock)

    def _arriving(self, ended: threading.Event) -> Iterator[StampedImage]:
        count = 0
        with opened_capture(self._index, self._absent) as capture:
            for image in grabbed(capture, self._clock, ended):
                yield image
                count += 1
        raise FrameError(f"Webcam {self._index} stopped delivering images after {count}.")


class StreamSequence(LiveSequence):
    """A network stream. It reconnects after an interruption, with pauses of 0.5 s that double up to 8 s.

    patience: seconds without an image after which the sequence ends. Its name never holds a user, password or query.
    """

    kind = "stream"

    def __init__(
        self,
        address: Address,
        camera: Camera | Calibration | None = None,
        selection: Selection | None = None,
        clock: Clock = time.time_ns,
    ) -> None:
        super().__init__(address.shown, camera, selection, clock)
        self._address = address

    def _arriving(self, ended: threading.Event) -> Iterator[StampedImage]:
        pause, last_s = FIRST_PAUSE_S, time.monotonic()
        while not ended.is_set():
            trouble = "the stream was interrupted"
            capture = open_stream(self._address.url)
            try:
                if ended.is_set():
                    return
                if not capture.isOpened():
                    trouble = self._address.why_closed(REASON_S)
                elif capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
                    raise InputError(f"{self.name} is a video file, not a stream; download it and give the file.")
                for image in grabbed(capture, self._clock, ended, CATCH_UP_S):
                    yield image
                    pause, last_s = FIRST_PAUSE_S, time.monotonic()
            finally:
                capture.release()
            waited = time.monotonic() - last_s
            if waited > self._address.patience:
                raise FrameError(
                    f"{self.name} delivered no image for {waited:.0f} s ({trouble}); to wait longer, "
                    "append #patience=SECONDS to the address."
                )
            if not ended.is_set():
                logger.warning("%s: %s; reconnecting in %.1f s.", self.name, trouble, pause)
            ended.wait(pause)
            pause = min(2.0 * pause, LONGEST_PAUSE_S)


class NewestImage:
    """The newest image, handed from one thread to another."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.error: Exception | None = None
        self._changed = threading.Condition()
        self._image: StampedImage | None = None
        self._over = False

    def put(self, image: StampedImage) -> None:
        with self._changed:
            self._image = image
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()

    def take(self, stopped: threading.Event) -> StampedImage | None:
        """Waits for the newest image not taken yet; None at the end of the input."""
        with self._changed:
            while self._image is None and not self._over and not stopped.is_set():
                self._changed.wait(_LOOK_AGAIN_S)  # a signal's handler can set an event, but must not take a lock
            image, self._image = self._image, None
            return None if stopped.is_set() else image


def _same(image: StampedImage) -> StampedImage:
    return image


def open_stream(url: str) -> cv2.VideoCapture:
    """A capture of a network stream, which may not be open, and which gives up after a while without an answer."""
    limits = {cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: ANSWER_S, cv2.CAP_PROP_READ_TIMEOUT_MSEC: SILENCE_S}
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, [item for limit, s in limits.items() for item in (limit, int(1000 * s))])


def grabbed(capture: cv2.VideoCapture, clock: Clock, ended: threading.Event, catch_up_s: float = 0.0) -> Iterator[StampedImage]:
    """The images of an open capture, stamped when they arrive; those that cannot be decoded are left out.

    catch_up_s: for so long at most, images that come faster than they were taken are passed over: they were buffered, and their
    arrival says nothing of their time. The last one is given all the same when there is no other.
    """
    begin = last_s = time.monotonic()
    last_ms, buffered = 0.0, None
    while not ended.is_set() and capture.grab():
        stamp_ns, now_s, media_ms = clock(), time.monotonic(), capture.get(cv2.CAP_PROP_POS_MSEC)
        image = retrieve(capture)
        if image is None:
            continue
        if now_s - begin < catch_up_s:
            first, faster = buffered is None, 1000.0 * (now_s - last_s) < 0.5 * (media_ms - last_ms)
            last_s, last_ms, buffered = now_s, media_ms, StampedImage(stamp_ns, Picture(image))
            if first or faster:
                continue
        catch_up_s, buffered = 0.0, None
        yield StampedImage(stamp_ns, Picture(image))
    if buffered is not None and not ended.is_set():
        yield buffered
