# SPDX-License-Identifier: Apache-2.0
"""The command `st3r` as a user meets it: what it prints, what it returns, what it leaves on disk."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from st3r_ros.results import RESULT_FILES

ROOT = Path(__file__).parents[1]
ROOM = "sim:room?width=320&height=240&fps=6&frames="
COMMANDS = ("map", "pair", "eval", "export", "view", "demo", "settings", "doctor", "download")


def start(*arguments, **options) -> subprocess.Popen:
    """Starts `python -m st3r_ros ARGUMENTS` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "st3r_ros", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def make_images(folder: Path, count: int = 3) -> Path:
    """Images of nothing: grey with a little noise, so that they can be read and not be tracked."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        noise = rng.integers(-1, 2, size=(120, 160, 1))
        cv2.imwrite(str(folder / f"{number:03}.png"), np.repeat(128 + noise, 3, axis=2).astype(np.uint8))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_is_listed_and_has_examples(st3r, command):
    assert command in st3r("--help").out
    outcome = st3r(command, "--help")
    assert outcome.code == 0
    if command in ("map", "eval", "export", "view", "demo"):
        assert f"st3r {command} " in outcome.out.partition("Examples:")[2]


@pytest.mark.parametrize("arguments", [("--help",), ("map", "--help"), ("settings",), ("--version",)])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys; from st3r_ros.cli import main\n"
        f"try: main({list(arguments)})\n"
        "except SystemExit: print(sorted({'torch', 'cv2', 'rclpy', 'scipy', 'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_settings_lists_what_map_accepts(st3r):
    assert "cloud.voxel_size=" in st3r("settings").out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["map", "{tmp}/nowhere"], "There is no file, folder or webcam"),
        (["map", "{tmp}/empty"], "{tmp}/empty"),
        (["map", "{tmp}/images", "--pair-model", "magic"], "pair_model is 'magic'; it must be one of: opencv, mast3r."),
        (["map", "{tmp}/images", "--checkpoint", "{tmp}/none.pth"], "none.pth', but the pair model 'opencv' has no weights"),
        (["map", "{tmp}/images", "--pair-model", "mast3r"], "needs a checkpoint"),
        (["map", "{tmp}/images", "--pair-model", "mast3r", "--checkpoint", "{tmp}/file"], "file' cannot be used"),
        (["map", "{tmp}/images", "--camera", "{tmp}/none.yaml"], "none.yaml"),
        (["map", "{tmp}/images", "--camera", "{tmp}/keyless.yaml"], "keyless.yaml"),
        (["map", "{tmp}/images", "--every", "0"], "every is 0; it must be at least 1"),
        (["map", "{tmp}/images", "--set", "cloud.voxel_size=-1"], "cloud.voxel_size is -1.0; it must be between"),
        (["map", "{tmp}/images", "--out", "{tmp}/file"], "cannot be written"),
        (["map", "{tmp}/images", "--out", "{tmp}/file/below"], "cannot be written"),
        (["map", "{tmp}/not_images"], "Not one image"),
        (["eval", "{tmp}/empty", "{tmp}/images"], "trajectory.txt is missing"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence_and_code_2(st3r, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "images")
    for folder in ("empty", "not_images"):
        (tmp_path / folder).mkdir()
    (tmp_path / "not_images" / "a.jpg").write_text("This is no image.")
    (tmp_path / "file").write_text("x")
    (tmp_path / "keyless.yaml").write_text("image_width: 160\n")
    outcome = st3r(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert outcome.code == 2
    assert sentence.format(tmp=tmp_path) in outcome.err
    assert outcome.err.startswith("Error: ") and outcome.err.count("\n") == 1
    assert outcome.out == ""


@pytest.mark.parametrize(
    "arguments", [("map",), ("map", "a", "b"), ("map", "a", "--evry", "2"), ("map", "a", "--every", "two"), ("mop",)]
)
def test_a_wrong_command_line_is_code_2(st3r, arguments):
    outcome = st3r(*arguments)
    assert outcome.code == 2
    assert "Usage: st3r" in outcome.err and "Traceback" not in outcome.err


def test_nothing_trackable_is_written_and_explained_with_code_1(st3r, tmp_path):
    images = make_images(tmp_path / "images", 5)
    (images / "002.png").write_bytes((images / "002.png").read_bytes()[:100])
    cv2.imwrite(str(images / "004.png"), np.zeros((60, 80, 3), np.uint8))
    outcome = st3r("map", images, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "No frame was tracked" in outcome.out and "Move the camera sideways" in outcome.out
    assert outcome.err.count("The images have no calibration: a horizontal field of view of 60 degrees is assumed.") == 1
    assert "Camera: assumed, the images have no calibration; focal length 139 px for 160x120." in outcome.out
    assert "002.png" in outcome.out and "80x60" in outcome.out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["frames"], summary["tracked"], summary["skipped"]) == (3, 0, 2)
    assert [skip["frame"] for skip in summary["skips"]] == [2, 4]
    assert summary["camera"]["assumed"] and summary["camera"]["focal_px"] == pytest.approx(80 / np.tan(np.pi / 6))


def test_an_odd_first_image_is_skipped_and_the_commonest_size_is_mapped(st3r, tmp_path):
    images = make_images(tmp_path / "images", 5)
    cv2.imwrite(str(images / "000.png"), np.zeros((160, 120, 3), np.uint8))
    outcome = st3r("map", images, "--out", tmp_path / "out")
    assert "000.png: It is 120x160 pixels but images of 160x120 are mapped" in outcome.out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["frames"], summary["skipped"], summary["skips"][0]["frame"]) == (4, 1, 0)


def test_a_map_is_left_as_it_was_tracked_where_that_is_asked_for(st3r, tmp_path):
    outcome = st3r("map", f"{ROOM}10", "--out", tmp_path / "out", "--no-refine")
    assert outcome.code == 0 and "Adjusting" not in outcome.err


def test_a_simulated_room_is_mapped_and_evaluated(st3r, tmp_path):
    out = tmp_path / "out"
    outcome = st3r("map", f"{ROOM}14", "--out", out)
    assert outcome.code == 0
    assert "1/14 frames" in outcome.err and "\x1b" not in outcome.err
    assert "Adjusting" in outcome.err and "pixels now" in outcome.err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 14 and summary["tracked"] > 7
    assert sorted(path.name for path in out.iterdir()) == sorted(RESULT_FILES)
    assert all(name in outcome.out for name in RESULT_FILES)

    evaluation = json.loads(st3r("eval", out, f"{ROOM}14", "--json", "-").out)
    assert evaluation["trajectory"]["ate_sim3"] == pytest.approx(summary["truth"]["ate_sim3"], abs=1e-6)
    assert evaluation["trajectory"]["tracked_share"] == pytest.approx(summary["tracked_share"])
    assert evaluation["depth"]["keyframes"] >= 1
    text = st3r("eval", out, f"{ROOM}14", "--json", tmp_path / "evaluation.json")
    assert text.code == 0 and "AbsRel" in text.out and "Sim(3)" in text.out
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation

    truth = tmp_path / "truth.csv"
    poses = [line.split() for line in (out / "trajectory.txt").read_text().splitlines()[1:]]
    rows = [",".join([stamp.replace(".", ""), x, y, z, w, *xyz]) for stamp, x, y, z, *xyz, w in poses]
    truth.write_text("\n".join(["timestamp [ns],x,y,z,qw,qx,qy,qz", *rows, "later"]))
    own = json.loads(st3r("eval", out, f"{ROOM}14", "--truth", truth, "--json", "-").out)
    assert own["trajectory"]["ate_se3"] == pytest.approx(0.0, abs=1e-6)
    assert f"1 of {len(rows) + 1} lines left out; first: 'truth.csv' line" in own["truth_notes"][0]
    truth.write_text("".join(f"{2 * 10**9 + i} 1 2 {i} 0 0 0 1\n" for i in range(5)))
    apart = st3r("eval", out, f"{ROOM}14", "--truth", truth)
    assert apart.code == 2 and "2000000000.000 s to 2000000004.000 s" in apart.err

    make_images(tmp_path / "images")
    truthless = st3r("eval", out, tmp_path / "images")
    assert truthless.code == 2 and "neither true poses nor depth (groundtruth.txt, depth.txt)" in truthless.err


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_ends_the_mapping_and_what_is_mapped_is_written(tmp_path, number, code, name):
    process = start("map", f"{ROOM}5000", "--out", tmp_path / "out")
    assert process.stderr is not None
    assert "1/5000 frames" in process.stderr.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"Interrupted by {name}" in out and "Traceback" not in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert 1 <= summary["frames"] < 5000
    assert all((tmp_path / "out" / file).is_file() for file in RESULT_FILES)


def test_doctor_reports_what_is_there(st3r):
    outcome = st3r("doctor", "--json")
    assert outcome.code == 0
    report = json.loads(outcome.out)
    found = {finding["name"]: finding["found"] for finding in report["findings"]}
    assert report["usable"] is True
    assert found["numpy"] == np.__version__ and found["cv2"]
    text = st3r("doctor")
    assert text.code == 0 and np.__version__ in text.out


def test_doctor_fails_and_says_how_to_get_it_when_the_core_lacks_something(st3r, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    outcome = st3r("doctor")
    assert outcome.code == 1
    assert "python3-yaml" in outcome.out
