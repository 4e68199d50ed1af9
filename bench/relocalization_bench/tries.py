# SPDX-License-Identifier: Apache-2.0
"""Pairs of query and reference with their true relative pose, from a file of pairs or chosen from a sequence, and the result of
each try: one row of figures, whose keys `_row` explains.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from harness import Row, evenly, known, median, shown
from mapping_bench.cases import NOISY_DEPTH, Case, Opened, frames_at, open_case

from noisy_depth.correspondence import correspond
from noisy_depth.views import TrueViews
from st3r_ros.config import MapperConfig
from st3r_ros.errors import InputError, St3rError
from st3r_ros.eval.association import associate
from st3r_ros.eval.relocalization import PoseError, pose_error
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import scaled_focal
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.image_file import read_image
from st3r_ros.io.stamps import format_stamp
from st3r_ros.maps.load import load_map
from st3r_ros.maps.save import save_map
from st3r_ros.runtime import start_pair_model
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.types import Frame, LocalizationResult, PairModel

MAPPED_SHARE, MAPPED_EVERY, QUERIED_SHARE = 0.6, 2, 0.2
NO_ERROR = PoseError(math.nan, math.nan, math.nan)
PAIRS_SUFFIX = ".json"
MIN_OVERLAP = 0.2
OVERLAP_SIZE = 160
"""Longer side of the true views by which overlap is measured, pixels."""
TRIES_PER_PAIR = 200
TRUE_FOCAL, ASSUMED_FOCAL = "1", "assumed"


@dataclass(frozen=True)
class Run(Case):
    """All tries of one source, pair model and seed. focal: as for `with_focal`. progress: whether a line on stderr tells it.

    pairs: how many of a sequence are tried. gap: frames from reference to query, 0 = any two frames. overlap: True for pairs of
    which the reference shows at least 20 % of the query, False for pairs that share nothing, None for either. with_depth: the
    reference is given its depth.
    """

    progress: bool = False
    focal: str = TRUE_FOCAL
    pairs: int = 100
    gap: int = 0
    overlap: bool | None = None
    with_depth: bool = False

    @property
    def title(self) -> str:
        """For messages."""
        return super().title + ("" if self.focal == TRUE_FOCAL else f", focal {self.focal}")


@dataclass(frozen=True, eq=False)
class Trial:
    """One query and its reference. T_ref_query: true pose of the query. depth: (H, W) metres of the reference, None without.

    overlap: share of the query that the reference shows, None where it is not known.
    """

    query: str
    reference: str
    T_ref_query: SE3
    query_frame: Frame
    reference_frame: Frame
    depth: np.ndarray | None = None
    overlap: float | None = None


def with_focal(frame: Frame, focal: str) -> Frame:
    """The frame with a calibration of `focal` times the true focal length, or "assumed", without one."""
    if focal == TRUE_FOCAL or frame.camera is None:
        return frame
    if focal == ASSUMED_FOCAL:
        return replace(frame, camera=None)
    return replace(frame, camera=replace(frame.camera, K=scaled_focal(frame.camera.K, float(focal))))


def make_trials(run: Run) -> tuple[PairModel, list[Trial]]:
    """A pair model and the trials of a file or of a sequence. Raises St3rError where no two frames are as run."""
    if not run.source.endswith(PAIRS_SUFFIX):
        opened = open_case(run)
        return opened.model, _from_sequence(opened, run)
    file = f"'{run.source}' is a file of pairs"
    if run.pair_model == NOISY_DEPTH:
        raise InputError(f"noisy_depth needs the depth of a sequence, and {file}; choose another pair model.")
    if run.with_depth or run.overlap is not None:
        raise InputError(f"{file} without depth; leave --with-depth, --overlap and --no-overlap out.")
    return start_pair_model(run.pair_model, run.checkpoint), _from_file(Path(run.source))[: run.pairs]


def _from_file(path: Path) -> list[Trial]:
    """A list of {image_a, K_a, image_b, K_b, T_b_a}; a is the reference, b the query. Images lie beside the file."""
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
        return [_pair(path.parent, number, pair) for number, pair in enumerate(pairs)]
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
    except St3rError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' holds no list of pairs with image_a, K_a, image_b, K_b and T_b_a ({error!r}).") from error


def _pair(folder: Path, number: int, pair: dict[str, Any]) -> Trial:
    frames = []
    for index, side in enumerate("ab"):
        image = read_image(folder / pair[f"image_{side}"])
        camera = Camera(image.shape[1], image.shape[0], np.array(pair[f"K_{side}"]))
        frames.append(Frame(2 * number + index, 2 * number + index, image, camera))
    T_ref_query = SE3.from_matrix(np.array(pair["T_b_a"])).inverse()
    return Trial(pair["image_b"], pair["image_a"], T_ref_query, frames[1], frames[0])


def known_frames(opened: Opened) -> tuple[np.ndarray, SE3]:
    """Stamps (N,) int64 and T_world_cam (N,) of the frames that have a true pose; InputError for a sequence without."""
    sequence, truth = opened.sequence, opened.sequence.truth
    if truth is None:
        raise InputError(f"'{sequence.name}' has no true poses (groundtruth.txt); nothing can be compared.")
    simulated = sequence.kind == "sim"
    stamps = sequence.stamps_ns if simulated else np.array([frame.stamp_ns for frame in opened.frames], np.int64)
    found = associate(stamps, truth.stamps_ns)
    poses = SE3.from_quaternion_xyzw(truth.quaternions_xyzw, truth.positions)
    return stamps[found.queries], poses[found.references]


def _from_sequence(opened: Opened, run: Run) -> list[Trial]:
    stamps_ns, T_world_cam = known_frames(opened)
    overlaps = Overlaps(opened) if run.overlap is not None else None
    depths = _depths(opened) if run.with_depth else None
    chosen: list[tuple[int, int, float | None]] = []
    for reference, query in _candidates(len(stamps_ns), run):
        overlap = None if overlaps is None else overlaps.of(*stamps_ns[[reference, query]].tolist())
        if (depths is None or depths.has(int(stamps_ns[reference]))) and _suits(overlap, run):
            chosen.append((reference, query, overlap))
        if len(chosen) == run.pairs:
            break
    if not chosen:
        raise InputError(f"'{opened.sequence.name}' has no two frames that are as wanted; give another --gap or overlap.")
    frames = frames_at(opened.frames, {int(stamps_ns[index]) for pair in chosen for index in pair[:2]})
    trials = []
    for reference, query, overlap in chosen:
        seen, asked = (frames[int(stamps_ns[index])] for index in (reference, query))
        T_ref_query = T_world_cam[reference].inverse() @ T_world_cam[query]
        depth = None if depths is None else depths.of(seen).depth
        trials.append(Trial(format_stamp(asked.stamp_ns), format_stamp(seen.stamp_ns), T_ref_query, asked, seen, depth, overlap))
    return trials


def _depths(opened: Opened) -> TrueViews:
    """Of the size of the frames."""
    camera = opened.frames.camera or opened.sequence.camera
    if camera is None:
        raise InputError(f"'{opened.sequence.name}' has no calibration; its depth cannot be given to the reference.")
    return TrueViews(opened.sequence, max(camera.width, camera.height))


def _candidates(count: int, run: Run) -> Iterator[tuple[int, int]]:
    """Pairs (reference, query) of frame numbers, in the order in which they are looked at."""
    rng = np.random.default_rng(run.seed)
    if not run.gap:
        for _ in range(TRIES_PER_PAIR * run.pairs):
            reference, query = rng.integers(0, count, 2).tolist()
            if reference != query:
                yield reference, query
        return
    starts = np.arange(max(count - run.gap, 0))
    if run.overlap is None and not run.with_depth and len(starts) > run.pairs:
        starts = starts[np.linspace(0, len(starts) - 1, run.pairs).round().astype(np.int64)]
    elif len(starts) > run.pairs:
        starts = rng.permutation(starts)
    yield from ((int(start), int(start) + run.gap) for start in starts)


def _suits(overlap: float | None, run: Run) -> bool:
    return overlap is None or (overlap >= MIN_OVERLAP if run.overlap else overlap == 0.0)


class Overlaps:
    """How much of a query a reference truly shows, by the stamps of their frames."""

    def __init__(self, opened: Opened) -> None:
        views, image = TrueViews(opened.sequence, OVERLAP_SIZE), np.zeros((0, 0, 3), np.uint8)
        self._view = cache(lambda stamp_ns: views.of(Frame(0, stamp_ns, image)) if views.has(stamp_ns) else None)

    def of(self, reference_ns: int, query_ns: int) -> float:
        """Share of the query; NaN where a frame has no depth."""
        reference, query = self._view(reference_ns), self._view(query_ns)
        return correspond(reference, query).overlap if reference and query else math.nan


def try_pairs(run: Run) -> Iterator[Row]:
    """Localizes every query against its reference alone. Raises St3rError where there are no such pairs."""
    model, trials = make_trials(run)
    for trial in shown(trials, run.title, run.progress):
        relocalizer = Relocalizer(model)
        seen = trial.reference_frame if trial.depth is not None else with_focal(trial.reference_frame, run.focal)
        relocalizer.set_reference(trial.reference, seen, depth=trial.depth)
        result = relocalizer.localize(with_focal(trial.query_frame, run.focal))
        error = NO_ERROR
        if result.T_ref_cam is not None:
            error = pose_error(result.T_ref_cam, trial.T_ref_query, metric=result.metric, covariance=result.covariance)
        yield _row(run, trial.query, replace(result, reference=trial.reference), error, overlap=trial.overlap)


def try_map(run: Run) -> Iterator[Row]:
    """Maps the even frames of the first 60 %, saves and loads the map, and localizes frames of the last 20 % in it.

    Of a world with twin rooms, all even frames are mapped and odd ones localized: which twin it is cannot be told from a map
    that knows only one. Raises St3rError where the sequence cannot be used, or not mapped.
    """
    opened = open_case(run)
    stamps_ns, T_world_cam = known_frames(opened)
    mapped, late = _split(len(stamps_ns), getattr(opened.sequence, "twins", None) is not None)
    asked = evenly(late.tolist(), run.pairs)
    frames = frames_at(opened.frames, set(stamps_ns[[*mapped, *asked]].tolist()))
    keyframe_map = _saved_and_loaded(opened.model, [frames[stamp] for stamp in stamps_ns[mapped].tolist()], run)
    aligned = evaluate_trajectory(keyframe_map.trajectory(), opened.sequence.truth, stamps_ns[mapped])
    scale = aligned.scale * median([keyframe.median_depth() for keyframe in keyframe_map.keyframes.values()])
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
        yield _row(run, format_stamp(frame.stamp_ns), result, error, scene_scale=scale)


def _split(frames: int, twins: bool) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the frames that are mapped and of those that may be asked about."""
    every = np.arange(frames)
    if twins:
        return every[::MAPPED_EVERY], every[1::MAPPED_EVERY]
    return every[: round(MAPPED_SHARE * frames) : MAPPED_EVERY], every[round((1.0 - QUERIED_SHARE) * frames) :]


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
