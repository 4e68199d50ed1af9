# SPDX-License-Identifier: Apache-2.0
"""What every frame goes through first: checks that it can be used and continues its stream, and removal of lens distortion."""

from __future__ import annotations

import dataclasses

import numpy as np

from st3r_ros.errors import FrameError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.undistortion import Undistorter
from st3r_ros.types import Frame

MIN_SIDE = 16
CHANGE_FRAMES, CHANGE_LIMIT = 3, 10
"""A young stream takes another image size when so many frames in a row have it, more than had the first one."""


class FrameStream:
    """The state of a stream that its next frame must agree with."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._admitted = 0
        self._other_shape: tuple[int, ...] | None = None
        self._others = 0
        self._last_stamp_ns: int | None = None

    def seconds_back(self, frame: Frame) -> float:
        """How far before the last stamp that of a frame lies; 0 where it does not."""
        return 0.0 if self._last_stamp_ns is None else max(0, self._last_stamp_ns - frame.stamp_ns) * 1e-9

    def forget_time(self) -> None:
        """The next stamp may be any."""
        self._last_stamp_ns = None

    def began_wrongly(self, frame: Frame) -> bool:
        """Whether the stream began with a few odd frames: this one and those refused before it share another image size.

        To be asked once for each frame, before it is admitted.
        """
        shape = frame.image.shape
        if self._shape is None or shape == self._shape:
            self._others = 0
            return False
        self._others = self._others + 1 if shape == self._other_shape else 1
        self._other_shape = shape
        return max(CHANGE_FRAMES, self._admitted + 1) <= self._others <= CHANGE_LIMIT

    @property
    def size(self) -> str:
        """Width and height of its images, for a person."""
        return "" if self._shape is None else f"{self._shape[1]}x{self._shape[0]}"

    def admit(self, frame: Frame) -> None:
        """Notes the frame as the newest of the stream.

        Raises FrameError, changing nothing, for a frame that cannot be used.
        """
        check_frame(frame)
        shape = frame.image.shape
        if self._shape is not None and shape != self._shape:
            raise FrameError(
                f"Frame {frame.id} is {shape[1]}x{shape[0]} but the stream began with {self._shape[1]}x{self._shape[0]}; "
                "one map needs one image size. For another one begin a new map (the node: ~/reset)."
            )
        if self._last_stamp_ns is not None and frame.stamp_ns <= self._last_stamp_ns:
            last = self._last_stamp_ns * 1e-9
            hint = "; does the driver set the stamps?" if frame.stamp_ns == self._last_stamp_ns else "."
            raise FrameError(f"Frame {frame.id} has stamp {frame.stamp:.9f} s, not later than the last one, {last:.9f} s{hint}")
        self._shape, self._last_stamp_ns = shape, frame.stamp_ns
        self._admitted += 1


def check_frame(frame: Frame) -> None:
    """Raises FrameError for a frame that cannot be used, whatever the others are."""
    shape = frame.image.shape
    if frame.image.ndim != 3 or shape[2] != 3 or frame.image.dtype != np.uint8:
        raise FrameError(f"Frame {frame.id} is an array of shape {shape}, {frame.image.dtype}; it must be (H, W, 3) uint8.")
    if min(shape[:2]) < MIN_SIDE:
        raise FrameError(f"Frame {frame.id} is {shape[1]}x{shape[0]} pixels; each side needs at least {MIN_SIDE}.")
    if frame.mask is not None and frame.mask.shape != shape[:2]:
        raise FrameError(
            f"Frame {frame.id} is {shape[1]}x{shape[0]} but its mask is {frame.mask.shape[1]}x{frame.mask.shape[0]}; "
            "give masks of the size of the images."
        )
    camera = frame.camera
    if camera is not None and (camera.width, camera.height) != (shape[1], shape[0]):
        raise FrameError(
            f"Frame {frame.id} is {shape[1]}x{shape[0]} but its calibration is for {camera.width}x{camera.height}; "
            "give the calibration of this image size."
        )


class LensCorrection:
    """Removes lens distortion; the tables of the last camera are kept."""

    def __init__(self) -> None:
        self._undistorter: Undistorter | None = None
        self._distorted: Camera | None = None

    def undistorted(self, frame: Frame) -> Frame:
        """The frame as a camera without distortion would have taken it."""
        camera = frame.camera
        if camera is None or not camera.has_distortion:
            return frame
        if self._undistorter is None or self._distorted != camera:
            self._undistorter, self._distorted = Undistorter(camera), camera
        undistorter = self._undistorter
        mask = None if frame.mask is None else undistorter.rectify(frame.mask.astype(np.uint8), nearest=True) > 0
        image = undistorter.rectify(frame.image)
        return dataclasses.replace(frame, image=image, camera=undistorter.camera, lens=camera, mask=mask)
