# SPDX-License-Identifier: Apache-2.0
"""The result of each try: one row of figures, whose keys `_row` explains."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import Row, evenly, known, median, shown
from mapping_bench.cases import frames_at, open_case

from relocalization_bench.trials import Run, Trials, known_frames, with_focal
from st3r_ros.config import MapperConfig
from st3r_ros.errors import InputError
from st3r_ros.eval.relocalization import PoseError, pose_error
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.io.stamps import format_stamp
from st3r_ros.maps.load import load_map
from st3r_ros.maps.save import save_map
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.types import LocalizationResult, PairModel

MAPPED_SHARE, MAPPED_EVERY, QUERIED_SHARE = 0.6, 2, 0.2
NO_ERROR = PoseError(math.nan, math.nan, math.nan)


def try_pairs(run: Run, made: Trials) -> Iterator[Row]:
    """Localizes every query against its reference alone."""
    for trial in shown(made.trials, run.title, run.progress):
        relocalizer = Relocalizer(made.model)
        seen = trial.reference_frame if trial.depth is not None else with_focal(trial.reference_frame, run.focal)
        relocalizer.set_reference(trial.reference, seen, depth=trial.depth)
        result = relocalizer.localize(with_focal(trial.query_frame, run.focal))
        error = NO_ERROR
        if result.T_ref_cam is not None:
            error = pose_error(result.T_ref_cam, trial.T_ref_query, metric=result.metric, covariance=result.covariance)
        yield _row(run, trial.query, replace(result, reference=trial.reference), error, overlap=trial.overlap)


def try_map(run: Run, queries: int) -> Iterator[Row]:
    """Maps the even frames of the first 60 %, saves and loads the map, and localizes frames of the last 20 % in it.

    Of a world with twin rooms, all even frames are mapped and odd ones localized: which twin it is cannot be told from a map
    that knows only one. Raises St3rError where the sequence cannot be used, or not mapped.
    """
    opened = open_case(run)
    stamps_ns, T_world_cam = known_frames(opened)
    mapped, late = _split(len(stamps_ns), getattr(opened.sequence, "twins", None) is not None)
    asked = evenly(late.tolist(), queries)
    frames = frames_at(opened.frames, set(stamps_ns[[*mapped, *asked]].tolist()))
    keyframe_map = _saved_and_loaded(opened.model, [frames[stamp] for stamp in stamps_ns[mapped].tolist()], run)
    aligned = evaluate_trajectory(keyframe_map.trajectory(), opened.sequence.truth, stamps_ns[mapped])
    relocalizer = Relocalizer(opened.model)
    relocalizer.use_map(keyframe_map)
    for index in shown(asked, run.title, run.progress):
        frame, error = frames[int(stamps_ns[index])], NO_ERROR
        result = relocalizer.localize(with_focal(frame, run.focal))
        if result.T_ref_cam is not None:
            T_truth_found = (aligned.T_truth_map @ result.T_ref_cam.sim3()).se3()
            to_truth = np.kron(np.diag([aligned.scale, 1.0]), aligned.T_truth_map.rotation)
            covariance = None if result.covariance is None else to_truth @ result.covariance @ to_truth.T
            compared = pose_error(T_truth_found, T_world_cam[index], metric=True, covariance=covariance)
            # Of a position in the map, the direction says nothing; the map's own errors are no part of the covariance.
            error = replace(compared, direction_deg=math.nan, nees=math.nan)
        yield _row(run, format_stamp(frame.stamp_ns), result, error, scene_scale=aligned.scale * _median_depth(keyframe_map))


def _split(frames: int, twins: bool) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the frames that are mapped and of those that may be asked about."""
    every = np.arange(frames)
    if twins:
        return every[::MAPPED_EVERY], every[1::MAPPED_EVERY]
    return every[: round(MAPPED_SHARE * frames) : MAPPED_EVERY], every[round((1.0 - QUERIED_SHARE) * frames) :]


def _median_depth(keyframe_map: KeyframeMap) -> float:
    """In the map's unit."""
    keyframes = keyframe_map.keyframes.values()
    return median([float(k.T_world_cam.scale) * float(k.X[..., 2][k.conf > 0].float().median()) for k in keyframes])


def _saved_and_loaded(model: PairModel, frames: list[Any], run: Run) -> KeyframeMap:
    mapper = Mapper(model, MapperConfig())
    for frame in shown(frames, run.title, run.progress):
        mapper.register_frame(frame)
    if not mapper.map.frames:
        raise InputError(f"Not one frame of '{run.source}' could be mapped with {run.pair_model}.")
    with tempfile.TemporaryDirectory() as folder:
        save_map(Path(folder) / "map", mapper.map, pair_model=model.name)
        return load_map(Path(folder) / "map").map


def _row(run: Run, query: str, result: LocalizationResult, error: PoseError, **more: float | None) -> Row:
    """Errors are None where a try was refused or there is nothing to compare.

    err_t: metres (of a map: the truth's unit after the map's alignment with it); None for a translation without a unit.
    err_t_dir_deg: between the directions of the translations, None in a map. nees: squared error by the answer's covariance, 6
    on average when that is right; None in a map, whose own errors are no part of the covariance. overlap: share of the query that
    the reference shows, where that was asked for. scene_scale: of a map, the median depth of its keyframes, in the truth's unit.
    doubt: of the query's calibration, by this and earlier tries. false_accept, sigmas: see st3r_ros/eval/relocalization.py.
    """
    return {
        "query": query,
        "reference": result.reference,
        "status": result.status.value,
        "err_t": known(error.translation),
        "err_r_deg": known(error.rotation_deg),
        "err_t_dir_deg": known(error.direction_deg),
        "inliers": result.inliers,
        "ms": result.latency_ms,
        "nees": known(error.nees),
        "sequence": run.source,
        "pair_model": run.pair_model,
        "seed": run.seed,
        "matches": result.matches,
        "metric": result.metric,
        "false_accept": error.false,
        **{"overlap": None, "scene_scale": None, **more},
        "sigmas": known(error.sigmas),
        "doubt": result.doubt,
        "reason": result.reason,
    }


def error_of(row: Row) -> PoseError | None:
    """As `summarise_attempts` takes it."""
    if row["err_r_deg"] is None:
        return None
    errors = (row[key] for key in ("err_t", "err_r_deg", "err_t_dir_deg", "nees", "sigmas"))
    return PoseError(*(math.nan if value is None else value for value in errors))
