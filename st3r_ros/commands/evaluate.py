# SPDX-License-Identifier: Apache-2.0
"""`st3r eval`: compares the results of a run, or localized poses, with the ground truth of a sequence."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from st3r_ros.commands.report import truth_line
from st3r_ros.commands.truth import truth_for
from st3r_ros.errors import EvaluationError, GeometryError, InputError
from st3r_ros.eval.association import associate
from st3r_ros.eval.depth import DepthErrors, evaluate_depth
from st3r_ros.eval.relocalization import PoseError, RelocalizationErrors, pose_error, summarise_attempts
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.io.atomic import write_file
from st3r_ros.io.calibration import read_calibration
from st3r_ros.io.layouts.folder import stamp_in
from st3r_ros.io.layouts.recording import Truth
from st3r_ros.maps.load import load_map
from st3r_ros.results import Run, TruthSummary, read_results, summarise_truth
from st3r_ros.sequences import FrameSequence, open_sequence


@dataclass(frozen=True)
class Evaluation:
    """Errors of a run; None without the ground truth. depth_note: why depth could not be compared, or ""."""

    results: str
    sequence: str
    frames: int
    tracked: int
    trajectory: TruthSummary | None
    depth: DepthErrors | None
    depth_note: str
    truth_notes: tuple[str, ...] = ()


def run_eval(out: str, source: str, camera_file: str, json_target: str, truth_file: str = "") -> None:
    """Prints the evaluation.

    json_target: JSON file, "-" for JSON on stdout instead of text, "" for none. truth_file: with the true poses, "" for those of
    the sequence.

    Raises:
        St3rError: the results or the sequence cannot be read, they do not overlap, or there is no ground truth.
    """
    run = read_results(Path(out))
    sequence = open_sequence(source, camera=read_calibration(camera_file) if camera_file else None)
    evaluation = evaluate(run, sequence, out, truth_for(sequence, truth_file))
    _show(dataclasses.asdict(evaluation), evaluation_lines(evaluation), json_target)


def run_relocalization_eval(file: str, source: str, json_target: str, truth_file: str = "") -> None:
    """Prints the errors of the poses in a JSON file of `st3r localize`. json_target, truth_file: as for `run_eval`.

    Raises:
        St3rError: the file or the sequence cannot be read, or has no true poses for any of the queries.
    """
    answers = _read_answers(Path(file))
    sequence = open_sequence(source)
    truth = TruePoses(sequence, truth_for(sequence, truth_file))
    errors, unknown = compare_answers(answers, truth)
    figures = summarise_attempts(errors)
    content = {"results": file, "sequence": truth.name, "without_truth": unknown, **_without_nan(dataclasses.asdict(figures))}
    content["truth_notes"] = list(truth.notes)
    lines = relocalization_lines(figures, file, truth.name, unknown)
    _show(content, [*lines, *(f"Note: {note}" for note in truth.notes)], json_target)


def _show(content: dict[str, Any], lines: list[str], json_target: str) -> None:
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if json_target == "-":
        print(text, end="")
        return
    if json_target:
        write_file(json_target, text.encode())
    for line in lines:
        print(line)


def evaluate(run: Run, sequence: FrameSequence, results_name: str, truth: Truth) -> Evaluation:
    """Compares a run with the ground truth of the sequence.

    Raises:
        EvaluationError: there is none, or the trajectories cannot be compared.
    """
    depth_images = getattr(sequence, "depth", None)
    if truth.trajectory is None and depth_images is None:
        reasons = " ".join(["", *truth.notes])
        raise EvaluationError(
            f"'{sequence.name}' has neither true poses nor depth (groundtruth.txt, depth.txt) to compare with.{reasons}"
        )
    trajectory = None
    if truth.trajectory is not None:
        trajectory = summarise_truth(evaluate_trajectory(run.trajectory, truth.trajectory, run.processed_ns))
    depth, note = None, ""
    if depth_images is not None:
        camera = depth_images.camera or sequence.camera
        try:
            if camera is None:
                raise EvaluationError(f"The depth of '{sequence.name}' has no calibration; give it with --camera.")
            depth = evaluate_depth(run.depths, depth_images, camera, trajectory.scale if trajectory else None)
        except EvaluationError as error:
            if trajectory is None:
                raise
            note = str(error)
    return Evaluation(
        results=results_name,
        sequence=sequence.name,
        frames=len(run.processed_ns),
        tracked=len(run.trajectory),
        trajectory=trajectory,
        depth=depth,
        depth_note=note,
        truth_notes=truth.notes,
    )


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """The evaluation as text, line by line."""
    lines = [f"{evaluation.results} on {evaluation.sequence}: {evaluation.tracked} of {evaluation.frames} frames tracked."]
    if evaluation.trajectory is not None:
        truth = evaluation.trajectory
        lines.append(truth_line(truth))
        share = truth.ate_sim3 / truth.truth_spread
        lines.append(f"The spread of the true positions is {truth.truth_spread:.3g}; ATE is {share:.2%} of it.")
        if truth.tracked_share is not None:
            lines.append(f"Of the processed frames with a true pose, {truth.tracked_share:.1%} were tracked.")
    lines += [f"Note: {note}" for note in evaluation.truth_notes]
    if evaluation.depth is not None:
        lines += _depth_lines(evaluation.depth)
    if evaluation.depth_note:
        lines.append(f"Depth not compared: {evaluation.depth_note}")
    return lines


def _depth_lines(depth: DepthErrors) -> list[str]:
    lines = [f"Depth of {depth.keyframes} keyframes, {depth.coverage:.1%} of the measured pixels covered:"]
    rows = {
        "map units as metres": depth.unscaled,
        "scaled by the trajectory": depth.map_scaled,
        "scaled by the median": depth.median_scaled,
    }
    for name, row in rows.items():
        if row is not None:
            lines.append(f"  {name:<26} AbsRel {row.abs_rel:.3f}   within 1.25x {row.delta_125:.1%}")
    return lines


# Localized poses ------------------------------------------------------------------------------------------------------------


class TruePoses:
    """The true poses of a sequence's images, by stamp or by file name. Raises EvaluationError where they are not known."""

    def __init__(self, sequence: FrameSequence, truth: Truth) -> None:
        if truth.trajectory is None:
            raise EvaluationError(" ".join([f"'{sequence.name}' has no true poses to compare with.", *truth.notes]))
        if not truth.trajectory.has_rotations:
            raise EvaluationError(f"The truth of '{sequence.name}' has positions only; localized poses need the rotations too.")
        self.name, self.trajectory, self.notes = sequence.name, truth.trajectory, truth.notes
        self._T_world_cam = SE3.from_quaternion_xyzw(self.trajectory.quaternions_xyzw, self.trajectory.positions)
        self._stamps: dict[str, int] = getattr(sequence, "stamps_by_name", {})

    def of(self, name: str, stamp_ns: int | None = None) -> SE3 | None:
        """T_world_cam of an image, None when unknown."""
        if stamp_ns is None:
            stamp_ns = self._stamps.get(Path(name).name, stamp_in(name))
        if stamp_ns is None:
            return None
        found = associate(np.array([stamp_ns]), self.trajectory.stamps_ns)
        return self._T_world_cam[int(found.references[0])] if len(found) else None


def compare_answers(answers: dict[str, Any], truth: TruePoses) -> tuple[list[PoseError | None], int]:
    """One entry per query, None for a refusal; and the number of queries without a true pose, which are skipped.

    Raises:
        EvaluationError: no query, or not every reference image, has a true pose.
        MapFileError: the map that the answers are in cannot be loaded.
    """
    T_truth_map = _aligned_map(answers["map"], truth) if answers["map"] else None
    compared: list[PoseError | None] = []
    unknown = 0
    for answer in answers["queries"]:
        T_world_query = truth.of(answer["query"], answer["stamp_ns"])
        if T_world_query is None:
            unknown += 1
        elif answer["T_ref_cam"] is None:
            compared.append(None)
        else:
            compared.append(_compare(answer, T_world_query, truth, T_truth_map))
    if not compared:
        raise EvaluationError(f"None of the {unknown} queries has a true pose in '{truth.name}'; give their own sequence.")
    return compared, unknown


def _compare(answer: dict[str, Any], T_world_query: SE3, truth: TruePoses, T_truth_map: Sim3 | None) -> PoseError:
    T_found = SE3.from_matrix(np.array(answer["T_ref_cam"]))
    if T_truth_map is not None:
        error = pose_error((T_truth_map @ T_found.sim3()).se3(), T_world_query, metric=True)
        return dataclasses.replace(error, direction_deg=math.nan)  # the direction of a position in a map is meaningless
    T_world_ref = truth.of(answer["reference"])
    if T_world_ref is None:
        raise EvaluationError(
            f"The reference '{answer['reference']}' has no true pose in '{truth.name}'; use references from that sequence."
        )
    covariance = None if answer["covariance"] is None else np.array(answer["covariance"])
    return pose_error(T_found, T_world_ref.inverse() @ T_world_query, metric=answer["metric"], covariance=covariance)


def _aligned_map(folder: str, truth: TruePoses) -> Sim3:
    return evaluate_trajectory(load_map(folder).map.trajectory(), truth.trajectory).T_truth_map


def _read_answers(file: Path) -> dict[str, Any]:
    try:
        answers = json.loads(file.read_text(encoding="utf-8"))
        keys = {"query", "stamp_ns", "reference", "T_ref_cam", "covariance", "metric"}
        whole = isinstance(answers["map"], str) and all(keys <= answer.keys() for answer in answers["queries"])
        for answer in answers["queries"]:
            if answer["T_ref_cam"] is not None:
                SE3.from_matrix(np.array(answer["T_ref_cam"], dtype=np.float64))
    except OSError as error:
        raise InputError(f"'{file}' cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, GeometryError):
        whole = False
    if not whole:
        raise InputError(f"'{file}' is not a file of `st3r localize --json`.")
    return answers


def relocalization_lines(figures: RelocalizationErrors, file: str, sequence: str, unknown: int) -> list[str]:
    """The statistics as text, line by line."""
    lines = [f"{file} on {sequence}: {figures.answered} of {figures.attempts} queries localized."]
    if figures.answered:
        medians = [f"rotation {figures.median_rotation_deg:.2f} degrees"]
        if math.isfinite(figures.median_translation):
            medians.insert(0, f"position {figures.median_translation:.3g} m")
        if math.isfinite(figures.median_direction_deg):
            medians.append(f"direction {figures.median_direction_deg:.2f} degrees")
        lines.append(f"Median errors: {', '.join(medians)}.")
        shares = figures.shares
        if figures.metric:
            lines.append(f"Of all queries, {shares.fine:.1%} within 0.25 m and 5 degrees, {shares.coarse:.1%} within 0.5 m.")
        else:
            lines.append(f"Of all queries, {shares.directed:.1%} with rotation within 2 and direction within 10 degrees.")
        lines.append(f"Wrong answers (off by more than 0.5 m or 10 degrees): {figures.false_accepts}.")
        if math.isfinite(figures.nees):
            lines.append(f"Squared errors normalized by the covariances: {figures.nees:.2f} on average; 6 is ideal.")
    if unknown:
        lines.append(f"{unknown} queries without a true pose were skipped.")
    return lines


def _without_nan(content: dict[str, Any]) -> dict[str, Any]:
    """NaN as None."""
    result: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            result[name] = _without_nan(value)
        else:
            result[name] = None if isinstance(value, float) and math.isnan(value) else value
    return result
