# SPDX-License-Identifier: Apache-2.0
"""One run, without ROS: a frame in, what happened out, everything recorded. For `st3r map`, the mapping node and benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from st3r_ros.errors import DeviceMemoryError, FrameError, St3rError
from st3r_ros.recorder import RunRecorder
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, MappingState, MappingUpdate

UNUSABLE = (FrameError, DeviceMemoryError)
"""Errors that concern one frame: it is skipped."""


@dataclass(frozen=True, eq=False)
class FrameOutcome:
    """What a run did with one frame.

    frame, update: None for a skipped one. reason: why it was skipped, a sentence; "" for a registered one.
    time_jump: a sentence where the stamps have gone back, otherwise "". turned: whether the camera has just been lost or found.
    changed: whether the state of the mapper, or what gives the map its scale, is another than before.
    """

    frame_id: int
    frame: Frame | None = None
    update: MappingUpdate | None = None
    reason: str = ""
    time_jump: str = ""
    turned: bool = False
    changed: bool = False

    @property
    def events(self) -> list[str]:
        """Sentences about what does not happen with most frames, without the reason of a skipped one."""
        rare = self.update is not None and (self.update.note or self.turned)
        return [sentence for sentence in (self.time_jump, self.update.message if self.update and rare else "") if sentence]


class MappingRun:
    """Feeds frames to a mapper and records them. Not thread-safe, but any thread may read the `recorder` and the counts.

    recorder: of every frame since the run began. loaded_frames: frames of the map that the run continues. first_keyframe: id from
    which on keyframes are of this run. unusable: errors for which a frame is skipped and counted with its reason.
    """

    def __init__(self, mapper: Mapper, unusable: tuple[type[St3rError], ...] = UNUSABLE) -> None:
        self.mapper, self._unusable = mapper, unusable
        self._numbered = 0
        self._begin()

    def load(self, keyframe_map: KeyframeMap, *, frozen: bool = False) -> None:
        """Begins anew in a saved map, as `Mapper.load` has it."""
        self.mapper.load(keyframe_map, frozen=frozen)
        self._begin()

    def reset(self) -> None:
        """Begins anew: with an empty map, or in the same one where it is frozen."""
        if self.mapper.frozen:
            self.mapper.load(self.mapper.map, frozen=True)
        else:
            self.mapper.reset()
        self._begin()

    def register(self, frame: Frame, name: str = "") -> FrameOutcome:
        """Maps a frame of a sequence, which has its number. name: of the frame, should it be skipped.

        Raises:
            St3rError: the mapper cannot go on; no error of `unusable`.
        """
        return self._register(frame.id, lambda number: frame, name or f"frame {frame.id}")

    def register_next(self, make: Callable[[int], Frame], name: str) -> FrameOutcome:
        """Maps an image of a stream: numbers it, and makes its frame by the number. The time of the run begins with the first.

        make: may raise an error of `unusable`. name: of the image, should it be skipped.
        """
        if self._numbered == 0:
            self.recorder = RunRecorder()
        number, self._numbered = self._numbered, self._numbered + 1
        return self._register(number, make, name)

    def skip(self, frame_id: int, name: str, reason: str) -> FrameOutcome:
        """Counts a frame that cannot be used, with its reason."""
        self.recorder.skip(frame_id, name, reason)
        return FrameOutcome(frame_id, reason=reason)

    def _begin(self) -> None:
        self.recorder = RunRecorder()
        self.loaded_frames = len(self.mapper.map.frames)
        self.first_keyframe = max(self.mapper.map.keyframes, default=-1) + 1
        self._numbered = 0

    def _register(self, number: int, make: Callable[[int], Frame], name: str) -> FrameOutcome:
        standing, jump = self._standing(), ""
        try:
            frame = make(number)
            jump = self.mapper.notice_time_jump(frame)
            before = self.mapper.state
            update = self.mapper.register_frame(frame)
        except self._unusable as error:
            return replace(self.skip(number, name, str(error)), time_jump=jump, changed=self._standing() != standing)
        except Exception as error:
            self.recorder.skip(number, name, f"internal error: {error!r}")
            raise
        self.recorder.record(update, frame.source)
        turned = update.state is not before and MappingState.LOST in (update.state, before)
        return FrameOutcome(number, frame, update, "", jump, turned, self._standing() != standing)

    def _standing(self) -> tuple[MappingState, str]:
        return self.mapper.state, self.mapper.map.scale.source
