# SPDX-License-Identifier: Apache-2.0
"""Saved maps as a user meets them: `st3r map` with --save-map, --map and --localize-only, and `st3r export`."""

import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest

from st3r_ros.checkpoints.sources import weights_sha256
from st3r_ros.commands.saved_map import with_frames_from
from st3r_ros.errors import CheckpointNotFoundError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import write_camera
from st3r_ros.io.ply import read_ply
from st3r_ros.io.trajectory import read_tum
from st3r_ros.maps.load import load_map
from st3r_ros.maps.save import save_map
from st3r_ros.sequences import open_sequence

ROOM = "sim:room?width=320&height=240&fps=6&frames=14"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved map of the simulated room, and the results of the run that made it."""
    from st3r_ros.commands.map import run_map
    from st3r_ros.commands.settings import Settings
    from st3r_ros.config import MapCommandConfig

    folder = tmp_path_factory.mktemp("saved")
    assert run_map(ROOM, MapCommandConfig(out=str(folder / "out"), save_map=str(folder / "room_map")), Settings()) == 0
    return folder


def test_what_was_mapped_is_saved(saved):
    summary = json.loads((saved / "out" / "summary.json").read_text())
    loaded = load_map(saved / "room_map")
    assert (loaded.info.pair_model, loaded.info.checkpoint_sha256) == ("opencv", "")
    assert (loaded.info.keyframes, loaded.info.edges) == (summary["keyframes"], summary["edges"])
    assert loaded.info.frames == summary["tracked"]
    assert list(saved.iterdir()) and not [path for path in saved.iterdir() if path.name.startswith(".")]


def test_a_saved_map_is_mapped_on_in(st3r, saved, tmp_path):
    before = load_map(saved / "room_map").map
    shutil.copytree(saved / "room_map", tmp_path / "room_map")
    again = "sim:room?width=320&height=240&fps=6&frames=22"
    outcome = st3r("map", again, "--map", tmp_path / "room_map", "--save-map", tmp_path / "room_map", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "Relocalized" in outcome.err
    after = load_map(tmp_path / "room_map").map
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 22 and summary["tracked"] == len(read_tum(tmp_path / "out" / "trajectory.txt")) > 15
    assert len(after.frames) == len(before.frames) + summary["tracked"]
    assert set(before.keyframes) <= set(after.keyframes) and len(after.keyframes) == summary["keyframes"]
    assert summary["truth"]["ate_sim3"] < 0.05


def assert_same_way(first_out, found_out):
    """Most of the frames of one run are at the same places in the other."""
    first, found = (read_tum(out / "trajectory.txt") for out in (first_out, found_out))
    both = np.isin(first.stamps_ns, found.stamps_ns)
    assert both.mean() > 0.7
    extent = np.ptp(first.positions, axis=0).max()
    apart = np.linalg.norm(first.positions[both] - found.positions[np.isin(found.stamps_ns, first.stamps_ns)], axis=1)
    assert np.median(apart) < 0.05 * extent


def test_the_camera_is_found_in_a_saved_map_that_stays_as_it_is(st3r, saved, tmp_path):
    def content():
        return {path: path.read_bytes() for path in (saved / "room_map").rglob("*") if path.is_file()}

    before = content()
    outcome = st3r("map", ROOM, "--map", saved / "room_map", "--localize-only", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert content() == before
    assert (tmp_path / "out" / "keyframes.txt").read_text() == (saved / "out" / "keyframes.txt").read_text()
    assert_same_way(saved / "out", tmp_path / "out")


def test_where_no_place_is_recognized_the_advice_is_about_the_map_and_the_calibration(st3r, saved, tmp_path):
    folder, camera = tmp_path / "images", Camera.from_fov(320, 240, 20.0)
    folder.mkdir()
    write_camera(tmp_path / "wrong.yaml", camera)
    noise = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), noise.integers(0, 255, (240, 320, 3)).astype(np.uint8))
    there = ("--map", saved / "room_map", "--localize-only", "--camera", tmp_path / "wrong.yaml")
    outcome = st3r("map", folder, *there, "--out", tmp_path / "out")
    assert outcome.code == 1 and "was recognized" in outcome.out and "sideways" not in outcome.out
    assert f"Camera: calibrated; focal length {camera.K[0, 0]:.0f} px for 320x240." in outcome.out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["map"] == str(saved / "room_map") and not summary["camera"]["assumed"]
    assert summary["camera"]["focal_px"] == pytest.approx(camera.K[0, 0])


def test_what_is_assumed_of_a_map_is_not_said_of_calibrated_images(st3r, saved, tmp_path):
    loaded = load_map(saved / "room_map").map
    for keyframe in loaded.keyframes.values():
        keyframe.K_known = False
    save_map(tmp_path / "map", loaded, pair_model="opencv", checkpoint_sha256="")
    outcome = st3r("map", ROOM, "--map", tmp_path / "map", "--localize-only", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "field of view" not in outcome.out + outcome.err
    assert "Camera: calibrated;" in outcome.out


def test_only_the_frames_of_this_run_are_reported(saved):
    loaded = load_map(saved / "room_map").map
    shown = with_frames_from(loaded, 5)
    assert shown.frames.frame_ids.tolist() == loaded.frames.frame_ids[5:].tolist()
    assert shown.trajectory().positions.tolist() == loaded.trajectory().positions[5:].tolist()
    assert len(shown.edges) == len(loaded.edges) and shown.scale == loaded.scale
    assert with_frames_from(loaded, 0) is loaded


def test_a_map_of_another_model_or_size_is_refused(st3r, saved, tmp_path):
    loaded = load_map(saved / "room_map").map
    save_map(tmp_path / "map", loaded, pair_model="mast3r", checkpoint_sha256="ab" * 32)
    outcome = st3r("map", ROOM, "--map", tmp_path / "map", "--out", tmp_path / "out")
    assert outcome.code == 2 and "made with the pair model 'mast3r', but this run uses 'opencv'" in outcome.err
    save_map(tmp_path / "map", loaded, pair_model="opencv", checkpoint_sha256="ab" * 32)
    assert "made with other weights" in st3r("map", ROOM, "--map", tmp_path / "map", "--out", tmp_path / "out").err
    wide = "sim:room?width=320&height=200&fps=6&frames=3"
    outcome = st3r("map", wide, "--map", saved / "room_map", "--out", tmp_path / "out")
    assert outcome.code == 2 and "keyframes of 320x240 pixels, but the images are 320x200" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_map_is_continued_with_images_of_another_mode_of_the_camera(st3r, saved, tmp_path, factor):
    other = ROOM.replace("width=320&height=240", f"width={int(320 * factor)}&height={int(240 * factor)}")
    assert other != ROOM
    before = len(load_map(saved / "room_map").map.keyframes)
    outcome = st3r("map", other, "--map", saved / "room_map", "--out", tmp_path / "out", "--save-map", tmp_path / "both")
    assert outcome.code == 0, outcome.err
    continued = load_map(tmp_path / "both").map
    assert {k.image.shape for k in continued.keyframes.values()} == {(240, 320, 3)}
    assert len(continued.keyframes) >= before
    assert_same_way(saved / "out", tmp_path / "out")


def test_images_without_calibration_continue_a_map_with_its_own(st3r, saved, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for frame in open_sequence(ROOM):
        cv2.imwrite(str(folder / f"{frame.stamp_ns / 1e9:.9f}.png"), frame.image[..., ::-1])
    outcome = st3r("map", folder, "--map", saved / "room_map", "--out", tmp_path / "out", "--save-map", tmp_path / "both")
    assert outcome.code == 0, outcome.err
    assert "The images have no calibration: that of the map is used, with a focal length of " in outcome.err
    assert "field of view" not in outcome.out + outcome.err
    before, continued = load_map(saved / "room_map").map.keyframes, load_map(tmp_path / "both").map.keyframes
    assert all(k.K_known for k in continued.values())
    K = next(iter(before.values())).K
    np.testing.assert_allclose([k.K for k in continued.values()], [K] * len(continued))
    assert_same_way(saved / "out", tmp_path / "out")


@pytest.mark.parametrize("export_format", ["ply", "tum", "colmap", "nerfstudio"])
def test_every_format_is_written_where_it_was_asked_for(st3r, saved, tmp_path, export_format):
    outcome = st3r("export", saved / "room_map", "--format", export_format, "--out", tmp_path / "result")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("Wrote ") and "result, in arbitrary units." in outcome.out
    loaded, out = load_map(saved / "room_map").map, tmp_path / "result"
    if export_format == "ply":
        assert len(read_ply(out)) > 1000
    elif export_format == "tum":
        assert len(read_tum(out / "trajectory.txt")) == len(loaded.frames)
        assert (out / "keyframes.txt").read_text() == (saved / "out" / "keyframes.txt").read_text()
    else:
        assert len(list((out / "images").iterdir())) == len(loaded.keyframes)
        assert (out / ("sparse/0/points3D.bin" if export_format == "colmap" else "transforms.json")).is_file()


def test_without_a_place_the_result_lies_beside_the_map(st3r, saved):
    assert st3r("export", saved / "room_map", "--format", "colmap", "--points", "matches", "--text").code == 0
    lines = (saved / "room_map_colmap" / "sparse" / "0" / "points3D.txt").read_text().splitlines()
    assert len(lines) > 100 and all(len(line.split()) >= 12 for line in lines[1:])
    coarse, fine = (f"cloud.voxel_size={size}" for size in (0.5, 0.05))
    sizes = []
    for setting in (coarse, fine):
        assert st3r("export", saved / "room_map", "--set", setting).code == 0
        sizes.append(len(read_ply(saved / "room_map.ply")))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export", "{tmp}/nowhere"], "is not there; give a folder that `st3r map --save-map` has written"),
        (["export", "{tmp}"], "is not a saved map (map.json is missing)"),
        (["export", "{saved}/room_map", "--format", "obj"], "format is 'obj'; it must be one of ply, tum, colmap"),
        (["export", "{saved}/room_map", "--points", "some"], "points is 'some'; it must be one of both"),
        (
            ["export", "{saved}/room_map", "--format", "tum", "--out", "{saved}/out"],
            "is not empty; give the name of a new folder",
        ),
        (["export", "{saved}/room_map", "--out", "{saved}/out"], "it is a folder; give the name of a file"),
        (["map", ROOM, "--save-map", "{saved}/out"], "out' is not overwritten: it is not empty and not a readable map"),
        (["map", ROOM, "--save-map", "{tmp}/file/map"], "cannot be written"),
        (["map", ROOM, "--out", "{tmp}/x", "--save-map", "{tmp}/x"], "would contain the results"),
        (["map", ROOM, "--localize-only"], "localize_only needs a saved map: give its folder with --map"),
        (["map", ROOM, "--map", "{saved}/room_map", "--localize-only", "--save-map", "{tmp}/x"], "the map does not change"),
        (["map", ROOM, "--map", "{tmp}/nowhere"], "is not there"),
        (["map", ROOM, "--out", "{tmp}/x/out", "--save-map", "{tmp}/x"], "would contain the results"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence_and_code_2(st3r, saved, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    outcome = st3r(*(argument.format(tmp=tmp_path, saved=saved) for argument in arguments))
    assert outcome.code == 2
    assert outcome.err.startswith("Error: ") and outcome.err.count("\n") == 1
    assert sentence in outcome.err


def test_an_empty_map_is_not_saved(st3r, saved, tmp_path):
    outcome = st3r("map", ROOM, "--max-frames", "1", "--out", tmp_path / "out", "--save-map", tmp_path / "map")
    assert outcome.code == 1
    assert "No map is saved" in outcome.out and not (tmp_path / "map").exists()


def test_the_hash_of_weights(tmp_path):
    assert weights_sha256("") == ""
    one, two = (hashlib.sha256(data).hexdigest() for data in (b"1", b"2"))
    (tmp_path / "a.safetensors").write_bytes(b"1")
    assert weights_sha256(str(tmp_path / "a.safetensors")) == weights_sha256(str(tmp_path)) == one
    (tmp_path / "b.safetensors").write_bytes(b"2")
    listing = f"{one}  a.safetensors\n{two}  b.safetensors\n"
    assert weights_sha256(str(tmp_path)) == hashlib.sha256(listing.encode()).hexdigest()
    with pytest.raises(CheckpointNotFoundError):
        weights_sha256(str(tmp_path / "none.pth"))
