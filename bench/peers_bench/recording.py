# SPDX-License-Identifier: Apache-2.0
"""A sequence as files that every system reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from st3r_ros.errors import InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.stamps import format_stamp
from st3r_ros.sequences import open_sequence
from st3r_ros.types import Trajectory

LIST = "rgb.txt"


@dataclass(frozen=True, eq=False)
class Recording:
    """N images with the distortion of their lens, in `folder`, in TUM's layout.

    files: (N,) their names. stamps_ns: (N,) int64. camera: of the images. truth: T_world_cam where it is known.
    """

    folder: Path
    files: tuple[str, ...]
    stamps_ns: np.ndarray
    camera: Camera
    truth: Trajectory | None

    @property
    def interval(self) -> float:
        """Median time from image to image, seconds."""
        return float(np.median(np.diff(self.stamps_ns))) * 1e-9 if len(self.files) > 1 else 1.0


@dataclass(frozen=True, eq=False)
class Placed:
    """What a system makes of a recording: the poses T_world_cam of the images it places, and milliseconds per image.

    note: why there are none, "" otherwise.
    """

    trajectory: Trajectory
    ms: float
    note: str = ""


NO_POSES = Trajectory(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 4)))


def record(source: str, folder: Path, every: int = 1, max_frames: int | None = None) -> Recording:
    """Writes the images of an input of `st3r map` into a folder. every, max_frames: as for `open_sequence`.

    Raises:
        InputError: the input has no calibration.
    """
    sequence = open_sequence(source, every=every, max_frames=max_frames)
    camera, files, stamps_ns = None, [], []
    for frame in sequence:
        if frame.camera is None:
            raise InputError(f"'{source}' has no calibration, which all systems are told.")
        camera = frame.camera
        files.append(f"{frame.id:06d}.png")
        stamps_ns.append(frame.stamp_ns)
        cv2.imwrite(str(folder / files[-1]), frame.image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    lines = [f"{format_stamp(stamp)} {file}\n" for stamp, file in zip(stamps_ns, files, strict=True)]
    (folder / LIST).write_text("".join(lines))
    assert camera is not None  # a sequence without any image raises
    return Recording(folder, tuple(files), np.array(stamps_ns, np.int64), camera, sequence.truth)
