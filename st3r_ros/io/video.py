# SPDX-License-Identifier: Apache-2.0
"""Video files and webcams, through OpenCV."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.picture import Picture
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage

DEFAULT_FPS = 30.0

_CUT_SHORT = 0.9  # of the announced frames; containers often miscount by a few


class VideoSequence(ImageSequence):
    """A video file. Stamps are the file's own presentation times; where it has none, frame i was taken at i / fps.

    The end of a file that was cut short is noted in `skipped`.

    Raises:
        InputError: no such file, a folder, or nothing that OpenCV can play.
    """

    kind = "video"

    def __init__(self, path: Path | str, camera: Camera | None = None, selection: Selection | None = None) -> None:
        path = Path(path)
        if path.is_dir():
            raise InputError(f"'{path}' is a folder, not a video.")
        if not path.exists():
            raise InputError(f"There is no file '{path}'.")
        self._path = path
        with _capture(str(path), f"'{path}' is no video that OpenCV can play.") as capture:
            fps, total = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._fps = fps if 0.1 < fps < 1e4 else DEFAULT_FPS
        self._total = total if 0 < total < 10**9 else None
        super().__init__(path.name, camera=camera, selection=selection or Selection(), total=self._total)

    def _entries(self) -> Iterator[Entry]:
        with _capture(str(self._path), f"'{self._path}' can no longer be opened.") as capture:
            index, last_ns = 0, -1
            while capture.grab():
                stamp_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if stamp_ns <= last_ns:
                    stamp_ns = max(round(index * 1e9 / self._fps), last_ns + 1)
                source = f"{self.name} frame {index}"
                yield Entry(source, _Retrieve(capture, source, stamp_ns))
                index, last_ns = index + 1, stamp_ns
        if self._total is not None and index < _CUT_SHORT * self._total:
            raise FrameError(f"'{self.name}' ends after {index} of the {self._total} frames that it announces.")


class WebcamSequence(ImageSequence):
    """A webcam of this machine, stamped by `clock` (nanoseconds) when a frame arrives; endless without `max_frames`.

    Raises:
        InputError: no such camera, or it gives no images.
    """

    kind = "webcam"

    def __init__(
        self,
        index: int,
        camera: Camera | None = None,
        selection: Selection | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index, self._clock = index, clock
        self._absent = f"There is no webcam {index}, or another program uses it."
        if sys.platform == "linux" and not Path(f"/dev/video{index}").exists():
            present = ", ".join(sorted(file.name[5:] for file in Path("/dev").glob("video*"))) or "none"
            raise InputError(f"There is no webcam {index} (/dev/video{index}); present: {present}.")
        with _capture(index, self._absent) as capture:
            if not capture.grab():
                raise InputError(f"Webcam {index} opens but gives no images; does another program use it?")
        super().__init__(f"webcam {index}", camera=camera, selection=selection or Selection(), total=None)

    def _entries(self) -> Iterator[Entry]:
        with _capture(self._index, self._absent) as capture:
            count = 0
            while capture.grab():
                source = f"{self.name} frame {count}"
                yield Entry(source, _Retrieve(capture, source, self._clock()))
                count += 1
        raise FrameError(f"Webcam {self._index} stopped giving images after {count}.")


class _Retrieve:
    """Decodes the frame that was grabbed last."""

    def __init__(self, capture: cv2.VideoCapture, source: str, stamp_ns: int) -> None:
        self._capture, self._source, self._stamp_ns = capture, source, stamp_ns

    def __call__(self) -> StampedImage:
        decoded, image = self._capture.retrieve()
        if not decoded or image is None or image.size == 0:
            raise FrameError(f"{self._source} cannot be decoded.")
        code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
        return StampedImage(self._stamp_ns, Picture(cv2.cvtColor(np.ascontiguousarray(image), code)))


@contextmanager
def _capture(source: str | int, otherwise: str) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise InputError(otherwise)
        yield capture
    finally:
        capture.release()
