# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

import pytest

from st3r_ros.commands.report import report_lines, shown_skips, skip_line
from st3r_ros.config import CloudConfig
from st3r_ros.recorder import RunRecorder, Skip
from st3r_ros.results import RunInfo, RunSummary, write_results
from st3r_ros.run_camera import RunCamera
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import MappingState, MappingUpdate

CAMERA = RunCamera(assumed=False, focal_px=251.2, width=320, height=240, distortion_model="plumb_bob")


def frames(*reasons: str) -> list[int]:
    return [skip.frame for skip in shown_skips(tuple(Skip(i, "", reason) for i, reason in enumerate(reasons)))]


def test_every_reason_for_a_skipped_frame_has_an_example():
    assert frames(*"aaaaaaa") == [0, 1, 2]
    assert frames(*"aaaabaac") == [0, 4, 7]
    assert frames(*"aaaab") == [0, 1, 4]
    assert frames(*"abcdefgh") == [0, 1, 2, 3, 4, 5]
    assert frames() == []


def test_a_source_is_not_named_twice():
    assert skip_line(Skip(3, "a.png", "'in/a.png' is no image.")) == "'in/a.png' is no image."
    assert skip_line(Skip(3, "drive frame 3", "It is too small.")) == "drive frame 3: It is too small."


def nothing_tracked(folder: Path, state: MappingState, skipped: int = 0, **info) -> RunSummary:
    """The summary of ten images that were not tracked, after some that were skipped."""
    recorder = RunRecorder()
    for k in range(skipped):
        recorder.skip(k, f"{k}.png", "It is damaged.")
    for k in range(10):
        recorder.record(MappingUpdate(skipped + k, k, state))
    return write_results(folder, KeyframeMap(), recorder, RunInfo("garden", "opencv", **info), cloud_config=CloudConfig())


def reason(summary: RunSummary) -> str:
    return report_lines(summary, Path("out"))[-2]


def test_advice_after_nothing_was_tracked_is_for_its_cause(tmp_path):
    start = nothing_tracked(tmp_path, MappingState.INITIALIZING)
    assert "no two views" in reason(start) and "give the calibration (--camera)" in reason(start)
    assert "check the calibration (--camera)" in reason(replace(start, camera=CAMERA))
    found = reason(nothing_tracked(tmp_path, MappingState.LOST, map="office"))
    assert "no place of the map 'office' was recognized" in found and "calibration" in found and "st3r localize" in found
    assert "sideways" not in found
    skipped = reason(nothing_tracked(tmp_path, MappingState.INITIALIZING, skipped=30))
    assert skipped.endswith("30 of 40 images were skipped. The first reason: 0.png: It is damaged.")
    assert "no two views" in reason(nothing_tracked(tmp_path, MappingState.INITIALIZING, skipped=2))


@pytest.mark.parametrize(
    ("camera", "line"),
    [
        (CAMERA, "Camera: calibrated; focal length 251 px for 320x240, plumb_bob."),
        (
            replace(CAMERA, assumed=True, distortion_model="none", other_focals_px=(300.4, 401.0)),
            "Camera: assumed, the images have no calibration; focal length 251 px for 320x240; 300, 401 px in other keyframes.",
        ),
    ],
)
def test_the_camera_is_named(tmp_path, camera, line):
    assert line in report_lines(replace(nothing_tracked(tmp_path, MappingState.LOST), camera=camera), Path("out"))


def test_damage_of_the_input_has_its_own_line(tmp_path):
    summary = replace(nothing_tracked(tmp_path, MappingState.LOST), notes=("The bag is damaged: 'a.mcap' was cut off.",))
    lines = report_lines(summary, Path("out"))
    assert "The bag is damaged: 'a.mcap' was cut off." in lines and not any(line.startswith("Skipped") for line in lines)
