# SPDX-License-Identifier: Apache-2.0
"""What every frame goes through first: it is checked, gets the calibration to use, and loses its lens distortion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.errors import FrameError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.undistortion import Undistorter
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Frame

MIN_SIDE = 16
CHANGE_FRAMES, CHANGE_LIMIT = 3, 10
"""A young stream takes another image size when so many frames in a row have it, more than had the first one."""
CHANGED = 0.02
"""Share of the focal length, and of the width for the principal point, from which a calibration is another one. Autofocus moves
the focal length by about a per cent."""
CHANGED_COEFFICIENT = 0.01


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
        return replace(frame, image=image, camera=undistorter.camera, lens=camera, mask=mask)


# The calibration -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MapStage:
    """How far a map is. starting: it waits for depth. begun: it has frames of this run. settled: it is more than a start, or was
    loaded. frozen: it does not change."""

    starting: bool = False
    begun: bool = False
    settled: bool = False
    frozen: bool = False


@dataclass(frozen=True, eq=False)
class Ruling:
    """A frame with the calibration to use; what is to be said, "" for nothing; whether the map begins again with it."""

    frame: Frame
    note: str = ""
    begin_again: bool = False


class StreamCamera:
    """A map has one kind of camera: a calibration that arrives late begins a start again, and is not used for a map.

    Images without one that continue a calibrated map were taken by its camera, unless it is told. A map that has barely begun
    begins again with a changed calibration: drivers mend the first.

    continued: the map that the images continue. lent: whether they have its camera.
    """

    def __init__(self, continued: KeyframeMap | None = None) -> None:
        self.lent = False
        self._calibrated: bool | None = None
        self._told_late = False
        self._watch = CameraWatch()
        self._of_map = None if continued is None else camera_of(continued)

    def rule(self, frame: Frame, stage: MapStage) -> Ruling:
        """What calibration the next frame has."""
        lent = self._completed(frame)
        if lent.frame.camera is not None and self._calibrated is False:
            settled = self._late(lent.frame, stage)
        else:
            settled = lent
            self._calibrated = lent.frame.camera is not None
        changed = self._changed(settled.frame, stage)
        again = settled.begin_again or changed.begin_again
        return Ruling(settled.frame, changed.note or settled.note or lent.note, again)

    def _completed(self, frame: Frame) -> Ruling:
        """A frame without calibration with that of the map, where its image has the same shape."""
        size = frame.image.shape[1], frame.image.shape[0]
        of_map = self._of_map
        if frame.camera is not None or of_map is None or not same_shape(size, (of_map.width, of_map.height)):
            return Ruling(frame)
        note = ""
        if self._calibrated is None:
            note = (
                "The images have no calibration: that of the map is used, with a focal length of "
                f"{of_map.K[0, 0]:.0f} pixels for images {of_map.width} pixels wide."
            )
        self.lent = True
        return Ruling(replace(frame, camera=of_map.scaled(*size)), note)

    def _late(self, frame: Frame, stage: MapStage) -> Ruling:
        """The first calibration after frames without one."""
        if stage.begun:
            said, self._told_late = self._told_late, True
            note = "" if said else "The calibration arrived after mapping had started without it, so it is not used."
            return Ruling(replace(frame, camera=None), note)
        self._calibrated = True
        if not stage.starting:
            return Ruling(frame)
        return Ruling(frame, "The calibration has arrived: the start begins again with it.", begin_again=True)

    def _changed(self, frame: Frame, stage: MapStage) -> Ruling:
        change = self._watch.look(frame.camera)
        if not change:
            return Ruling(frame)
        if self._watch.alternates:
            return Ruling(frame, f"{change}. Do two nodes publish camera_info?")
        if stage.frozen:
            return Ruling(frame, f"{change}. If nobody has zoomed, one of the two is wrong, and so are the poses by it.")
        if stage.settled:
            note = f"{change}; keyframes of both are in the map. If nobody has zoomed, the map is wrong: begin a new one."
            return Ruling(frame, note)
        return Ruling(frame, f"{change}; the map begins again with it.", begin_again=True)


def camera_of(keyframe_map: KeyframeMap) -> Camera | None:
    """The camera of the newest calibrated keyframe, as it has taken the image; None without any."""
    newest = next((k for k in reversed(keyframe_map.keyframes.values()) if k.K_known), None)
    return None if newest is None else newest.lens or Camera(newest.image.shape[1], newest.image.shape[0], newest.K)


def same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes have the same shape, but for rounding."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(*a, *b)


class CameraWatch:
    """The calibrations of a stream. alternates: whether an earlier one has come back."""

    def __init__(self) -> None:
        self.alternates = False
        self._seen: list[Camera] = []

    def look(self, camera: Camera | None) -> str:
        """What has changed with the next image, "" for nothing; each calibration is told once."""
        if camera is None or (self._seen and _alike(camera, self._seen[-1])):
            return ""
        last = self._seen[-1] if self._seen else None
        known = next((k for k, seen in enumerate(self._seen) if _alike(camera, seen)), None)
        if known is not None:
            self._seen.append(self._seen.pop(known))
            said, self.alternates = self.alternates, True
            return "" if said or last is None else f"The calibration goes back and forth: {_difference(last, camera)}"
        self._seen.append(camera)
        return "" if last is None or self.alternates else f"The calibration has changed: {_difference(last, camera)}"


def _alike(a: Camera, b: Camera) -> bool:
    if a is b:
        return True
    if (a.width, a.height, a.distortion_model, len(a.distortion)) != (b.width, b.height, b.distortion_model, len(b.distortion)):
        return False
    focal = np.abs(np.log(a.K[[0, 1], [0, 1]] / b.K[[0, 1], [0, 1]])).max()
    centre = np.abs(a.K[:2, 2] - b.K[:2, 2]).max() / a.width
    return bool(focal < CHANGED and centre < CHANGED and np.allclose(a.distortion, b.distortion, atol=CHANGED_COEFFICIENT))


def _difference(before: Camera, now: Camera) -> str:
    f0, f1 = (float(camera.K[0, 0]) for camera in (before, now))
    if abs(math.log(f1 / f0)) >= CHANGED:
        return f"its focal length is {f1:.0f} px instead of {f0:.0f}"
    if np.abs(before.K[:2, 2] - now.K[:2, 2]).max() >= CHANGED * now.width:
        (x0, y0), (x1, y1) = before.K[:2, 2], now.K[:2, 2]
        return f"its principal point is ({x1:.0f}, {y1:.0f}) instead of ({x0:.0f}, {y0:.0f})"
    return "its distortion is another one"
