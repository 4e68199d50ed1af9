# SPDX-License-Identifier: Apache-2.0
"""`st3r map`: maps a sequence of images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from st3r_ros.commands.interrupt import Interrupt
from st3r_ros.commands.progress import Display, make_display
from st3r_ros.commands.report import input_lines, print_summary
from st3r_ros.commands.saved_map import begin_in_saved_map, check_map_options, save_for_later, with_frames_from
from st3r_ros.commands.settings import Settings
from st3r_ros.commands.truth import truth_for
from st3r_ros.config import MapCommandConfig
from st3r_ros.errors import DeviceMemoryError, FrameError
from st3r_ros.io.calibration import read_calibration
from st3r_ros.io.masks import Masks
from st3r_ros.recorder import RunRecorder
from st3r_ros.results import RunInfo, check_output_folder, write_results
from st3r_ros.runtime import start_pair_model
from st3r_ros.sequences import ImageSequence, open_sequence
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, MappingState, PairModel

NOTHING_TRACKED = 1


def run_map(source: str, config: MapCommandConfig, settings: Settings) -> int:
    """Maps a source and writes the results. Returns the exit code: 0, 1 when nothing could be tracked, 128 + signal.

    Raises:
        St3rError: the input, the output folder, a setting or the model cannot be used.
    """
    camera = read_calibration(config.camera) if config.camera else None
    sequence = open_sequence(source, camera=camera, every=config.every, max_frames=config.max_frames or None)
    truth = truth_for(sequence, config.truth)
    masks = Masks(config.masks) if config.masks else None
    out = Path(config.out)
    check_map_options(config)
    check_output_folder(out)
    model = start_pair_model(config.pair_model, config.checkpoint, settings.pair.get(config.pair_model))
    mapper = Mapper(model, settings.mapper, relocalizer=settings.relocalizer)
    begin_in_saved_map(mapper, model, config)
    loaded_frames, first_keyframe = len(mapper.map.frames), max(mapper.map.keyframes, default=-1) + 1
    recorder = RunRecorder()
    notes = [*truth.notes] if config.camera else [*truth.notes, *uncalibrated_note(sequence, mapper, model)]

    with Interrupt(sequence.stop) as interrupt:
        ended = False
        try:
            with make_display(sequence.name, sequence.length) as display:
                map_sequence(mapper, sequence, recorder, display, interrupt, masks, notes)
            ended = True
        finally:
            # Also when something breaks half way: what was mapped so far is not lost.
            if interrupt.signal is not None and not recorder.frames:
                print(f"Interrupted by {interrupt.name} before the first image; nothing is written.", file=sys.stderr)
            elif ended or recorder.frames:
                try:
                    shown = with_frames_from(mapper.map, loaded_frames)
                    info = RunInfo(sequence.name, model.name, config.map, first_keyframe, sequence.camera)
                    summary = write_results(
                        out,
                        shown,
                        recorder,
                        info,
                        cloud_config=settings.cloud,
                        truth=truth.trajectory,
                        truth_notes=truth.notes,
                    )
                    print_summary(summary, out, interrupted_by=interrupt.name if interrupt.signal else "")
                finally:
                    save_for_later(mapper.map, model.name, config)
    return interrupt.exit_code or (0 if summary.tracked else NOTHING_TRACKED)


def uncalibrated_note(sequence: ImageSequence, mapper: Mapper, model: PairModel) -> list[str]:
    """What is done about images without a calibration; nothing where they have one, or the map that they continue has."""
    calibrated = sequence.camera is not None or any(keyframe.K_known for keyframe in mapper.map.keyframes.values())
    return [] if calibrated else [f"The images have no calibration: {model.traits.uncalibrated}."]


def map_sequence(
    mapper: Mapper,
    sequence: ImageSequence,
    recorder: RunRecorder,
    display: Display,
    interrupt: Interrupt,
    masks: Masks | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Feeds every frame to the mapper until the sequence ends or a signal comes. Unusable frames are skipped and counted.

    notes: to be said beside those of the sequence.
    """
    unreadable, begun = 0, False
    for frame in sequence:
        if interrupt.signal is not None:
            break
        if not begun:
            begun = True
            for line in input_lines(sequence, notes):
                display.say(line)
        unreadable = _note_unreadable(sequence, recorder, unreadable)
        size = (frame.image.shape[1], frame.image.shape[0])
        if sequence.size not in (None, size):
            recorder.skip(frame.id, _named(frame), _other_size(size, sequence.size))
            continue
        jump = mapper.notice_time_jump(frame)
        if jump:
            display.say(f"Frame {frame.id}: {jump}")
        before = mapper.state
        try:
            update = mapper.register_frame(frame if masks is None else masks.apply(frame))
        except (FrameError, DeviceMemoryError) as error:
            recorder.skip(frame.id, f"frame {frame.id}", str(error))
            continue
        recorder.record(update, frame.source)
        display.show(recorder, len(mapper.map.keyframes))
        if update.note or (update.state is not before and MappingState.LOST in (update.state, before)):
            display.say(f"Frame {update.frame_id}: {update.message}")
    _note_unreadable(sequence, recorder, unreadable)


def _named(frame: Frame) -> str:
    file = Path(frame.source)
    return file.name if file.is_file() else f"frame {frame.id}"


def _other_size(size: tuple[int, int], mapped: tuple[int, int]) -> str:
    return f"It is {size[0]}x{size[1]} pixels but images of {mapped[0]}x{mapped[1]} are mapped; one map needs one image size."


def _note_unreadable(sequence: ImageSequence, recorder: RunRecorder, noted: int) -> int:
    """Records what the sequence has skipped since: frames, and damage of the source, which is no frame; returns their number."""
    for item in sequence.skipped[noted:]:
        if item.source == sequence.name:
            recorder.note(f"The bag is damaged: {item.reason}" if sequence.kind == "bag" else item.reason)
        else:
            recorder.skip(item.index, item.source, item.reason)
    return len(sequence.skipped)
