# SPDX-License-Identifier: Apache-2.0
"""Absolute trajectory error after alignment, through `evo` (https://github.com/MichaelGrupp/evo)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from st3r_ros.errors import EvaluationError, MissingDependencyError
from st3r_ros.eval.association import MATCH_TOLERANCE_NS, associate
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.io.stamps import format_stamp
from st3r_ros.types import Trajectory

if TYPE_CHECKING:
    from evo.core.trajectory import PosePath3D

MIN_POSES = 3
FEW_MATCHED = 0.6
"""Share of the images with a true pose below which a sentence says how many have one."""


@dataclass(frozen=True, eq=False)
class TrajectoryErrors:
    """Errors of an estimated trajectory.

    ate_sim3, ate_se3: RMSE of the positions in the truth's unit, after the best similarity and the best rigid alignment.
    T_truth_map: the similarity alignment; its scale is units of the truth per map unit.
    matched: poses compared. truth_spread: RMS distance of the compared true positions to their centroid.
    tracked_share: compared poses per processed frame that has a true pose; None when the processed frames are unknown.
    """

    ate_sim3: float
    ate_se3: float
    T_truth_map: Sim3
    matched: int
    truth_spread: float
    tracked_share: float | None

    @property
    def scale(self) -> float:
        """Units of the truth per unit of the map."""
        return float(self.T_truth_map.scale)


def evaluate_trajectory(
    estimate: Trajectory,
    truth: Trajectory,
    processed_ns: np.ndarray | None = None,
    tolerance_ns: int = MATCH_TOLERANCE_NS,
) -> TrajectoryErrors:
    """Compares the poses whose stamps lie within the tolerance of a true pose.

    processed_ns: (N,) int64 stamps of every frame that was processed, tracked or not, for the tracked share.
    Raises EvaluationError when fewer than 3 poses can be compared or they do not determine an alignment.
    """
    pairs = associate(estimate.stamps_ns, truth.stamps_ns, tolerance_ns)
    if len(pairs) < MIN_POSES:
        raise EvaluationError(_too_few(estimate, truth, len(pairs), tolerance_ns))
    true_positions = truth.positions[pairs.references]
    ate_se3, _ = _aligned_error(estimate, truth, pairs.queries, pairs.references, with_scale=False)
    ate_sim3, T_truth_map = _aligned_error(estimate, truth, pairs.queries, pairs.references, with_scale=True)
    tracked_share = None
    if processed_ns is not None:
        possible = len(associate(processed_ns, truth.stamps_ns, tolerance_ns))
        tracked_share = min(1.0, len(pairs) / possible) if possible else None
    return TrajectoryErrors(
        ate_sim3=ate_sim3,
        ate_se3=ate_se3,
        T_truth_map=T_truth_map,
        matched=len(pairs),
        truth_spread=float(np.sqrt(np.mean(np.sum((true_positions - true_positions.mean(axis=0)) ** 2, axis=1)))),
        tracked_share=tracked_share,
    )


def align_truth(truth: Trajectory, T_truth_map: Sim3) -> Trajectory:
    """The true trajectory in the map's coordinates and unit, to draw both."""
    T_map_truth = T_truth_map.inverse()
    if not truth.has_rotations:
        return Trajectory(truth.stamps_ns, T_map_truth.act(truth.positions), truth.quaternions_xyzw)
    rotated = Sim3.from_quaternion_xyzw(truth.quaternions_xyzw, truth.positions)
    aligned = T_map_truth @ rotated
    return Trajectory(truth.stamps_ns, aligned.translation, aligned.quaternion_xyzw)


def _aligned_error(
    estimate: Trajectory, truth: Trajectory, of_estimate: np.ndarray, of_truth: np.ndarray, *, with_scale: bool
) -> tuple[float, Sim3]:
    """The APE RMSE after alignment, and the alignment."""
    try:
        from evo.core import geometry, metrics
    except ImportError as error:
        raise MissingDependencyError(f"The trajectory error needs the library evo ({error}): pip install evo.") from error
    path, reference = _evo_path(estimate, of_estimate), _evo_path(truth, of_truth)
    try:
        rotation, translation, scale = path.align(reference, correct_scale=with_scale)
    except geometry.GeometryException as error:
        raise EvaluationError(
            f"The {len(of_estimate)} matched positions are collinear or coincide, which does not determine an alignment with the "
            "ground truth; evaluate a run whose camera moves in at least two directions."
        ) from error
    ape = metrics.APE(metrics.PoseRelation.translation_part)
    ape.process_data((reference, path))
    return float(ape.get_statistic(metrics.StatisticsType.rmse)), Sim3(rotation, translation, np.float64(scale))


def _evo_path(trajectory: Trajectory, indices: np.ndarray) -> PosePath3D:
    from evo.core.trajectory import PosePath3D

    wxyz = trajectory.quaternions_xyzw[indices][:, [3, 0, 1, 2]]
    if not trajectory.has_rotations:
        wxyz = np.tile([1.0, 0.0, 0.0, 0.0], (len(indices), 1))  # the errors are those of the positions
    return PosePath3D(positions_xyz=trajectory.positions[indices], orientations_quat_wxyz=wxyz)


def _too_few(estimate: Trajectory, truth: Trajectory, matched: int, tolerance_ns: int) -> str:
    if len(estimate) < MIN_POSES:
        return f"The estimated trajectory has {len(estimate)} poses; the comparison needs at least {MIN_POSES}."
    if len(truth) < MIN_POSES:
        return f"The true trajectory has {len(truth)} poses; the comparison needs at least {MIN_POSES}."
    found = "No pose" if matched == 0 else f"Only {matched} poses"
    return (
        f"{found} of the estimate ({_span(estimate.stamps_ns)}) within {tolerance_ns / 1e6:.0f} ms of a pose of the ground truth "
        f"({_span(truth.stamps_ns)}), and at least {MIN_POSES} are needed; check that both belong to the same sequence"
        f"{_about_time(estimate.stamps_ns, truth.stamps_ns)}."
    )


def why_unmatched(images_ns: np.ndarray, truth: Trajectory, tolerance_ns: int = MATCH_TOLERANCE_NS) -> str:
    """A sentence where too few images have a true pose to compare with, "" otherwise. images_ns: (N,) int64 stamps."""
    matched = len(associate(images_ns, truth.stamps_ns, tolerance_ns))
    if matched >= max(MIN_POSES, FEW_MATCHED * len(images_ns)) or len(images_ns) < MIN_POSES:
        return ""
    hint = _about_time(images_ns, truth.stamps_ns)
    return (
        f"{matched} of {len(images_ns)} images ({_span(images_ns)}) have a true pose within {tolerance_ns / 1e6:.0f} ms, of "
        f"those from {_span(truth.stamps_ns)}; check that both belong to the same sequence{hint}."
    )


def _span(stamps_ns: np.ndarray) -> str:
    return f"{format_stamp(int(min(stamps_ns)))[:-6]} s to {format_stamp(int(max(stamps_ns)))[:-6]} s"


def _about_time(stamps_ns: np.ndarray, truth_ns: np.ndarray) -> str:
    """A hint at another unit of the truth, or another time base."""
    ratio = float(np.ptp(truth_ns)) / max(float(np.ptp(stamps_ns)), 1.0)
    for unit, factor in (("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if 0.3 < ratio / factor < 3.0:
            return f"; the true stamps look like {unit}: name their column 'timestamp [{unit}]'"
    apart = min(truth_ns) > max(stamps_ns) or max(truth_ns) < min(stamps_ns)
    return ", and that their stamps have the same unit and begin at the same time" if apart else ""
