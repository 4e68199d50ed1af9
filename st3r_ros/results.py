# SPDX-License-Identifier: Apache-2.0
"""The results of a run as files: written by `st3r map` and by the mapping node, read by `st3r eval`.

trajectory.txt   pose of every tracked frame, TUM format, T_world_cam
keyframes.txt    pose of every keyframe, same format; comments name the images
cloud.ply        the dense cloud
map.png          the map and the path from above and from the side
summary.json     `RunSummary`
frames.csv       every processed frame: stamp, state, latency, source of the image
keyframes.npz    reduced depth maps of at most 200 keyframes, for the comparison with measured depth
"""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import st3r_ros
from st3r_ros.config import CloudConfig
from st3r_ros.errors import EvaluationError, InputError, MissingDependencyError
from st3r_ros.io.atomic import atomic_path, write_file
from st3r_ros.io.ply import write_ply
from st3r_ros.io.trajectory import load_tum, write_tum
from st3r_ros.products.cloud import cloud_of
from st3r_ros.recorder import Latency, LostSpan, RunRecorder, Skip
from st3r_ros.run_camera import RunCamera, camera_of_run
from st3r_ros.types import MapScale, PointCloud, Trajectory

if TYPE_CHECKING:
    from st3r_ros.eval.depth import KeyframeDepths
    from st3r_ros.eval.trajectory import TrajectoryErrors
    from st3r_ros.geometry.camera import Camera
    from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap

RESULT_FILES = ("trajectory.txt", "keyframes.txt", "cloud.ply", "map.png", "summary.json", "frames.csv", "keyframes.npz")
MAX_DEPTH_KEYFRAMES = 200
MAX_DEPTH_WIDTH = 320
MAX_FLOAT16 = 65504.0


@dataclass(frozen=True)
class RunInfo:
    """Input and pair model of a run.

    map: folder of the map that it continues or localizes in, "" for none; first_keyframe: id from which on keyframes are its own.
    camera: the calibration of its images, None for none.
    """

    input: str
    pair_model: str
    map: str = ""
    first_keyframe: int = 0
    camera: Camera | None = None


@dataclass(frozen=True)
class Sizes:
    """Size of a map, as in `RunSummary`."""

    tracked: int
    keyframes: int
    keyframes_dropped: int
    edges: int
    loops: int
    loops_rejected: int
    points: int
    map_mb: float


@dataclass(frozen=True)
class TruthSummary:
    """The trajectory errors of `TrajectoryErrors`, as plain numbers."""

    ate_sim3: float
    ate_se3: float
    scale: float
    matched: int
    truth_spread: float
    tracked_share: float | None


@dataclass(frozen=True)
class RunSummary:
    """summary.json. Times are in the units of their names. `frames` were processed, `skipped` were unusable.

    metric: whether the map's unit is the metre; scale_source and scale_sigma as in `MapScale`, None for an unknown sigma.
    keyframes_dropped: redundant keyframes removed to stay within the limits. loops: loop edges; loops_rejected: candidates with
    matches that did not agree with the map. map_mb: memory of the keyframes and edges.
    map: folder of the map that was continued, or localized in; "" for none. camera: of the keyframes of this run, or of its
    images where it made none; None when unknown. notes: sentences on the input, as that it is damaged.
    truth: errors against the true trajectory; None without one, or when truth_note says why they could not be computed.
    truth_note also says what of the true poses is not used.
    """

    version: str
    input: str
    pair_model: str
    map: str
    camera: RunCamera | None
    metric: bool
    scale_source: str
    scale_sigma: float | None
    frames: int
    tracked: int
    tracked_share: float
    states: dict[str, int]
    lost_spans: tuple[LostSpan, ...]
    skipped: int
    skips: tuple[Skip, ...]
    notes: tuple[str, ...]
    keyframes: int
    keyframes_dropped: int
    edges: int
    loops: int
    loops_rejected: int
    points: int
    map_mb: float
    duration_s: float
    fps: float
    latency_ms: dict[str, Latency]
    peak_rss_mb: float
    truth: TruthSummary | None
    truth_note: str


def check_output_folder(out: Path) -> None:
    """Creates the folder and checks that it is writable.

    Raises:
        OutputError: it is not.
    """
    probe = out / ".st3r-write-test"
    write_file(probe, b"")
    probe.unlink(missing_ok=True)


def write_results(
    out: Path,
    keyframe_map: KeyframeMap,
    recorder: RunRecorder,
    info: RunInfo,
    *,
    cloud_config: CloudConfig,
    truth: Trajectory | None = None,
    truth_notes: Sequence[str] = (),
    cloud: PointCloud | None = None,
) -> RunSummary:
    """Writes all files listed above, each atomically, the summary last.

    cloud: that of the map with these settings, if it is at hand. truth: the true trajectory, if known. truth_notes: what
    of it is not used, and why. All results that exist are written, even when no frame was tracked.

    Raises:
        OutputError: a file cannot be written.
    """
    from st3r_ros.eval.picture import draw_map
    from st3r_ros.eval.trajectory import align_truth
    from st3r_ros.slam.keyframes.memory import map_bytes

    trajectory, keyframes = keyframe_map.trajectory(), keyframe_map.keyframe_trajectory()
    write_tum(out / "trajectory.txt", trajectory)
    write_tum(out / "keyframes.txt", keyframes, keyframe_map.keyframe_sources())
    write_file(out / "frames.csv", recorder.table().encode(errors="surrogateescape"))
    cloud = cloud_of(keyframe_map, cloud_config) if cloud is None else cloud
    write_ply(out / "cloud.ply", cloud)
    _write_depths(out / "keyframes.npz", keyframe_map, cloud_config.min_conf)

    errors, note = _compare_with_truth(trajectory, truth, recorder.stamps_ns)
    note = " ".join([*truth_notes, *([note] if note else [])])
    sizes = Sizes(
        tracked=len(trajectory),
        keyframes=len(keyframes),
        keyframes_dropped=keyframe_map.keyframes_dropped,
        edges=len(keyframe_map.edges),
        loops=keyframe_map.loops,
        loops_rejected=keyframe_map.loops_rejected,
        points=len(cloud),
        map_mb=map_bytes(keyframe_map) / 1e6,
    )
    own = [keyframe for keyframe in keyframe_map.keyframes.values() if keyframe.id >= info.first_keyframe]
    camera = camera_of_run(own, info.camera)
    summary = _summarise(recorder, info, camera, keyframe_map.scale, sizes, errors, note)
    aligned = None
    if truth is not None and errors is not None:
        aligned = align_truth(_during(truth, recorder.stamps_ns), errors.T_truth_map)
    unit = unit_name(metric=summary.metric)
    write_file(out / "map.png", draw_map(cloud, trajectory, keyframes, aligned, title=headline(summary), unit=unit))
    write_file(out / "summary.json", (json.dumps(dataclasses.asdict(summary), indent=2, allow_nan=False) + "\n").encode())
    return summary


def unit_name(*, metric: bool) -> str:
    """Name of the unit of lengths in a map."""
    return "m" if metric else "map units"


def headline(summary: RunSummary) -> str:
    """Summary of a run in one line."""
    text = f"{summary.input}: {summary.frames} frames, {summary.tracked} tracked, {summary.keyframes} keyframes"
    return text if summary.truth is None else f"{text}, ATE {summary.truth.ate_sim3:.3g}"


@dataclass(frozen=True, eq=False)
class Run:
    """Results as `read_results` returns them: tracked poses, stamps of every processed frame, depths of the keyframes."""

    trajectory: Trajectory
    processed_ns: np.ndarray
    depths: KeyframeDepths


def read_results(out: Path) -> Run:
    """Reads the results that an evaluation needs.

    Raises:
        InputError: the folder does not contain the results of a run, or a file is damaged.
    """
    from st3r_ros.eval.depth import KeyframeDepths

    needed = ("trajectory.txt", "frames.csv", "keyframes.npz")
    missing = [name for name in needed if not (out / name).is_file()]
    if missing:
        raise InputError(
            f"'{out}' does not contain results of st3r: {missing[0]} is missing; give a folder that `st3r map --out` has written."
        )
    try:
        processed = np.loadtxt(out / "frames.csv", delimiter=",", skiprows=1, usecols=1, dtype=np.int64, ndmin=1, comments=None)
        with np.load(out / "keyframes.npz", allow_pickle=False) as arrays:
            depth = arrays["depth"].astype(np.float32) * arrays["unit"]
            depths = KeyframeDepths(arrays["stamps_ns"], depth, arrays["K"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"The results in '{out}' are damaged ({error}); map the sequence again.") from error
    return Run(load_tum(out / "trajectory.txt").trajectory, processed, depths)


def summarise_truth(errors: TrajectoryErrors) -> TruthSummary:
    """The errors without the alignment, for JSON."""
    return TruthSummary(
        ate_sim3=errors.ate_sim3,
        ate_se3=errors.ate_se3,
        scale=errors.scale,
        matched=errors.matched,
        truth_spread=errors.truth_spread,
        tracked_share=errors.tracked_share,
    )


def peak_rss_mb() -> float:
    """Peak memory of this process, MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would include the memory of the parent at the time of the fork
        peak = next((line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")), None)
        if peak is not None:
            return int(peak) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _compare_with_truth(
    trajectory: Trajectory, truth: Trajectory | None, processed_ns: np.ndarray
) -> tuple[TrajectoryErrors | None, str]:
    """The errors, or a sentence that says why they could not be computed."""
    if truth is None:
        return None, ""
    from st3r_ros.eval.trajectory import evaluate_trajectory

    try:
        return evaluate_trajectory(trajectory, truth, processed_ns), ""
    except (EvaluationError, MissingDependencyError) as error:
        return None, str(error)


def _during(trajectory: Trajectory, stamps_ns: np.ndarray) -> Trajectory:
    """The part of a trajectory between the first and the last of the stamps."""
    inside = (trajectory.stamps_ns >= stamps_ns.min()) & (trajectory.stamps_ns <= stamps_ns.max())
    return Trajectory(trajectory.stamps_ns[inside], trajectory.positions[inside], trajectory.quaternions_xyzw[inside])


def _summarise(
    recorder: RunRecorder,
    info: RunInfo,
    camera: RunCamera | None,
    scale: MapScale,
    sizes: Sizes,
    errors: TrajectoryErrors | None,
    note: str,
) -> RunSummary:
    return RunSummary(
        version=st3r_ros.__version__,
        input=info.input,
        pair_model=info.pair_model,
        map=info.map,
        camera=camera,
        metric=scale.metric,
        scale_source=scale.source,
        scale_sigma=None if math.isnan(scale.sigma) else scale.sigma,
        frames=recorder.frames,
        tracked=sizes.tracked,
        tracked_share=sizes.tracked / recorder.frames if recorder.frames else 0.0,
        states={state.value: count for state, count in recorder.state_counts.items()},
        lost_spans=recorder.lost_spans(),
        skipped=recorder.skipped,
        skips=recorder.skips,
        notes=recorder.notes,
        keyframes=sizes.keyframes,
        keyframes_dropped=sizes.keyframes_dropped,
        edges=sizes.edges,
        loops=sizes.loops,
        loops_rejected=sizes.loops_rejected,
        points=sizes.points,
        map_mb=sizes.map_mb,
        duration_s=recorder.duration_s,
        fps=recorder.fps,
        latency_ms=recorder.latencies(),
        peak_rss_mb=peak_rss_mb(),
        truth=None if errors is None else summarise_truth(errors),
        truth_note=note,
    )


def _write_depths(path: Path, keyframe_map: KeyframeMap, min_conf: float) -> None:
    """Depths as float16 in units of their median (map units may be arbitrary), every s-th pixel of evenly chosen keyframes."""
    ids = list(keyframe_map.keyframes)
    chosen = [ids[i] for i in np.unique(np.linspace(0, len(ids) - 1, min(len(ids), MAX_DEPTH_KEYFRAMES)).round().astype(int))]
    stamps, depths, intrinsics = [], [], []
    for keyframe in (keyframe_map.keyframes[keyframe_id] for keyframe_id in chosen):
        step = -(-keyframe.conf.shape[1] // MAX_DEPTH_WIDTH)
        z, conf = (array[::step, ::step].cpu().numpy().astype(np.float32) for array in (keyframe.X[..., 2], keyframe.conf))
        depths.append(np.where(conf >= max(min_conf, 1e-9), z * np.float32(keyframe.T_world_cam.scale), np.nan))
        stamps.append(keyframe.stamp_ns)
        intrinsics.append(keyframe.K / np.array([[step], [step], [1.0]]))
    depth = np.array(depths, dtype=np.float32) if depths else np.zeros((0, 1, 1), np.float32)
    claimed = depth[np.isfinite(depth)]
    unit = float(np.median(claimed)) if len(claimed) else 1.0
    depth = np.where(depth < MAX_FLOAT16 * unit, depth / unit, np.nan)
    arrays = {
        "stamps_ns": np.array(stamps, dtype=np.int64),
        "depth": depth.astype(np.float16),
        "K": np.array(intrinsics, dtype=np.float64).reshape(-1, 3, 3),
        "unit": np.float64(unit),
    }
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():  # as np.savez_compressed does, in a third of the time
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
