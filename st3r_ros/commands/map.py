# SPDX-License-Identifier: Apache-2.0
"""`st3r map`: maps a sequence of images."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from st3r_ros.commands.interrupt import Interrupt
from st3r_ros.commands.progress import Display, make_display
from st3r_ros.commands.report import input_lines, print_summary
from st3r_ros.commands.saved_map import check_map_options, save_for_later, with_frames_from
from st3r_ros.commands.settings import Settings
from st3r_ros.commands.truth import truth_for
from st3r_ros.config import MapCommandConfig
from st3r_ros.errors import FrameError
from st3r_ros.io.calibration import read_calibration
from st3r_ros.io.masks import Masks
from st3r_ros.mapping_run import MappingRun
from st3r_ros.recorder import RunRecorder
from st3r_ros.results import RunInfo, check_output_folder, write_results
from st3r_ros.runtime import start_pair_model
from st3r_ros.saved_maps import open_map
from st3r_ros.sequences import FrameSequence, open_sequence
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, PairModel

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
    run = MappingRun(Mapper(model, settings.mapper, relocalizer=settings.relocalizer))
    if config.map:
        run.load(open_map(config.map, model.name, config.checkpoint).map, frozen=config.localize_only)
    notes = [*truth.notes] if config.camera else [*truth.notes, *uncalibrated_note(sequence, run.mapper, model)]

    with Interrupt(sequence.stop) as interrupt:
        ended = False
        try:
            with make_display(sequence.name, sequence.length) as display:
                map_sequence(run, sequence, display, interrupt, masks, notes)
                if config.refine and interrupt.signal is None:
                    refine_map(run, display)
            ended = True
        finally:
            # Also when something breaks half way: what was mapped so far is not lost.
            if interrupt.signal is not None and not run.recorder.frames:
                print(f"Interrupted by {interrupt.name} before the first image; nothing is written.", file=sys.stderr)
            elif ended or run.recorder.frames:
                try:
                    shown = with_frames_from(run.mapper.map, run.loaded_frames)
                    info = RunInfo(sequence.name, model.name, config.map, run.first_keyframe, sequence.camera)
                    summary = write_results(
                        out,
                        shown,
                        run.recorder,
                        info,
                        cloud_config=settings.cloud,
                        truth=truth.trajectory,
                        truth_notes=truth.notes,
                    )
                    print_summary(summary, out, interrupted_by=interrupt.name if interrupt.signal else "")
                finally:
                    save_for_later(run.mapper.map, model.name, config)
    return interrupt.exit_code or (0 if summary.tracked else NOTHING_TRACKED)


def uncalibrated_note(sequence: FrameSequence, mapper: Mapper, model: PairModel) -> list[str]:
    """What is done about images without a calibration; nothing where they have one, or the map that they continue has."""
    calibrated = sequence.camera is not None or any(keyframe.K_known for keyframe in mapper.map.keyframes.values())
    return [] if calibrated else [f"The images have no calibration: {model.traits.uncalibrated}."]


def map_sequence(
    run: MappingRun,
    sequence: FrameSequence,
    display: Display,
    interrupt: Interrupt,
    masks: Masks | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Maps every frame until the sequence ends or a signal comes, and shows the progress.

    notes: to be said beside those of the sequence.
    """
    for count, frame in enumerate(_readable(sequence, run.recorder)):
        if interrupt.signal is not None:
            break
        if count == 0:
            for line in input_lines(sequence, notes):
                display.say(line)
        try:
            outcome = run.register(_usable(frame, sequence.size, masks))
        except FrameError as error:
            outcome = run.skip(frame.id, _named(frame), str(error))
        if outcome.update is not None:
            display.show(run.recorder, len(run.mapper.map.keyframes))
        for event in outcome.events:
            display.say(f"Frame {outcome.frame_id}: {event}")


def refine_map(run: MappingRun, display: Display) -> None:
    """Adjusts the finished map, and says what has come of it."""
    report = run.mapper.refine(display.say)
    if report is not None:
        change = f"{report.rmse_before_px:.2f} to {report.rmse_px:.2f} pixels"
        lens = "" if report.focal_factor == 1.0 else f" The focal length is {report.focal_factor:.3f} times the assumed one."
        display.say(f"{report.views} views of the points are off by {change} now.{lens}")


def _readable(sequence: FrameSequence, recorder: RunRecorder) -> Iterator[Frame]:
    """The frames of a sequence; what it has skipped before each, and after the last, is recorded."""
    noted = 0
    for frame in sequence:
        noted = _note_unreadable(sequence, recorder, noted)
        yield frame
    _note_unreadable(sequence, recorder, noted)


def _usable(frame: Frame, size: tuple[int, int] | None, masks: Masks | None) -> Frame:
    """The frame with its mask.

    size: width and height of the images that are mapped, None for any.

    Raises:
        FrameError: it has another size, or its mask cannot be used.
    """
    its_size = (frame.image.shape[1], frame.image.shape[0])
    if size not in (None, its_size):
        raise FrameError(_other_size(its_size, size))
    return frame if masks is None else masks.apply(frame)


def _named(frame: Frame) -> str:
    file = Path(frame.source)
    return file.name if file.is_file() else f"frame {frame.id}"


def _other_size(size: tuple[int, int], mapped: tuple[int, int]) -> str:
    return f"It is {size[0]}x{size[1]} pixels but images of {mapped[0]}x{mapped[1]} are mapped; one map needs one image size."


def _note_unreadable(sequence: FrameSequence, recorder: RunRecorder, noted: int) -> int:
    """Records what the sequence has skipped since: frames, and damage of the source, which is no frame; returns their number."""
    for item in sequence.skipped[noted:]:
        if item.is_frame:
            recorder.skip(item.index, item.source, item.reason)
        else:
            recorder.note(f"The bag is damaged: {item.reason}" if sequence.kind == "bag" else item.reason)
    return len(sequence.skipped)
