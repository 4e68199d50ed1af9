# SPDX-License-Identifier: Apache-2.0
"""The report at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from st3r_ros.recorder import Skip
from st3r_ros.results import RESULT_FILES, RunSummary, TruthSummary
from st3r_ros.sequences import FrameSequence
from st3r_ros.types import MappingState

SHOWN_SKIPS, SHOWN_REASONS = 3, 6
SHOWN_SPANS = 5
MOSTLY = 0.5
"""Share of the images that, when skipped, is the reason for having tracked none."""


def print_summary(summary: RunSummary, out: Path, interrupted_by: str = "") -> None:
    """Prints the report of a run to stdout. interrupted_by: the signal that ended it early, "" for none."""
    for line in report_lines(summary, out, interrupted_by):
        print(line)


def input_lines(sequence: FrameSequence, notes: Sequence[str] = ()) -> list[str]:
    """What was found at a source, and what is left out. notes: more of them."""
    all_notes = dict.fromkeys([*sequence.notes, *notes])
    return [sequence.origin] * bool(sequence.origin) + [f"Note: {note}" for note in all_notes]


def report_lines(summary: RunSummary, out: Path, interrupted_by: str = "") -> list[str]:
    """The report, line by line; the last one names the results."""
    lines = [f"Interrupted by {interrupted_by}; what was mapped until then is written."] if interrupted_by else []
    lines.append(
        f"Mapped {summary.frames} frames of {summary.input} in {summary.duration_s:.1f} s ({summary.fps:.1f} frames/s): "
        f"{summary.tracked} tracked ({summary.tracked_share:.1%}), {summary.keyframes} keyframes, {summary.points} points."
    )
    lines.append(
        f"Map: {summary.loops} loops closed, {summary.loops_rejected} rejected; {summary.keyframes_dropped} keyframes dropped; "
        f"{summary.map_mb:.0f} MB."
    )
    if summary.camera is not None:
        lines.append(summary.camera.line)
    total = summary.latency_ms.get("total")
    if total is not None:
        lines.append(
            f"Per frame: median {total.median_ms:.0f} ms, 95 % below {total.p95_ms:.0f} ms. Memory: {summary.peak_rss_mb:.0f} MB."
        )
    if summary.truth is not None:
        lines.append(truth_line(summary.truth))
    if summary.truth_note:
        lines.append(summary.truth_note if summary.truth else f"Not compared with the ground truth: {summary.truth_note}")
    if summary.lost_spans:
        spans = [f"{s.first_frame}-{s.last_frame}" for s in summary.lost_spans[:SHOWN_SPANS]]
        more = " ..." if len(summary.lost_spans) > SHOWN_SPANS else ""
        lines.append(f"Lost on frames {', '.join(spans)}{more}.")
    lines += summary.notes
    if summary.skipped:
        lines.append(f"Skipped {summary.skipped} unusable {'frame' if summary.skipped == 1 else 'frames'}:")
        lines += [f"  {skip_line(skip)}" for skip in shown_skips(summary.skips)]
    if summary.tracked == 0:
        lines.append(_why_nothing(summary))
    lines.append(f"Results in {out}: {', '.join(RESULT_FILES)}.")
    return lines


def skip_line(skip: Skip) -> str:
    """The reason for a skipped frame, with its source where the reason does not name it."""
    return skip.reason if skip.source in skip.reason else f"{skip.source}: {skip.reason}"


def shown_skips(skips: tuple[Skip, ...]) -> list[Skip]:
    """A few skipped frames, in order: the first for each reason, then others."""
    firsts = list({skip.reason: skip for skip in reversed(skips)}.values())[::-1][:SHOWN_REASONS]
    others = [skip for skip in skips if skip not in firsts]
    return sorted((firsts + others)[: max(SHOWN_SKIPS, len(firsts))], key=lambda skip: skip.frame)


def truth_line(truth: TruthSummary) -> str:
    """The trajectory errors as a sentence."""
    return (
        f"Error against the ground truth ({truth.matched} poses): ATE {truth.ate_sim3:.3g} after Sim(3) alignment "
        f"(scale {truth.scale:.3g}), {truth.ate_se3:.3g} after SE(3)."
    )


def _why_nothing(summary: RunSummary) -> str:
    if summary.frames == 0:
        return "No frame was mapped: no image could be used. Check the images and the calibration."
    if summary.skipped > MOSTLY * (summary.skipped + summary.frames):
        first = f" The first reason: {skip_line(summary.skips[0])}" if summary.skips else ""
        return f"No frame was tracked: {summary.skipped} of {summary.skipped + summary.frames} images were skipped.{first}"
    if summary.map and MappingState.LOST.value in summary.states:
        return (
            f"No frame was tracked: no place of the map '{summary.map}' was recognized. The images show other places, or their "
            "calibration (--camera) is wrong; `st3r localize` with the map as --reference says why for each image."
        )
    calibration = "give" if summary.camera is None or summary.camera.assumed else "check"
    return (
        "No frame was tracked: no two views with enough matches and sideways motion were found. Move the camera sideways in "
        f"front of something with texture, take more of the images (--every), or {calibration} the calibration (--camera)."
    )
