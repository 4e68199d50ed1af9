# SPDX-License-Identifier: Apache-2.0
"""What a frame truly sees: its depth and pose, from any sequence that has both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from st3r_ros.errors import FrameError, InputError
from st3r_ros.eval.association import MATCH_TOLERANCE_NS, associate
from st3r_ros.eval.depth import resample_depth
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.sequence import Selection, SkippedFrame
from st3r_ros.types import Frame

if TYPE_CHECKING:
    from st3r_ros.geometry.camera import Camera

GRID_PX = 4
RECENT_VIEWS = 4


@dataclass(frozen=True, eq=False)
class TrueView:
    """depth: (h, w) float32 metres along the optical axis, 0 = none. K: (3, 3) float64, of an ideal lens. T_world_cam: pose."""

    depth: np.ndarray
    K: np.ndarray
    T_world_cam: SE3

    @cached_property
    def grid_pixels(self) -> np.ndarray:
        """(N, 2) float32: every fourth pixel along each side, where there is depth."""
        y, x = np.mgrid[GRID_PX // 2 : self.depth.shape[0] : GRID_PX, GRID_PX // 2 : self.depth.shape[1] : GRID_PX]
        seen = self.depth[y, x] > 0
        return np.stack([x[seen], y[seen]], axis=1).astype(np.float32)

    @cached_property
    def grid_points(self) -> np.ndarray:
        """(N, 3) float64: the world points at `grid_pixels`."""
        x, y = self.grid_pixels.astype(np.int64).T
        points = np.stack([(x - self.K[0, 2]) / self.K[0, 0], (y - self.K[1, 2]) / self.K[1, 1], np.ones(len(x))], axis=1)
        return self.T_world_cam @ (points * self.depth[y, x, None])

    @cached_property
    def median_depth(self) -> float:
        """Of the grid; 1 for a view without depth."""
        x, y = self.grid_pixels.astype(np.int64).T
        return float(np.median(self.depth[y, x])) if len(x) else 1.0


class TrueViews:
    """The true views of a sequence's frames, by their stamps; the depth image and the true pose lie within 20 ms of it.

    longer_side: of the working images, pixels; smaller images are not enlarged. Depth images of another camera (kitchen) are
    resampled to the colour camera.

    Raises:
        InputError: the sequence has no depth, no poses or no calibration.
    """

    def __init__(self, sequence: Any, longer_side: int) -> None:
        missing = [name for name in ("depth", "truth", "camera") if getattr(sequence, name, None) is None]
        if missing:
            raise InputError(
                f"'{sequence.name}' has no {missing[0]}; noisy_depth needs depth images, true poses and a calibration "
                "(in TUM layout depth.txt, groundtruth.txt and camera.yaml), or a simulated sequence."
            )
        self.source_camera: Camera = sequence.camera
        self._depth = sequence.depth
        self._stamps_ns, self._T_world_cam = _poses(sequence)
        scale = min(1.0, longer_side / max(sequence.camera.width, sequence.camera.height))
        size = (round(sequence.camera.width * scale), round(sequence.camera.height * scale))
        self.camera: Camera = sequence.camera.without_distortion().scaled(*size)
        """Of the working images."""
        self._depth_camera: Camera = self._depth.camera or sequence.camera
        self._recent: OrderedDict[int, TrueView] = OrderedDict()
        self._lookups: dict[tuple[int, ...], np.ndarray] = {}

    def has(self, stamp_ns: int) -> bool:
        """Whether the frame of this stamp has both."""
        return self._indices(stamp_ns) is not None

    def of(self, frame: Frame) -> TrueView:
        """The true view of a frame; the last few are kept.

        Raises:
            FrameError: it has no depth image or no true pose, or the depth image cannot be read.
        """
        if frame.stamp_ns not in self._recent:
            self._recent[frame.stamp_ns] = self._load(frame)
            if len(self._recent) > RECENT_VIEWS:
                self._recent.popitem(last=False)
        return self._recent[frame.stamp_ns]

    def _load(self, frame: Frame) -> TrueView:
        indices = self._indices(frame.stamp_ns)
        if indices is None:
            raise FrameError(
                f"Frame {frame.id} at {frame.stamp:.6f} s has no depth image and true pose within "
                f"{MATCH_TOLERANCE_NS / 1e6:.0f} ms; leave it out."
            )
        of_depth, of_pose = indices
        return TrueView(self._resampled(self._depth.depth(of_depth)), self.camera.K, self._T_world_cam[of_pose])

    def _indices(self, stamp_ns: int) -> tuple[int, int] | None:
        """Of the depth image and of the true pose."""
        found = [associate(np.array([stamp_ns]), stamps) for stamps in (self._depth.stamps_ns, self._stamps_ns)]
        return (int(found[0].references[0]), int(found[1].references[0])) if len(found[0]) and len(found[1]) else None

    def _resampled(self, depth: np.ndarray) -> np.ndarray:
        """(H, W) of the depth camera to (h, w) float32 of the working camera, by nearest pixels; which ones is computed once."""
        if depth.shape not in self._lookups:
            numbered = np.arange(1, depth.size + 1).reshape(depth.shape)
            size = self.camera.height, self.camera.width
            self._lookups[depth.shape] = resample_depth(numbered, self._depth_camera, self.camera.K, *size).astype(np.int32)
        return np.take(np.append(np.float32(0.0), depth.astype(np.float32)), self._lookups[depth.shape])


def _poses(sequence: Any) -> tuple[np.ndarray, SE3]:
    """Stamps (N,) and true poses (N,). A simulated camera has a pose also when it is shown a white wall, without depth."""
    if sequence.kind == "sim":
        return sequence.stamps_ns, sequence.T_world_cam
    truth = sequence.truth
    return truth.stamps_ns, SE3.from_quaternion_xyzw(truth.quaternions_xyzw, truth.positions)


class DepthFrames:
    """The frames of a sequence that have depth and a true pose, numbered anew. Follows `ImageSequence`.

    calibrated: whether frames carry their camera. every, max_frames: which of them are taken, 0 = all. pictures: False gives
    simulated frames a shading of their depth instead of their textures, at the working size; that is faster and makes no
    difference to noisy_depth.
    """

    def __init__(
        self,
        sequence: Any,
        views: TrueViews,
        *,
        calibrated: bool = True,
        every: int = 1,
        max_frames: int = 0,
        pictures: bool = False,
    ) -> None:
        self.name, self.kind, self.truth, self.depth = sequence.name, sequence.kind, sequence.truth, sequence.depth
        self._sequence, self._views, self._calibrated = sequence, views, calibrated
        self.skipped: list[SkippedFrame] = []
        self._selection = Selection(every, max_frames or None)
        self._shaded = sequence.kind == "sim" and not pictures
        camera = views.camera if self._shaded else sequence.camera
        self.camera = camera if calibrated else None
        with_depth = len(sequence.depth.stamps_ns)
        self.length = self._selection.count(with_depth if sequence.length is None else min(sequence.length, with_depth))

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        frames = self._shaded_frames(self._chosen_stamps()) if self._shaded else self._recorded_frames()
        for index, frame in enumerate(frames):
            try:
                self._views.of(frame)  # loaded here, so that it does not count as mapping
            except FrameError as error:
                self.skipped.append(SkippedFrame(index, f"{frame.stamp:.6f} s", str(error)))
                continue
            yield replace(frame, id=index)

    def at(self, stamps_ns: Collection[int]) -> dict[int, Frame]:
        """The frames of these stamps."""
        if self._shaded:
            return {frame.stamp_ns: frame for frame in self._shaded_frames(sorted(stamps_ns))}
        return {frame.stamp_ns: frame for frame in self._recorded_frames() if frame.stamp_ns in stamps_ns}

    def _chosen_stamps(self) -> np.ndarray:
        """Those of the simulated frames that are taken."""
        stamps = self._sequence.stamps_ns
        return stamps[self._selection.indices(len(stamps))]

    def _recorded_frames(self) -> Iterator[Frame]:
        seen = (frame for frame in self._sequence if self._views.has(frame.stamp_ns))
        count = self._selection.max_frames
        for frame in islice(seen, 0, None if count is None else count * self._selection.every, self._selection.every):
            yield frame if self._calibrated else replace(frame, camera=None)

    def _shaded_frames(self, stamps_ns: Iterable[int]) -> Iterator[Frame]:
        for stamp_ns in stamps_ns:
            frame = Frame(0, int(stamp_ns), np.zeros((0, 0, 3), np.uint8), self.camera)
            yield replace(frame, image=shaded(self._views.of(frame)))


def shaded(view: TrueView) -> np.ndarray:
    """(h, w, 3) uint8: a picture of the depth, brighter where a surface is near and faces the camera."""
    log_depth = np.log(np.maximum(view.depth, 1e-3))
    slope = view.K[0, 0] * np.hypot(cv2.Sobel(log_depth, -1, 1, 0, scale=0.125), cv2.Sobel(log_depth, -1, 0, 1, scale=0.125))
    brightness = 230.0 / np.sqrt(1.0 + slope**2) / (1.0 + 0.1 * view.depth) * (view.depth > 0)
    return np.repeat(brightness.astype(np.uint8)[..., None], 3, axis=2)
