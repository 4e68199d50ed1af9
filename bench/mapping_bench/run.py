# SPDX-License-Identifier: Apache-2.0
"""One run of the benchmark: map a sequence, time it, compare the map with the truth."""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from mapping_bench.cases import Case, Opened, open_case
from mapping_bench.depth_errors import FusionErrors, RecordingModel, fusion_errors
from st3r_ros.errors import EvaluationError, FrameError
from st3r_ros.eval.association import associate
from st3r_ros.eval.trajectory import TrajectoryErrors, evaluate_trajectory
from st3r_ros.geometry import so3
from st3r_ros.results import peak_rss_mb
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import MappingState, Trajectory

PROGRESS_S = 0.5
OPTIMIZATION = ("optimize", "global")
"""The stages of a frame that optimize the newest keyframes and, after a loop, the whole map."""


@dataclass(frozen=True)
class Row:
    """The figures of one run; None where there is nothing to compare with, or nothing was tracked.

    tracked: share of the frames that have a pose in the map at the end. ate_sim3, ate_se3: RMSE of the positions after the best
    similarity and the best rigid alignment, in the truth's unit; scale: units of the truth per unit of the map.
    depth_absrel, depth_absrel_single: see depth_errors.py. fps: frames per second inside the mapper alone, reading not counted.
    ms_track: median over the tracked frames that became no keyframe, all stages together. ms_optimize: median over the new
    keyframes, of the optimization of the newest ones and, after a loop, of the whole map.
    peak_rss_mb, peak_device_mb: of this run's process, MB (10^6 bytes), and of its CUDA tensors, 0 without CUDA.
    loops: loop edges in the map at the end; loops_rejected: candidates that failed a check.
    path_length: of the true positions of the frames; truth_spread: their RMS distance to their centroid. stages_ms: medians over
    the frames that went through a stage.
    """

    sequence: str
    pair_model: str
    seed: int
    tracked: float
    ate_sim3: float | None
    ate_se3: float | None
    scale: float | None
    depth_absrel: float | None
    depth_absrel_single: float | None
    fps: float
    ms_track: float
    ms_optimize: float
    peak_rss_mb: float
    peak_device_mb: float
    loops: int
    loops_rejected: int
    ate_share_of_path: float | None
    path_length: float | None
    truth_spread: float | None
    calibrated: bool
    loop_closure: bool
    frames: int
    skipped: int
    lost_frames: int
    keyframes: int
    edges: int
    ms_track_p95: float
    ms_keyframe: float
    depth_coverage: float | None
    depth_keyframes: int
    stages_ms: dict[str, float]
    note: str


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
        return self.case.group if "{seed}" in self.case.group else self.row.sequence

    @property
    def kind(self) -> str:
        """What was mapped with."""
        return self.row.pair_model + ("" if self.row.loop_closure else ", loops off")


@dataclass(eq=False)
class _Log:
    """What the mapper did, frame by frame."""

    stamps_ns: list[int]
    track_ms: list[float]
    keyframe_ms: list[float]
    optimize_ms: list[float]
    stages_ms: dict[str, list[float]]
    mapping_s: float = 0.0
    skipped: int = 0
    lost: int = 0


def run(case: Case, progress: bool = False) -> Outcome:
    """Maps and evaluates. progress: a line on stderr about it.

    Raises:
        St3rError: the sequence or the pair model cannot be used.
    """
    cv2.setRNGSeed(case.seed)
    torch.manual_seed(case.seed)
    opened = open_case(case)
    model = RecordingModel(opened.model)
    mapper = Mapper(model, case.mapper_config)
    log = _map(mapper, opened, case.title if progress else "")
    memory = peak_rss_mb(), torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0
    fusion = fusion_errors(mapper.map, opened, model)
    return _outcome(case, opened, mapper, log, fusion, memory)


def _map(mapper: Mapper, opened: Opened, title: str) -> _Log:
    """Feeds every frame to the mapper; title: of the progress, "" for none."""
    log, shown = _Log([], [], [], [], defaultdict(list)), 0.0
    for frame in opened.frames:
        started = time.perf_counter()
        try:
            update = mapper.register_frame(frame)
        except FrameError:
            log.skipped += 1
            continue
        elapsed = time.perf_counter() - started
        log.mapping_s += elapsed
        log.stamps_ns.append(frame.stamp_ns)
        log.lost += update.state is MappingState.LOST
        for stage, ms in update.timings_ms.items():
            log.stages_ms[stage].append(ms)
        if update.new_keyframe is not None:
            log.keyframe_ms.append(1000 * elapsed)
            log.optimize_ms.append(sum(update.timings_ms.get(stage, 0.0) for stage in OPTIMIZATION))
        elif update.T_world_cam is not None:
            log.track_ms.append(1000 * elapsed)
        if title and started - shown > PROGRESS_S:
            shown = started
            _show(f"{title}: frame {frame.id + 1} of {opened.frames.length or '?'}, {len(mapper.map.keyframes)} keyframes")
    log.skipped += len(opened.frames.skipped)
    if title:
        _show("")
    return log


def _show(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _outcome(case: Case, opened: Opened, mapper: Mapper, log: _Log, fusion: FusionErrors, memory: tuple[float, float]) -> Outcome:
    trajectory, truth = mapper.map.trajectory(), opened.sequence.truth
    errors, note = _trajectory_errors(trajectory, truth, np.array(log.stamps_ns, np.int64))
    passed = _passed(truth, np.array(log.stamps_ns, np.int64))
    length = float(np.linalg.norm(np.diff(passed.positions, axis=0), axis=1).sum()) if passed is not None else None
    kinds = [edge.kind for edge in mapper.map.edges]
    frames = len(log.stamps_ns) + log.skipped
    row = Row(
        sequence=case.source if opened.sequence.kind == "sim" else opened.sequence.name,
        pair_model=case.pair_model,
        seed=case.seed,
        tracked=len(trajectory) / frames if frames else 0.0,
        ate_sim3=errors.ate_sim3 if errors else None,
        ate_se3=errors.ate_se3 if errors else None,
        scale=errors.scale if errors else None,
        depth_absrel=_known(fusion.fused),
        depth_absrel_single=_known(fusion.single),
        fps=len(log.stamps_ns) / log.mapping_s if log.mapping_s else 0.0,
        ms_track=_median(log.track_ms),
        ms_optimize=_median(log.optimize_ms),
        peak_rss_mb=memory[0],
        peak_device_mb=memory[1],
        loops=kinds.count("loop"),
        loops_rejected=mapper.map.loops_rejected,
        ate_share_of_path=errors.ate_sim3 / length if errors and length else None,
        path_length=length,
        truth_spread=errors.truth_spread if errors else None,
        calibrated=case.calibrated,
        loop_closure=case.loops,
        frames=frames,
        skipped=log.skipped,
        lost_frames=log.lost,
        keyframes=len(mapper.map.keyframes),
        edges=len(kinds),
        ms_track_p95=float(np.percentile(log.track_ms, 95)) if log.track_ms else 0.0,
        ms_keyframe=_median(log.keyframe_ms),
        depth_coverage=_known(fusion.coverage),
        depth_keyframes=fusion.keyframes,
        stages_ms={stage: _median(times) for stage, times in log.stages_ms.items()},
        note=note,
    )
    estimate = errors.T_truth_map @ trajectory.positions if errors else np.zeros((0, 3))
    true_path = passed.positions if passed is not None else np.zeros((0, 3))
    return Outcome(case, row, estimate, true_path, _up(passed if passed is not None else trajectory))


def _trajectory_errors(
    trajectory: Trajectory, truth: Trajectory | None, stamps_ns: np.ndarray
) -> tuple[TrajectoryErrors | None, str]:
    """The errors, or why there are none."""
    if truth is None:
        return None, "no true poses"
    try:
        return evaluate_trajectory(trajectory, truth, stamps_ns), ""
    except EvaluationError as error:
        return None, str(error)


def _passed(truth: Trajectory | None, stamps_ns: np.ndarray) -> Trajectory | None:
    """The true poses of the mapped frames."""
    if truth is None:
        return None
    found = associate(stamps_ns, truth.stamps_ns)
    return Trajectory(stamps_ns[found.queries], truth.positions[found.references], truth.quaternions_xyzw[found.references])


def _up(trajectory: Trajectory) -> np.ndarray:
    """(3,): the mean direction of the images' upper edges."""
    if not len(trajectory):
        return np.array([0.0, 0.0, 1.0])
    mean = -so3.from_quaternion_xyzw(trajectory.quaternions_xyzw)[:, :, 1].mean(0)
    return mean / max(np.linalg.norm(mean), 1e-9)


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else 0.0


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
