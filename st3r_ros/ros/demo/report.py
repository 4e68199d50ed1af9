# SPDX-License-Identifier: Apache-2.0
"""The end of the demo: compares the results of the mapping node with ground truth and prints a short report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from st3r_ros.commands.report import truth_line
from st3r_ros.errors import EvaluationError, MissingDependencyError
from st3r_ros.eval.picture import draw_map
from st3r_ros.eval.trajectory import align_truth, evaluate_trajectory
from st3r_ros.io.atomic import write_file
from st3r_ros.io.ply import read_ply
from st3r_ros.io.trajectory import read_tum
from st3r_ros.msg import MappingStatus
from st3r_ros.results import TruthSummary, read_results, summarise_truth, unit_name
from st3r_ros.types import Trajectory

SHOWN_FILES = ("cloud.ply", "trajectory.txt", "map.png", "summary.json")


def compare_with_truth(out: Path, truth: Trajectory | None) -> None:
    """Adds the errors to summary.json and the true path to map.png, or a note why they cannot be compared.

    The mapping node that wrote the files has no ground truth, only images.
    """
    if truth is None:
        return
    summary = json.loads((out / "summary.json").read_text())
    run = read_results(out)
    try:
        errors = evaluate_trajectory(run.trajectory, truth, run.processed_ns)
    except (EvaluationError, MissingDependencyError) as error:
        summary["truth_note"] = str(error)
    else:
        summary["truth"] = asdict(summarise_truth(errors))
        picture = draw_map(
            read_ply(out / "cloud.ply"),
            run.trajectory,
            read_tum(out / "keyframes.txt"),
            align_truth(truth, errors.T_truth_map),
            title=f"ATE {errors.ate_sim3:.3g} after Sim(3) alignment",
            unit=unit_name(metric=summary["metric"]),
        )
        write_file(out / "map.png", picture)
    write_file(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())


def print_report(status: MappingStatus, sent: int | None, out: Path, interrupted_by: str) -> None:
    """Prints how many images were sent, received and tracked, the error, and the result files."""
    summary = json.loads((out / "summary.json").read_text())
    if interrupted_by:
        print(f"Interrupted by {interrupted_by}; what was mapped until then is written.")
    print(
        f"Images: {'?' if sent is None else sent} sent, {status.frames_received} received, {status.frames_dropped} dropped while "
        f"the mapper was busy, {status.frames_skipped} unusable, {summary['frames']} mapped."
    )
    print(
        f"Map: {summary['tracked']} tracked ({summary['tracked_share']:.1%} of the mapped), {summary['keyframes']} keyframes, "
        f"{summary['points']} points, {summary['fps']:.1f} frames/s."
    )
    if summary["truth"] is not None:
        print(truth_line(TruthSummary(**summary["truth"])))
    elif summary["truth_note"]:
        print(f"Not compared with the ground truth: {summary['truth_note']}")
    print(f"Results: {', '.join(str(out / name) for name in SHOWN_FILES)}")
