# SPDX-License-Identifier: Apache-2.0
"""bench/relocalization.py: the pairs are as wanted, the figures mean what they say, the command line does what it says."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import relocalization
from relocalization_bench.tries import Overlaps, Run, make_trials, try_map

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import InputError
from st3r_ros.sim.sequence import SimulatedSequence

TINY = "sim:room?seed=1&frames=60&width=96&height=72"
ROUND = "sim:room?seed=1&frames=300&width=96&height=72"  # looks everywhere
ROOM = "sim:room?seed=3&frames=20&fps=5&width=320&height=240"
KEYS = ["query", "reference", "status", "err_t", "err_r_deg", "err_t_dir_deg", "inliers", "ms", "nees"]


def rows_of(capsys, tmp_path, *arguments: str) -> list[dict]:
    target = tmp_path / "rows.json"
    assert relocalization.main([*arguments, "--json", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == relocalization.TABLE.header() and len(lines[1]) == len(lines[0])
    return json.loads(target.read_text())


def test_overlapping_pairs_are_found_and_measured(capsys, tmp_path):
    rows = rows_of(capsys, tmp_path, TINY, "--overlap", "--pairs", "6", "--pair-model", "noisy_depth", "--seeds", "1,2")
    assert len(rows) == 12 and list(rows[0])[: len(KEYS)] == KEYS
    assert all(row["overlap"] >= 0.2 and row["query"] != row["reference"] for row in rows)
    found = [row for row in rows if row["status"] == "localized"]
    assert len(found) >= 10 and all(row["err_r_deg"] < 5.0 and row["err_t"] < 0.5 and row["nees"] > 0 for row in found)
    assert not any(row["false_accept"] for row in rows)


def test_pairs_without_overlap_share_nothing_and_are_refused(capsys, tmp_path):
    rows = rows_of(capsys, tmp_path, ROUND, "--no-overlap", "--pairs", "5", "--pair-model", "noisy_depth")
    assert all(row["overlap"] == 0.0 for row in rows)
    assert all(row["status"] != "localized" and row["err_t"] is None and row["err_r_deg"] is None for row in rows)


def test_a_wrong_calibration_is_given_to_the_query(capsys, tmp_path):
    rows = rows_of(capsys, tmp_path, ROOM, "--gap", "3", "--pairs", "4", "--with-depth", "--focal", "0.7")
    doubted = [row["doubt"].startswith("The calibration seems wrong") for row in rows]
    assert sum(doubted) >= 2 and all(row["status"] != "localized" for row in rows)
    rows = rows_of(capsys, tmp_path, ROOM, "--gap", "3", "--pairs", "2", "--focal", "assumed")
    assert all(row["sigmas"] < 3.0 and "assumed" in row["reason"] for row in rows)


def test_pairs_by_gap_are_that_far_apart_and_true():
    _, trials = make_trials(Run(TINY, "noisy_depth", 1, pairs=7, gap=15))
    sequence = SimulatedSequence(SimulationConfig(seed=1, frames=60, width=96, height=72))
    assert len(trials) == 7
    for trial in trials:
        numbers = [int(np.flatnonzero(sequence.stamps_ns == f.stamp_ns)[0]) for f in (trial.reference_frame, trial.query_frame)]
        assert numbers[1] - numbers[0] == 15 and trial.depth is None and trial.overlap is None
        true = sequence.T_world_cam[numbers[0]].inverse() @ sequence.T_world_cam[numbers[1]]
        np.testing.assert_allclose(trial.T_ref_query.as_matrix(), true.as_matrix(), atol=1e-9)


def test_a_reference_gets_its_own_depth():
    _, trials = make_trials(Run(TINY, "noisy_depth", 1, pairs=2, gap=5, with_depth=True))
    sequence = SimulatedSequence(SimulationConfig(seed=1, frames=60, width=96, height=72))
    for trial in trials:
        index = int(np.flatnonzero(sequence.stamps_ns == trial.reference_frame.stamp_ns)[0])
        assert trial.depth.shape == trial.reference_frame.image.shape[:2]
        np.testing.assert_allclose(trial.depth, sequence.depth.depth(index), rtol=1e-5)


def test_frames_in_a_map_are_compared_after_alignment():
    rows = list(try_map(Run(TINY, "noisy_depth", 1, pairs=5)))
    assert len(rows) == 5 and all(
        row["scene_scale"] > 0.5 and row["err_t_dir_deg"] is None and row["nees"] is None for row in rows
    )
    stamps = [float(row["query"]) for row in rows]
    assert min(stamps) >= 48 / 15 - 1e-6  # of the last fifth
    assert all(row["err_t"] < 0.3 for row in rows if row["status"] == "localized")


@pytest.fixture
def pairs_file(tmp_path):
    """Two images of the room as a file of pairs; a is the reference."""
    sequence = SimulatedSequence(SimulationConfig(seed=3, frames=40, fps=5.0, width=320, height=240))
    a, b = sequence.T_world_cam[14], sequence.T_world_cam[17]
    for name, index in (("a.png", 14), ("b.png", 17)):
        cv2.imwrite(str(tmp_path / name), sequence.frame(index).image[..., ::-1])
    K = sequence.camera.K.tolist()
    pair = {"image_a": "a.png", "K_a": K, "image_b": "b.png", "K_b": K, "T_b_a": (b.inverse() @ a).as_matrix().tolist()}
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([pair]))
    return path


def test_a_file_of_pairs_is_tried(capsys, tmp_path, pairs_file):
    (row,) = rows_of(capsys, tmp_path, str(pairs_file), "--pair-model", "opencv")
    assert row["query"] == "b.png" and row["reference"] == "a.png" and row["status"] == "localized"
    assert row["err_t"] is None and row["err_r_deg"] < 2.0 and row["err_t_dir_deg"] < 10.0 and not row["false_accept"]


def test_overlap_is_unknown_without_depth():
    opened = type("Opened", (), {"sequence": SimulatedSequence(SimulationConfig(seed=1, frames=4, width=96, height=72))})
    assert np.isnan(Overlaps(opened).of(0, 10**12)) and Overlaps(opened).of(0, 0) > 0.95


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{pairs}", "--pair-model", "noisy_depth"], "noisy_depth needs the depth of a sequence"),
        (["{pairs}", "--with-depth"], "is a file of pairs without depth"),
        (["{tmp}/gone.json"], "gone.json' cannot be read"),
        (["{tmp}/other.json"], "holds no list of pairs"),
        (["{tmp}/gone"], "There is no file, folder or webcam"),
        ([TINY, "--pair-model", "mast3r"], "'mast3r' needs a checkpoint"),
        ([TINY, "--gap", "100"], "has no two frames that are as wanted"),
    ],
)
def test_what_fails_is_one_sentence(capsys, tmp_path, pairs_file, arguments, sentence):
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert relocalization.main([argument.format(tmp=tmp_path, pairs=pairs_file) for argument in arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pairs", "0"], "no whole number from 1 on"),
        (["--seeds", "1,x"], "no list of whole numbers"),
        (["--map", "--gap", "3"], "omit --gap and --with-depth"),
        (["--map", "--overlap"], "not allowed with argument"),
        (["--focal", "wide"], "neither a factor from 0.1 to 10 nor assumed"),
    ],
)
def test_a_wrong_option_is_said(capsys, arguments, sentence):
    with pytest.raises(SystemExit):
        relocalization.options([TINY, *arguments])
    assert sentence in capsys.readouterr().err


def test_frames_without_truth_cannot_be_tried(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((48, 64, 3), number, np.uint8))
    with pytest.raises(InputError, match="no true poses"):
        make_trials(Run(str(tmp_path), "opencv", 1, gap=1))
