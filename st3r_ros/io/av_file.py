# SPDX-License-Identifier: Apache-2.0
"""Video files through PyAV, which is optional: for codecs that OpenCV's own FFmpeg cannot decode."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from st3r_ros.errors import FrameError

if TYPE_CHECKING:
    import av

Load = Callable[[], "np.ndarray | None"]
"""Makes the (H, W, 3) uint8 RGB image of a frame; None when that fails."""


@dataclass(frozen=True)
class VideoInfo:
    """fps: 0 if unknown. frames: as the file announces them, 0 if it does not."""

    fps: float
    frames: int


def is_installed() -> bool:
    """Whether PyAV can be imported."""
    return importlib.util.find_spec("av") is not None


def probe(path: Path) -> VideoInfo | None:
    """The facts of a video whose first frame PyAV can decode; None when it cannot, or is not installed."""
    if not is_installed():
        return None
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            next(container.decode(stream))
            return VideoInfo(float(stream.average_rate or 0), stream.frames)
    except (av.error.FFmpegError, IndexError, StopIteration, ValueError):
        return None


def frames(path: Path) -> Iterator[tuple[int, Load]]:
    """The presentation time in nanoseconds of each frame (-1 where it has none), and what makes its image.

    Raises:
        FrameError: the file breaks off.
    """
    import av

    try:
        with av.open(str(path)) as container:
            for frame in container.decode(container.streams.video[0]):
                known = frame.pts is not None and frame.time_base is not None
                yield round(frame.pts * frame.time_base * 10**9) if known else -1, partial(_upright, frame)
    except av.error.FFmpegError as error:
        raise FrameError(f"'{path.name}' cannot be decoded any further: {error.strerror}.") from error


def _upright(frame: av.VideoFrame) -> np.ndarray:
    quarters = round(getattr(frame, "rotation", 0) / 90)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))
