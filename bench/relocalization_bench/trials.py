# SPDX-License-Identifier: Apache-2.0
"""Pairs of query and reference with their true relative pose: from a file of pairs, or chosen from a sequence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mapping_bench.cases import NOISY_DEPTH, Case, Opened, frames_at, open_case

from noisy_depth.correspondence import correspond
from noisy_depth.views import TrueView, TrueViews
from st3r_ros.errors import InputError, St3rError
from st3r_ros.eval.association import associate
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.image_file import read_image
from st3r_ros.io.stamps import format_stamp
from st3r_ros.runtime import start_pair_model
from st3r_ros.types import Frame, PairModel

PAIRS_SUFFIX = ".json"
MIN_OVERLAP = 0.2
OVERLAP_SIZE = 160
"""Longer side of the true views by which overlap is measured, pixels."""
TRIES_PER_PAIR = 200
TRUE_FOCAL, ASSUMED_FOCAL = "1", "assumed"


@dataclass(frozen=True)
class Run(Case):
    """All tries of one source, pair model and seed. focal: as for `with_focal`. progress: whether a line on stderr tells it."""

    progress: bool = False
    focal: str = TRUE_FOCAL

    @property
    def title(self) -> str:
        """For messages."""
        return super().title + ("" if self.focal == TRUE_FOCAL else f", focal {self.focal}")


@dataclass(frozen=True)
class Wanted:
    """Which pairs of a sequence are tried.

    pairs: how many. gap: frames from reference to query, 0 = any two frames. overlap: True for pairs of which the reference shows
    at least 20 % of the query, False for pairs that share nothing, None for either. with_depth: the reference is given its depth.
    """

    pairs: int = 100
    gap: int = 0
    overlap: bool | None = None
    with_depth: bool = False


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


@dataclass(frozen=True, eq=False)
class Trials:
    """What is tried, with what."""

    model: PairModel
    trials: list[Trial]


def with_focal(frame: Frame, focal: str) -> Frame:
    """The frame with a calibration of `focal` times the true focal length, or "assumed", without one."""
    if focal == TRUE_FOCAL or frame.camera is None:
        return frame
    if focal == ASSUMED_FOCAL:
        return replace(frame, camera=None)
    K = frame.camera.K.copy()
    K[[0, 1], [0, 1]] *= float(focal)
    return replace(frame, camera=replace(frame.camera, K=K))


def make_trials(run: Run, wanted: Wanted) -> Trials:
    """The trials of a pairs file or of a sequence. Raises St3rError where they cannot be made, or no two frames are as wanted."""
    if not run.source.endswith(PAIRS_SUFFIX):
        opened = open_case(run)
        return Trials(opened.model, _from_sequence(opened, run.seed, wanted))
    file = f"'{run.source}' is a file of pairs"
    if run.pair_model == NOISY_DEPTH:
        raise InputError(f"noisy_depth needs the depth of a sequence, and {file}; choose another pair model.")
    if wanted.with_depth or wanted.overlap is not None:
        raise InputError(f"{file} without depth; leave --with-depth, --overlap and --no-overlap out.")
    return Trials(start_pair_model(run.pair_model, run.checkpoint), _from_file(Path(run.source))[: wanted.pairs])


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


def _from_sequence(opened: Opened, seed: int, wanted: Wanted) -> list[Trial]:
    stamps_ns, T_world_cam = known_frames(opened)
    overlaps = Overlaps(opened) if wanted.overlap is not None else None
    depths = _depths(opened) if wanted.with_depth else None
    chosen: list[tuple[int, int, float | None]] = []
    for reference, query in _candidates(len(stamps_ns), wanted, np.random.default_rng(seed)):
        overlap = None if overlaps is None else overlaps.of(*stamps_ns[[reference, query]].tolist())
        if (depths is None or depths.has(int(stamps_ns[reference]))) and _suits(overlap, wanted):
            chosen.append((reference, query, overlap))
        if len(chosen) == wanted.pairs:
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


def _candidates(count: int, wanted: Wanted, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Pairs (reference, query) of frame numbers, in the order in which they are looked at."""
    if not wanted.gap:
        for _ in range(TRIES_PER_PAIR * wanted.pairs):
            reference, query = rng.integers(0, count, 2).tolist()
            if reference != query:
                yield reference, query
        return
    starts = np.arange(max(count - wanted.gap, 0))
    if wanted.overlap is None and not wanted.with_depth and len(starts) > wanted.pairs:
        starts = starts[np.linspace(0, len(starts) - 1, wanted.pairs).round().astype(np.int64)]
    elif len(starts) > wanted.pairs:
        starts = rng.permutation(starts)
    yield from ((int(start), int(start) + wanted.gap) for start in starts)


def _suits(overlap: float | None, wanted: Wanted) -> bool:
    return overlap is None or (overlap >= MIN_OVERLAP if wanted.overlap else overlap == 0.0)


class Overlaps:
    """How much of a query a reference truly shows, by the stamps of their frames."""

    def __init__(self, opened: Opened) -> None:
        self._views = TrueViews(opened.sequence, OVERLAP_SIZE)
        self._view = cache(self._load)

    def of(self, reference_ns: int, query_ns: int) -> float:
        """Share of the query; NaN where a frame has no depth."""
        reference, query = self._view(reference_ns), self._view(query_ns)
        return correspond(reference, query).overlap if reference and query else float("nan")

    def _load(self, stamp_ns: int) -> TrueView | None:
        frame = Frame(0, stamp_ns, np.zeros((0, 0, 3), np.uint8))
        return self._views.of(frame) if self._views.has(stamp_ns) else None
