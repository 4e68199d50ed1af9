# SPDX-License-Identifier: Apache-2.0
"""A run without ROS: what it says of each frame, counts and begins anew."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import FrameError, MapFileError
from st3r_ros.mapping_run import MappingRun
from st3r_ros.pair import load_pair_model
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, MappingState

SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(SimulatedSequence(SimulationConfig(seed=3, frames=30, width=320, height=240)))


@pytest.fixture
def run() -> MappingRun:
    return MappingRun(Mapper(load_pair_model("opencv")))


def later(frames: list[Frame], seconds: float) -> Iterator[Frame]:
    return (replace(frame, stamp_ns=frame.stamp_ns + int(seconds * SECOND_NS)) for frame in frames)


def test_every_frame_has_an_outcome_and_is_recorded(run: MappingRun, frames: list[Frame]) -> None:
    outcomes = [run.register(frame) for frame in frames]
    assert [outcome.frame_id for outcome in outcomes] == [frame.id for frame in frames]
    assert all(outcome.frame is frame for outcome, frame in zip(outcomes, frames, strict=True))
    assert outcomes[-1].update is not None and outcomes[-1].update.state is MappingState.TRACKING
    assert (run.recorder.frames, run.recorder.skipped) == (len(frames), 0)
    assert (run.loaded_frames, run.first_keyframe) == (0, 0)


def test_an_unusable_frame_is_skipped_with_its_reason(run: MappingRun, frames: list[Frame]) -> None:
    run.register(frames[0])
    flat = replace(frames[1], image=np.zeros((240, 320), np.uint8))
    outcome = run.register(flat, "flat.png")
    assert outcome.update is None and outcome.frame is None and outcome.reason
    (skip,) = run.recorder.skips
    assert (skip.frame, skip.source, skip.reason) == (1, "flat.png", outcome.reason)
    assert run.register(frames[2]).update is not None


def test_a_lost_camera_and_a_time_jump_are_events(run: MappingRun, frames: list[Frame]) -> None:
    for frame in frames:
        run.register(frame)
    dark = replace(frames[0], id=30, stamp_ns=frames[-1].stamp_ns + SECOND_NS, image=np.zeros_like(frames[0].image))
    lost = run.register(dark)
    assert lost.turned and lost.changed and lost.update is not None and lost.events == [lost.update.message]
    again = run.register(replace(dark, id=31, stamp_ns=dark.stamp_ns + 1))
    assert not again.turned and not again.changed and again.events == []
    back = run.register(frames[0])
    assert "Time went back" in back.time_jump and back.events[0] == back.time_jump


def test_a_stream_is_numbered_by_the_run(run: MappingRun, frames: list[Frame]) -> None:
    def make(number: int) -> Frame:
        if number == 1:
            raise FrameError("The image is damaged.")
        return replace(frames[number], id=number)

    outcomes = [run.register_next(make, "/camera") for _ in range(3)]
    assert [(outcome.frame_id, outcome.reason) for outcome in outcomes] == [(0, ""), (1, "The image is damaged."), (2, "")]
    assert run.recorder.skips[0].source == "/camera"
    run.reset()
    assert run.register_next(make, "/camera").frame_id == 0 and run.recorder.frames == 1


def test_other_errors_end_the_run_and_are_counted(run: MappingRun, frames: list[Frame]) -> None:
    def fail(number: int) -> Frame:
        raise MapFileError("The images have another shape.")

    with pytest.raises(MapFileError):
        run.register_next(fail, "/camera")
    assert "internal error" in run.recorder.skips[0].reason
    tolerant = MappingRun(run.mapper, unusable=(MapFileError,))
    assert tolerant.register_next(fail, "/camera").reason == "The images have another shape."


def test_a_run_begins_anew_in_a_map(run: MappingRun, frames: list[Frame]) -> None:
    for frame in frames:
        run.register(frame)
    made = run.mapper.map
    run.load(made, frozen=True)
    assert run.recorder.frames == 0
    assert (run.loaded_frames, run.first_keyframe) == (len(made.frames), max(made.keyframes) + 1)
    assert run.register(next(later(frames[10:], 100.0))).update is not None
    run.reset()
    assert run.mapper.map is made and run.recorder.frames == 0
    run.load(made)
    run.reset()
    assert not run.mapper.map.frames and (run.loaded_frames, run.first_keyframe) == (0, 0)
