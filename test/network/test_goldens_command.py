# SPDX-License-Identifier: Apache-2.0
"""bench/goldens.py as its user sees it: which files it takes, what it says, how it ends."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from golden_checks.command import main
from golden_checks.kinds import kind_of
from golden_checks.network_files import predict
from golden_checks.procedural import procedural_image, procedural_network
from golden_checks.results import Check, relative_l2, share_different, share_missing, statistics_error

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def run(monkeypatch):
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["goldens.py", *map(str, arguments)])
        return main()

    return run


def test_views_of_different_sizes_and_whole_arrays_are_compared(run, tmp_path, capsys):
    images = procedural_image("a", 48, 64), procedural_image("b", 64, 32)
    arrays = predict(procedural_network("tiny_dust3r_linear"), *images)
    assert arrays["conf1"].shape == (48, 64) and arrays["conf2"].shape == (64, 32)
    arrays["shape_img"] = np.array([image.shape[:2] for image in images])
    np.savez(tmp_path / "tiny_dust3r_linear__other_48x64_64x32.npz", **arrays)
    assert run(tmp_path) == 0
    arrays["conf2"] = arrays["conf2"] * 1.0001
    np.savez(tmp_path / "tiny_dust3r_linear__other_48x64_64x32.npz", **arrays)
    assert run(tmp_path) == 1
    assert "8 checks of 1 files, 1 beyond tolerance" in capsys.readouterr().out


@pytest.mark.parametrize(("order", "status"), [("ab", 0), ("ba", 1)])
def test_matches_are_those_of_the_images_that_a_file_brings(run, tmp_path, order, status):
    recorded = dict(np.load(GOLDEN / "match_tiny_proc_96x128.npz"))
    kept = {name: values for name, values in recorded.items() if name.startswith(("sym_S8", "desc_s8"))}
    images = dict(zip(("img1", "img2"), (procedural_image(name, 96, 128) for name in order), strict=True))
    np.savez(tmp_path / "match_tiny_brought_64x64.npz", **kept, **images)
    assert run(tmp_path) == status


def test_files_within_tolerance_end_with_0_and_a_report(run, tmp_path, capsys):
    shutil.copy(GOLDEN / "rope2d.npz", tmp_path)
    (tmp_path / "notes.txt").write_text("nothing to check")
    assert run(tmp_path, "--json", tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] and [check["array"] for check in report["checks"]] == ["out16", "out64"]
    said = capsys.readouterr().out
    assert "notes.txt" in said and "skipped" in said and "2 checks of 1 files, 0 beyond tolerance" in said


def test_a_wrong_value_ends_with_1(run, tmp_path, capsys):
    arrays = dict(np.load(GOLDEN / "rope2d.npz"))
    arrays["out16"] = arrays["out16"] + 1e-4
    np.savez(tmp_path / "rope2d_other.npz", **arrays)
    assert run(tmp_path) == 1
    assert "1 beyond tolerance" in capsys.readouterr().out


def test_a_damaged_file_ends_with_1_and_does_not_keep_others_from_being_checked(run, tmp_path, capsys):
    (tmp_path / "focal.npz").write_bytes((GOLDEN / "focal.npz").read_bytes()[:1000])
    (tmp_path / "preprocess.json").write_text("{")
    shutil.copy(GOLDEN / "rope2d.npz", tmp_path)
    assert run(tmp_path) == 1
    assert "4 checks of 3 files, 2 beyond tolerance" in capsys.readouterr().out


def test_nothing_to_check_ends_with_1(run, tmp_path, capsys):
    shutil.copy(GOLDEN / "rope2d.npz", tmp_path)
    assert run(tmp_path, "--set", "focal") == 1
    assert "Nothing was checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["missing"], ["--set", "unknown"], ["--json", "missing/report.json"], ["--weights", "none"]]
)
def test_a_mistake_in_the_arguments_ends_with_2(run, arguments):
    with pytest.raises(SystemExit) as ending:
        run(*arguments)
    assert ending.value.code == 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tiny_mast3r__proc_48x80_full.npz", "tiny_mast3r"),
        ("full_mast3r__other_input_96x160.npz", "full_mast3r"),
        ("tiny_dust3r_dpt.pth", "tiny_dust3r_dpt"),
        ("keys_tiny_dust3r_linear.json", "tiny_dust3r_linear"),
        ("match_tiny_proc_64x96.npz", "match"),
        ("preprocess_2.json", "preprocess"),
        ("canonical_view.npz", "canonical"),
        ("other__proc_48x80.npz", None),
        ("MANIFEST.json", None),
    ],
)
def test_files_are_told_by_their_names(name, kind):
    assert kind_of(Path(name)) == kind


def test_measures_see_what_differs():
    x = np.arange(1.0, 13.0).reshape(3, 4)
    assert relative_l2(x, x) == share_different(x, x) == share_missing(x, x) == 0.0
    assert relative_l2(1.001 * x, x) == pytest.approx(1e-3)
    assert relative_l2(x[:2], x) == float("inf") and share_different(x[:2], x) == 1.0
    assert share_different(x + (x > 11), x) == pytest.approx(1 / 12)
    assert share_missing(x[[2, 0]], x) == pytest.approx(1 / 3)
    assert statistics_error(x, np.array([6.5, 6.5, 1.0, 12.0])) == 0.0
    assert statistics_error(x, np.array([6.5, 6.5, 1.0, 24.0])) == pytest.approx(0.5)
    assert relative_l2(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0.0
    assert not Check("file", "array", "relative L2", float("nan"), 1.0).ok
