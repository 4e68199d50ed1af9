# SPDX-License-Identifier: Apache-2.0
"""Video files, decoded with OpenCV, or with PyAV (if installed) for codecs that OpenCV cannot decode (mostly AV1)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io import av_file
from st3r_ros.io.calibration import Calibration
from st3r_ros.io.picture import Picture
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage

DEFAULT_FPS = 30.0

_CUT_SHORT = 0.9  # of the announced frames; containers often miscount by a few
_CODECS = {
    "av01": "AV1",
    "avc1": "H.264",
    "h264": "H.264",
    "hev1": "H.265",
    "hvc1": "H.265",
    "hevc": "H.265",
    "vvc1": "H.266",
    "vp80": "VP8",
    "vp90": "VP9",
    "vp09": "VP9",
    "mp4v": "MPEG-4",
    "mjpg": "Motion JPEG",
}
_FIRST_BOXES, _MAX_BOXES = (b"ftyp", b"mdat", b"wide", b"free", b"skip"), 10_000

# The libraries' own messages name no file and tell a user nothing.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
if hasattr(cv2, "setLogLevel"):
    cv2.setLogLevel(2)  # errors
else:  # OpenCV 4.13 and later
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


class VideoSequence(ImageSequence):
    """A video file, turned upright where it says so. Stamps are the file's own presentation times; where it has none, frame i was
    taken at i / fps.

    The end of a file that was cut short is noted in `skipped`.

    Raises:
        InputError: no such file, a folder, no video, or a codec that cannot be decoded here.
    """

    kind = "video"

    def __init__(self, path: Path | str, camera: Camera | Calibration | None = None, selection: Selection | None = None) -> None:
        path = Path(path)
        if path.is_dir():
            raise InputError(f"'{path}' is a folder, not a video.")
        if not path.exists():
            raise InputError(f"There is no file '{path}'.")
        _check_index(path)
        self._path = path
        capture = cv2.VideoCapture(str(path))
        try:
            codec = _codec_of(capture) if capture.isOpened() else ""
            fps, total = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            self._by_opencv = capture.isOpened() and capture.grab()
        finally:
            capture.release()
        if not self._by_opencv:
            info = av_file.probe(path)
            if info is None:
                raise InputError(_why_not(path, codec))
            fps, total = info.fps, info.frames
        self._fps = fps if 0.1 < fps < 1e4 else DEFAULT_FPS
        self._total = total if 0 < total < 10**9 else None
        super().__init__(path.name, camera=camera, selection=selection or Selection(), total=self._total)
        self.source = str(path.resolve())

    def _entries(self) -> Iterator[Entry]:
        index, last_ns = 0, -1
        for shown_ns, load in self._by_opencv_frames() if self._by_opencv else av_file.frames(self._path):
            stamp_ns = shown_ns
            if stamp_ns <= last_ns:
                stamp_ns = max(round(index * 1e9 / self._fps), last_ns + 1)
            source = f"{self.name} frame {index}"
            yield Entry(source, partial(_stamped, load, stamp_ns, source))
            index, last_ns = index + 1, stamp_ns
        # With a variable rate the number of frames is a guess from the length in time, so both have to be short.
        shown_s = last_ns / 1e9 + 1.0 / self._fps
        if self._total is not None and index < _CUT_SHORT * self._total and shown_s < _CUT_SHORT * self._total / self._fps:
            raise FrameError(f"'{self.name}' ends after {index} of the {self._total} frames that it announces.")

    def _by_opencv_frames(self) -> Iterator[tuple[int, av_file.Load]]:
        """The presentation time in nanoseconds of each frame, and what decodes it."""
        with opened_capture(str(self._path), f"'{self._path}' can no longer be opened.") as capture:
            while capture.grab():
                yield round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6), partial(retrieve, capture)


@contextmanager
def opened_capture(source: str | int, otherwise: str) -> Iterator[cv2.VideoCapture]:
    """A capture of OpenCV, closed at the end. Raises InputError with the text `otherwise` when it does not open."""
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise InputError(otherwise)
        yield capture
    finally:
        capture.release()


def retrieve(capture: cv2.VideoCapture) -> np.ndarray | None:
    """The (H, W, 3) uint8 RGB image that was grabbed last, None when it cannot be decoded."""
    decoded, image = capture.retrieve()
    if not decoded or image is None or image.size == 0:
        return None
    code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(np.ascontiguousarray(image), code)


def _stamped(load: av_file.Load, stamp_ns: int, source: str) -> StampedImage:
    image = load()
    if image is None:
        raise FrameError(f"{source} cannot be decoded.")
    return StampedImage(stamp_ns, Picture(image))


def _codec_of(capture: cv2.VideoCapture) -> str:
    """The four characters that name the codec."""
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(8, "little", signed=True)[:4].decode("ascii", "replace").strip("\0 ")


def _why_not(path: Path, codec: str) -> str:
    """Why neither library can decode a file. codec: "" when OpenCV cannot open it."""
    convert = f"ffmpeg -i {shlex.quote(str(path))} -c:v libx264 -crf 18 {shlex.quote(path.stem + '_h264.mp4')}"
    install = "" if av_file.is_installed() else " PyAV decodes more: pip install av."
    if not codec:
        if not _is_container(path):
            return f"'{path}' is not a video that OpenCV can play."
        return f"'{path}' has a codec that OpenCV does not know, or is damaged.{install} Convert it: {convert}"
    name = _CODECS.get(codec.lower(), "")
    codec = f"{name} ({codec})" if name else f"of the codec {codec}"
    if name not in ("AV1", "H.266", ""):
        return f"'{path}' is {codec}, but not one frame of it can be decoded: it is damaged or was cut off.{install}"
    return f"'{path}' is {codec}, which OpenCV cannot decode here.{install} Or convert it: {convert}"


def _is_container(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] in (b"ftyp", b"moov", b"mdat") or head[:4] in (b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"FLV\x01")


def _check_index(path: Path) -> None:
    """Raises InputError for an MP4 or MOV whose index (the box `moov`) was never written or was cut off."""
    boxes, whole = _top_boxes(path)
    indexed = b"moof" in boxes or (b"moov" in boxes and (whole or boxes[-1] != b"moov"))
    if b"mdat" in boxes and not indexed:
        raise InputError(
            f"'{path}' is incomplete: its index (moov), which is written last, is missing. The recording was not stopped "
            "properly or the copy was truncated; copy it again, or repair it with a tool such as untrunc."
        )


def _top_boxes(path: Path) -> tuple[list[bytes], bool]:
    """The boxes of an MP4 or MOV, none for other files; and whether the last one is whole."""
    size, at = path.stat().st_size, 0
    boxes: list[bytes] = []
    with path.open("rb") as file:
        while at < size and len(boxes) < _MAX_BOXES:
            file.seek(at)
            head = file.read(16)
            if len(head) < 8 or not (boxes or head[4:8] in _FIRST_BOXES):
                return boxes, False
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length or size - at
            boxes.append(head[4:8])
            at += max(length, 8)
    return boxes, at == size
