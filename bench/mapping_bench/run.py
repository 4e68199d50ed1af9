# SPDX-License-Identifier: Apache-2.0
"""One run of the benchmark: map a sequence, time it, compare the map with the truth.

A row has these figures; None where there is nothing to compare with, or nothing was tracked.

tracked: share of the frames that have a pose in the map at the end. ate_sim3, ate_se3: RMSE of the positions after the best
similarity and the best rigid alignment, in the truth's unit; scale: units of the truth per unit of the map. ate_refined: as
ate_sim3, after `Mapper.refine` at the end, which took refine_s seconds; all else is from before it.
depth_absrel, depth_absrel_single: see depth_errors.py. fps: frames per second inside the mapper alone, reading not counted.
ms_track: median over the tracked frames that became no keyframe, all stages together. ms_optimize: median over the new
keyframes, of the optimization of the newest ones and, after a loop, of the whole map.
peak_rss_mb, peak_device_mb: of this run's process, MB (10^6 bytes), and of its CUDA tensors, 0 without CUDA.
loops: loop edges in the map at the end; loops_rejected: candidates that failed a check.
path_length: of the true positions of the frames; truth_spread: their RMS distance to their centroid. stages_ms: medians over
the frames that went through a stage.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from harness import Row, known, median, progress, timed

from mapping_bench.cases import Case, Opened, open_case
from mapping_bench.depth_errors import RecordingModel, fusion_errors
from st3r_ros.errors import EvaluationError
from st3r_ros.eval.association import associate
from st3r_ros.eval.trajectory import TrajectoryErrors, evaluate_trajectory
from st3r_ros.geometry import so3
from st3r_ros.geometry.leveling import up_of_cameras
from st3r_ros.mapping_run import MappingRun
from st3r_ros.results import peak_rss_mb
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import MappingState, MappingUpdate, Trajectory

PROGRESS_S = 0.5


@dataclass(frozen=True, eq=False)
class Outcome:
    """A run's figures, and for the picture its path and the true one, both (N, 3) in the truth's frame, and the way up (3,)."""

    case: Case
    row: Row
    estimate: np.ndarray
    truth: np.ndarray
    up: np.ndarray

    @property
    def name(self) -> str:
        """Of the sequence, whatever the seed."""
        return self.case.group if "{seed}" in self.case.group else self.row["sequence"]

    @property
    def kind(self) -> str:
        """What was mapped with."""
        return self.row["pair_model"] + ("" if self.row["loop_closure"] else ", loops off")


def run(case: Case, show: bool = False) -> Outcome:
    """Maps and evaluates. show: a line on stderr about the progress."""
    cv2.setRNGSeed(case.seed)
    torch.manual_seed(case.seed)
    opened = open_case(case)
    model = RecordingModel(opened.model)
    mapper = Mapper(model, case.mapper_config)
    mapped, skipped = _map(mapper, opened, case.title, show)
    memory = peak_rss_mb(), torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0
    fusion = fusion_errors(mapper.map, opened, model)
    trajectory, stamps_ns = mapper.map.trajectory(), np.array([update.stamp_ns for update, _ in mapped], np.int64)
    errors, note = compared(trajectory, opened.sequence.truth, stamps_ns)
    passed = _passed(opened.sequence.truth, stamps_ns)
    length = None if passed is None else float(np.linalg.norm(np.diff(passed.positions, axis=0), axis=1).sum())
    track_ms = [ms for update, ms in mapped if update.T_world_cam is not None and update.new_keyframe is None]
    refined, refine_ms = timed(mapper.refine)
    refined_errors, _ = compared(mapper.map.trajectory(), opened.sequence.truth, stamps_ns)
    made = [(update.timings_ms, ms) for update, ms in mapped if update.new_keyframe is not None]
    row = {
        "sequence": case.source if opened.sequence.kind == "sim" else opened.sequence.name,
        "pair_model": case.pair_model,
        "seed": case.seed,
        "tracked": len(trajectory) / max(len(mapped) + skipped, 1),
        **{name: getattr(errors, name, None) for name in ("ate_sim3", "ate_se3", "scale")},
        "ate_refined": refined_errors.ate_sim3 if refined and refined_errors else None,
        "refine_s": refine_ms * 1e-3 if refined else None,
        "depth_absrel": known(fusion.fused),
        "depth_absrel_single": known(fusion.single),
        "fps": 1e3 * len(mapped) / max(sum(ms for _, ms in mapped), 1e-9),
        "ms_track": median(track_ms),
        "ms_optimize": median([stages.get("optimize", 0.0) + stages.get("global", 0.0) for stages, _ in made]),
        "peak_rss_mb": memory[0],
        "peak_device_mb": memory[1],
        "loops": mapper.map.loops,
        "loops_rejected": mapper.map.loops_rejected,
        "ate_share_of_path": errors.ate_sim3 / length if errors and length else None,
        "path_length": length,
        "truth_spread": getattr(errors, "truth_spread", None),
        "calibrated": case.calibrated,
        "loop_closure": case.loops,
        "frames": len(mapped) + skipped,
        "skipped": skipped,
        "lost_frames": sum(update.state is MappingState.LOST for update, _ in mapped),
        "keyframes": len(mapper.map.keyframes),
        "edges": len(mapper.map.edges),
        "ms_track_p95": float(np.percentile(track_ms, 95)) if track_ms else 0.0,
        "ms_keyframe": median([ms for _, ms in made]),
        "depth_coverage": known(fusion.coverage),
        "depth_keyframes": fusion.keyframes,
        "stages_ms": _stage_medians([update.timings_ms for update, _ in mapped]),
        "note": note,
    }
    estimate = errors.T_truth_map @ trajectory.positions if errors else np.zeros((0, 3))
    true_path = np.zeros((0, 3)) if passed is None else passed.positions
    held = so3.from_quaternion_xyzw((trajectory if passed is None else passed).quaternions_xyzw)
    return Outcome(case, row, estimate, true_path, up_of_cameras(held) if len(held) else np.array([0.0, 0.0, 1.0]))


def _stage_medians(timings: list[dict[str, float]]) -> dict[str, float]:
    """Milliseconds, over the frames that went through a stage."""
    stages = dict.fromkeys(stage for of_frame in timings for stage in of_frame)
    return {stage: median([of_frame[stage] for of_frame in timings if stage in of_frame]) for stage in stages}


def _map(mapper: Mapper, opened: Opened, title: str, show: bool) -> tuple[list[tuple[MappingUpdate, float]], int]:
    """Feeds every frame to the mapper; what it did with each in how many milliseconds, and how many frames were skipped."""
    mapped: list[tuple[MappingUpdate, float]] = []
    feed, last = MappingRun(mapper), 0.0
    for frame in opened.frames:
        outcome, ms = timed(partial(feed.register, frame))
        mapped += [(outcome.update, ms)] if outcome.update else []
        if time.monotonic() - last > PROGRESS_S:
            last, keyframes = time.monotonic(), len(mapper.map.keyframes)
            progress(f"{title}: frame {frame.id + 1} of {opened.frames.length or '?'}, {keyframes} keyframes", show)
    progress("", show)
    return mapped, feed.recorder.skipped + len(opened.frames.skipped)


def compared(trajectory: Trajectory, truth: Trajectory | None, stamps_ns: np.ndarray) -> tuple[TrajectoryErrors | None, str]:
    """The errors of a trajectory, or why there are none. stamps_ns: (N,) int64 of all images, placed or not."""
    try:
        return (None, "no true poses") if truth is None else (evaluate_trajectory(trajectory, truth, stamps_ns), "")
    except EvaluationError as error:
        return None, str(error)


def _passed(truth: Trajectory | None, stamps_ns: np.ndarray) -> Trajectory | None:
    """The true poses of the mapped frames."""
    if truth is None:
        return None
    found = associate(stamps_ns, truth.stamps_ns)
    return Trajectory(stamps_ns[found.queries], truth.positions[found.references], truth.quaternions_xyzw[found.references])
