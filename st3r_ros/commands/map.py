# SPDX-License-Identifier: Apache-2.0
"""`st3r map`: a sequence of images in, a map out."""

from __future__ import annotations

from pathlib import Path

from st3r_ros.commands.byte_progress import megabytes
from st3r_ros.commands.interrupt import Interrupt
from st3r_ros.commands.progress import Display, make_display
from st3r_ros.commands.report import print_summary
from st3r_ros.commands.settings import Settings
from st3r_ros.commands.weights import weights_sha256
from st3r_ros.config import MapCommandConfig
from st3r_ros.errors import ConfigError, FrameError
from st3r_ros.io.calibration import read_camera
from st3r_ros.maps.save import check_map_folder, save_map
from st3r_ros.maps.staging import resolved
from st3r_ros.pair import load_pair_model
from st3r_ros.recorder import RunRecorder
from st3r_ros.results import RunInfo, check_output_folder, write_results
from st3r_ros.sequences import ImageSequence, open_sequence
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import MappingState

NOTHING_TRACKED = 1


def run_map(source: str, config: MapCommandConfig, settings: Settings) -> int:
    """Maps a source and writes the results. Returns the exit code: 0, 1 when nothing could be tracked, 128 + signal.

    Raises:
        St3rError: the input, the output folder, a setting or the model cannot be used.
    """
    camera = read_camera(config.camera) if config.camera else None
    sequence = open_sequence(source, camera=camera, every=config.every, max_frames=config.max_frames or None)
    out = Path(config.out)
    if config.save_map:
        if resolved(config.save_map) in (resolved(out), *resolved(out).parents):
            raise ConfigError(f"save_map is '{config.save_map}', and the results would lie in it; give the map its own folder.")
        check_map_folder(config.save_map)
    check_output_folder(out)
    model = load_pair_model(config.pair_model, config.checkpoint, opencv=settings.opencv, mast3r=settings.mast3r)
    mapper = Mapper(model, settings.mapper)
    recorder = RunRecorder()
    info = RunInfo(input=sequence.name, pair_model=model.name)

    with Interrupt() as interrupt:
        ended = False
        try:
            with make_display(sequence.name, sequence.length) as display:
                map_sequence(mapper, sequence, recorder, display, interrupt)
            ended = True
        finally:
            # Also when something breaks half way: what was mapped so far is not lost.
            if ended or recorder.frames:
                try:
                    summary = write_results(out, mapper.map, recorder, info, cloud_config=settings.cloud, truth=sequence.truth)
                    print_summary(summary, out, interrupted_by=interrupt.name if interrupt.signal else "")
                finally:
                    if config.save_map:
                        save_for_later(mapper.map, model.name, config)
    return interrupt.exit_code or (0 if summary.tracked else NOTHING_TRACKED)


def save_for_later(keyframe_map: KeyframeMap, pair_model: str, config: MapCommandConfig) -> None:
    """Saves the map, if there is one, and says so."""
    if not keyframe_map.frames:
        print(f"No map is saved in {config.save_map}: it would be empty.")
        return
    saved = save_map(config.save_map, keyframe_map, pair_model=pair_model, checkpoint_sha256=weights_sha256(config.checkpoint))
    print(f"Saved the map in {config.save_map}: {saved.keyframes} keyframes, {megabytes(saved.bytes)}.")


def map_sequence(mapper: Mapper, sequence: ImageSequence, recorder: RunRecorder, display: Display, interrupt: Interrupt) -> None:
    """Feeds every frame to the mapper until the sequence ends or a signal comes. Unusable frames are skipped and counted."""
    unreadable = 0
    for frame in sequence:
        if interrupt.signal is not None:
            break
        unreadable = _note_unreadable(sequence, recorder, unreadable)
        before = mapper.state
        try:
            update = mapper.register_frame(frame)
        except FrameError as error:
            recorder.skip(frame.id, f"frame {frame.id}", str(error))
            continue
        recorder.record(update)
        display.show(recorder, len(mapper.map.keyframes))
        if update.state is not before and MappingState.LOST in (update.state, before):
            display.say(f"Frame {update.frame_id}: {update.message}")
    _note_unreadable(sequence, recorder, unreadable)


def _note_unreadable(sequence: ImageSequence, recorder: RunRecorder, noted: int) -> int:
    """Records the frames that the sequence has skipped since; returns how many there are now."""
    for item in sequence.skipped[noted:]:
        recorder.skip(item.index, item.source, item.reason)
    return len(sequence.skipped)
