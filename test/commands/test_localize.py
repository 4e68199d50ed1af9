# SPDX-License-Identifier: Apache-2.0
"""`st3r localize`, and `st3r eval --relocalization` on what it writes: in a simulated room, with the truth at hand."""

import dataclasses
import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from st3r_ros.commands.localize_inputs import Queries
from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.calibration import read_calibration, write_camera
from st3r_ros.sequences import open_sequence
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.places.relocalizer import Relocalizer

ROOM = "sim:room?seed=3&frames=40&fps=5&width=320&height=240"
REFERENCE, QUERY = 14, 17
STAMP = "2.800000"  # of the reference
DEPTH_SCALE = 5000


@dataclass(frozen=True)
class Files:
    """Images of the room on the disk. T_ref_query: the true pose of the query."""

    folder: Path
    T_ref_query: SE3

    def __getattr__(self, name: str) -> Path:
        return self.folder / {"reference": f"{STAMP}.png", "query": "query.png", "camera": "camera.yaml"}.get(name, name)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("room")
    sequence = SimulatedSequence(SimulationConfig(seed=3, frames=40, fps=5.0, width=320, height=240))
    for name, index in ((f"{STAMP}.png", REFERENCE), ("query.png", QUERY)):
        cv2.imwrite(str(folder / name), sequence.frame(index).image[..., ::-1])
    cv2.imwrite(str(folder / "depth.png"), np.rint(sequence.depth.depth(REFERENCE) * DEPTH_SCALE).astype(np.uint16))
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    (folder / "broken.png").write_bytes(b"")
    write_camera(folder / "camera.yaml", sequence.camera)
    return Files(folder, sequence.T_world_cam[REFERENCE].inverse() @ sequence.T_world_cam[QUERY])


def test_an_image_is_found_relative_to_one_with_depth(st3r, files, tmp_path):
    target, picture = tmp_path / "poses.json", tmp_path / "matches.png"
    given = ("-r", files.reference, "-q", files.query, "--camera", files.camera)
    depth = ("--depth", files.folder / "depth.png", "--depth-scale", DEPTH_SCALE)
    found = st3r("localize", *given, *depth, "--json", target, "--draw", picture)
    assert found.code == 0 and "localized" in found.out and found.out.splitlines()[1].endswith("  m")
    (row,) = json.loads(target.read_text())["queries"]
    T = SE3.from_matrix(np.array(row["T_ref_cam"])).inverse() @ files.T_ref_query
    assert np.linalg.norm(T.translation) < 0.03 and np.degrees(np.linalg.norm(T.log()[3:])) < 1.0
    assert row["status"] == "localized" and row["metric"] and row["reference"] == f"{STAMP}.png"
    assert np.array(row["covariance"]).shape == (6, 6) and row["inliers"] <= row["matches"]
    height, width = cv2.imread(str(picture)).shape[:2]
    assert width > 640 and height > 240


def test_without_depth_the_translation_is_a_direction(st3r, files):
    found = st3r("localize", "-r", files.reference, "-q", files.query, "--camera", files.camera, "--json", "-")
    (row,) = json.loads(found.out)["queries"]
    assert row["directional"] and not row["metric"]
    true = files.T_ref_query.translation / np.linalg.norm(files.T_ref_query.translation)
    assert np.degrees(np.arccos(np.dot(row["translation"], true))) < 10.0


def test_a_camera_that_is_assumed_is_called_so_everywhere(st3r, files, tmp_path):
    target = tmp_path / "poses.json"
    found = st3r("localize", "-r", files.reference, "-q", files.query, "--json", target)
    lines = found.out.splitlines()
    assert lines[1].endswith("direction only, camera assumed")
    assert "field of view" not in found.out + found.err
    assert lines[2].startswith("Camera of the queries: assumed, camera of the reference: assumed.") and "--camera" in lines[2]
    written = json.loads(target.read_text())
    (row,) = written["queries"]
    assert written["cameras"] == {"queries": "assumed", "references": "assumed", "warning": ""}
    assert row["camera"] == row["reference_camera"] == "assumed" and row["focal_estimated"] and "is assumed" in row["reason"]
    found = st3r("localize", "-r", files.reference, "-q", files.query, "--camera", files.camera)
    assert f"Camera of the queries: the calibration '{files.camera}'" in found.out and "assumed" not in found.out


def test_a_wrong_calibration_of_the_right_size_is_a_warning(st3r, files, tmp_path):
    camera = read_calibration(str(files.camera)).camera((320, 240))
    K = camera.K * np.array([[0.7, 1.0, 1.0], [1.0, 0.7, 1.0], [1.0, 1.0, 1.0]])
    write_camera(tmp_path / "wrong.yaml", dataclasses.replace(camera, K=K))
    found = st3r("localize", "-r", files.reference, "-q", files.query, "--camera", tmp_path / "wrong.yaml", "--json", "-")
    assert "Warning: The calibration seems wrong" in found.err and f"instead of {K[0, 0]:.0f} px" in found.err
    written = json.loads(found.out)
    assert written["cameras"]["warning"] == written["queries"][0]["warning"] != ""


def test_an_interruption_is_said_and_what_was_localized_is_written(st3r, files, tmp_path, monkeypatch):
    folder, target = tmp_path / "queries", tmp_path / "poses.json"
    folder.mkdir()
    for number in range(5):
        shutil.copy(files.query, folder / f"{number}.png")
    localize, done = Relocalizer.localize, []

    def interrupted_in_the_second(self, frame):
        done.append(localize(self, frame))
        if len(done) == 2:
            signal.raise_signal(signal.SIGINT)
        return done[-1]

    monkeypatch.setattr(Relocalizer, "localize", interrupted_in_the_second)
    found = st3r("localize", "-r", files.reference, "-q", folder, "--camera", files.camera, "--json", target)
    assert found.code == 130 and "Interrupted by Ctrl-C after 2 of 5 queries." in found.out
    report = json.loads(target.read_text())
    assert report["interrupted"] is True and report["queries_given"] == 5 and len(report["queries"]) == 2
    monkeypatch.undo()
    whole = st3r("localize", "-r", files.reference, "-q", files.query, "--camera", files.camera, "--json", target)
    assert whole.code == 0 and "Interrupted" not in whole.out
    assert json.loads(target.read_text())["interrupted"] is False


def test_nothing_localized_is_exit_code_one(st3r, files):
    found = st3r("localize", "-r", files.reference, "-q", files.folder / "noise.png", "--camera", files.camera)
    assert found.code == 1 and "too_few_matches" in found.out


def test_a_folder_is_localized_image_by_image(st3r, files, tmp_path):
    target = tmp_path / "poses.json"
    found = st3r("localize", "-r", files.reference, "-q", files.folder, "--json", target, "--draw", tmp_path / "m.png")
    assert found.code == 0 and "Skipped" in found.err and "broken.png" in found.err
    rows = {row["query"]: row for row in json.loads(target.read_text())["queries"]}
    assert list(rows) == [f"{STAMP}.png", "depth.png", "noise.png", "query.png"]
    assert rows["query.png"]["T_ref_cam"] is not None and rows["noise.png"]["T_ref_cam"] is None
    assert rows[f"{STAMP}.png"]["stamp_ns"] == 2_800_000_000 and rows["query.png"]["stamp_ns"] is None
    assert (tmp_path / "m-noise.png").exists() and found.out.splitlines()[-1].endswith("of 4 localized.")


@pytest.mark.parametrize("stem", ["1700000000000000123", "1700000000123456", "1700000000123", "1700000000.25"])
def test_stamps_in_the_names_of_images_are_those_of_a_sequence(files, tmp_path, stem):
    for name in (f"{stem}.png", "1700000001.5.png"):
        shutil.copy(files.query, tmp_path / name)
    expected = [frame.stamp_ns for frame in open_sequence(str(tmp_path))]
    assert expected[0] // 10**9 == 1_700_000_000
    assert {query.stamp_ns for query in Queries(str(tmp_path), None)} == set(expected)
    shutil.copy(files.query, tmp_path / "12.png")
    assert {query.name: query.stamp_ns for query in Queries(str(tmp_path), None)}["12.png"] is None


def test_of_several_references_the_one_that_fits_answers(st3r, files):
    references = ("-r", files.folder / "noise.png", "-r", files.reference)
    found = st3r("localize", *references, "-q", files.query, "--camera", files.camera, "--json", "-")
    assert json.loads(found.out)["queries"][0]["reference"] == f"{STAMP}.png"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-r", "{tmp}/gone.png", "-q", "{tmp}/query.png"], "There is no file or folder '{tmp}/gone.png'."),
        (["-r", "{tmp}", "-q", "{tmp}/query.png"], "is not a saved map"),
        (["-r", "{tmp}", "-r", "{tmp}/query.png", "-q", "{tmp}/query.png"], "must be the only reference"),
        (["-r", "{tmp}/broken.png", "-q", "{tmp}/query.png"], "broken.png' is empty."),
        (["-r", "{tmp}/query.png", "-q", "{tmp}/broken.png"], "No image of"),
        (["-r", "{tmp}/query.png", "-q", "{tmp}/gone"], "There is no file, folder or webcam"),
        (["-r", "{tmp}/query.png", "-q", "{tmp}/query.png", "--depth", "{tmp}/query.png"], "is no depth image"),
        (["-r", "{tmp}/query.png", "-q", "{tmp}/query.png", "--depth", "{tmp}/depth.png"], "no calibration"),
        (["-r", "{tmp}/query.png", "-q", "{tmp}/query.png", "--depth-scale", "0"], "depth_scale is 0.0"),
        (["-r", "{tmp}/query.png", "-q", "{tmp}/query.png", "--draw", "m.jpg"], "give the name of a .png file"),
        (["-r", "{tmp}/query.png", "-q", "{tmp}/query.png", "--pair-model", "magic"], "pair_model is 'magic'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(st3r, files, arguments, sentence):
    found = st3r("localize", *(argument.format(tmp=files.folder) for argument in arguments))
    assert found.code == 2 and found.err.lstrip().startswith("Error: ") and "Traceback" not in found.err
    assert sentence.format(tmp=files.folder) in found.err


# Evaluation -----------------------------------------------------------------------------------------------------------------


def test_poses_are_compared_with_the_truth_of_their_sequence(st3r, files, tmp_path):
    target = tmp_path / "poses.json"
    depth = ("--depth", files.folder / "depth.png", "--depth-scale", DEPTH_SCALE)
    found = st3r("localize", "-r", files.reference, "--camera", files.camera, *depth, "-q", ROOM, "--json", target)
    assert found.code == 0
    figures = json.loads(st3r("eval", "--relocalization", target, ROOM, "--json", "-").out)
    assert figures["attempts"] == 40 and figures["answered"] > 5 and figures["without_truth"] == 0
    assert figures["median_rotation_deg"] < 1.0 and figures["median_translation"] < 0.05 and figures["false_accepts"] == 0
    assert "Median errors: position" in st3r("eval", "--relocalization", target, ROOM).out


def test_a_map_is_aligned_with_the_truth(st3r, tmp_path):
    room, saved, target = "sim:room?seed=3&frames=28&width=160&height=120", tmp_path / "map", tmp_path / "poses.json"
    assert st3r("map", room, "--save-map", saved, "--out", tmp_path / "out").code == 0
    found = st3r("localize", "-r", saved, "-q", room, "--json", target)
    assert found.code == 0 and "keyframe" in found.out
    figures = json.loads(st3r("eval", "--relocalization", target, room, "--json", "-").out)
    assert figures["answered"] >= 0.5 * figures["attempts"] and figures["median_translation"] < 0.1
    assert figures["median_direction_deg"] is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"map": "", "queries": [{}]}', '{"map": 1, "queries": []}'])
def test_other_files_are_refused(st3r, tmp_path, content):
    (tmp_path / "poses.json").write_text(content)
    found = st3r("eval", "--relocalization", tmp_path / "poses.json", ROOM)
    assert found.code == 2 and "is not a file of `st3r localize --json`" in found.err


def test_queries_from_elsewhere_have_no_truth(st3r, files, tmp_path):
    target = tmp_path / "poses.json"
    st3r("localize", "-r", files.reference, "-q", files.query, "--json", target)
    found = st3r("eval", "--relocalization", target, ROOM)
    assert found.code == 2 and "None of the 1 queries has a true pose" in found.err
