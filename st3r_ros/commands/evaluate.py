# SPDX-License-Identifier: Apache-2.0
"""`st3r eval`: the results of a run against the truth that comes with its sequence."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from st3r_ros.commands.report import truth_line
from st3r_ros.errors import EvaluationError
from st3r_ros.eval.depth import DepthErrors, evaluate_depth
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.io.atomic import write_file
from st3r_ros.io.calibration import read_camera
from st3r_ros.results import Run, TruthSummary, read_results, summarise_truth
from st3r_ros.sequences import ImageSequence, open_sequence


@dataclass(frozen=True)
class Evaluation:
    """Errors of a run; None where the sequence has no such truth. depth_note: why the depth could not be compared, or ""."""

    results: str
    sequence: str
    frames: int
    tracked: int
    trajectory: TruthSummary | None
    depth: DepthErrors | None
    depth_note: str


def run_eval(out: str, source: str, camera_file: str, json_target: str) -> None:
    """Prints the evaluation; json_target: file for it as JSON, "-" for JSON on stdout instead of text, "" for none.

    Raises:
        St3rError: the results or the sequence cannot be read, they have nothing in common, or there is no truth.
    """
    run = read_results(Path(out))
    sequence = open_sequence(source, camera=read_camera(camera_file) if camera_file else None)
    evaluation = evaluate(run, sequence, out)
    text = json.dumps(dataclasses.asdict(evaluation), indent=2, allow_nan=False) + "\n"
    if json_target == "-":
        print(text, end="")
        return
    if json_target:
        write_file(json_target, text.encode())
    for line in evaluation_lines(evaluation):
        print(line)


def evaluate(run: Run, sequence: ImageSequence, results_name: str) -> Evaluation:
    """Compares a run with whatever truth the sequence has.

    Raises:
        EvaluationError: it has none, or the trajectories cannot be compared.
    """
    depth_images = getattr(sequence, "depth", None)
    if sequence.truth is None and depth_images is None:
        raise EvaluationError(
            f"'{sequence.name}' has neither true poses (groundtruth.txt) nor depth (depth.txt); there is nothing to compare with."
        )
    trajectory = None
    if sequence.truth is not None:
        trajectory = summarise_truth(evaluate_trajectory(run.trajectory, sequence.truth, run.processed_ns))
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
    if evaluation.depth is not None:
        lines += _depth_lines(evaluation.depth)
    if evaluation.depth_note:
        lines.append(f"Depth not compared: {evaluation.depth_note}")
    return lines


def _depth_lines(depth: DepthErrors) -> list[str]:
    lines = [f"Depth of {depth.keyframes} keyframes, {depth.coverage:.1%} of the measured pixels covered:"]
    rows = {
        "map unit taken for metres": depth.unscaled,
        "scaled by the trajectory": depth.map_scaled,
        "scaled by the median": depth.median_scaled,
    }
    for name, row in rows.items():
        if row is not None:
            lines.append(f"  {name:<26} AbsRel {row.abs_rel:.3f}   within 1.25x {row.delta_125:.1%}")
    return lines
