# SPDX-License-Identifier: Apache-2.0
import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from map_samples import assert_same_map, random_map

import st3r_ros
from st3r_ros.errors import MapFileError, OutputError
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.maps.format import is_map_file
from st3r_ros.maps.load import load_map, read_info
from st3r_ros.maps.pictures import decode_mask, encode_jpeg, encode_mask
from st3r_ros.maps.save import save_map
from st3r_ros.maps.staging import files_below
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import FramePose, MapScale

SHA = hashlib.sha256(b"weights").hexdigest()


def test_what_is_saved_is_loaded_exactly(tmp_path):
    original = random_map()
    info = save_map(tmp_path / "map", original, pair_model="mast3r", checkpoint_sha256=SHA)
    saved = load_map(tmp_path / "map")
    assert_same_map(saved.map, original)
    assert saved.info == info == read_info(tmp_path / "map")
    assert (info.pair_model, info.checkpoint_sha256, info.image_size) == ("mast3r", SHA, (32, 24))
    assert (info.keyframes, info.edges, info.frames, info.next_keyframe_id) == (4, 4, 40, 8)
    assert info.matches == sum(map(len, original.edges)) and info.package_version == st3r_ros.__version__


def test_a_loaded_map_can_be_changed_and_saved_again_without_loss(tmp_path):
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    first = load_map(tmp_path / "map").map
    save_map(tmp_path / "again", first, pair_model="opencv")
    again = load_map(tmp_path / "again").map
    assert_same_map(again, first, image_error=4)
    keyframe = again.keyframes[5]
    keyframe.X[0, 0], keyframe.conf[0, 0], keyframe.image[0, 0] = 1.0, 2.0, 3
    again.frames.append(FramePose(99, 99, 5, Sim3.identity()))
    again.rescale(2.0)
    again.remove_keyframe(7, 0, Sim3.identity())
    save_map(tmp_path / "again", again, pair_model="opencv")
    assert_same_map(load_map(tmp_path / "again").map, again, image_error=255)


@pytest.mark.parametrize("sigma", [math.nan, 0.0, 0.1 + 0.2])
def test_the_scale_keeps_every_digit(tmp_path, sigma):
    original = random_map((0,))
    original.scale = MapScale("network", sigma)
    save_map(tmp_path / "map", original, pair_model="mast3r")
    assert_same_map(load_map(tmp_path / "map").map, original)


def test_nothing_is_claimed_where_float16_has_no_number(tmp_path):
    original = random_map((0,))
    keyframe = original.keyframes[0]
    keyframe.X, keyframe.conf = keyframe.X.float(), keyframe.conf.float().clamp(min=1.0)
    keyframe.X[0, 0, 2], keyframe.X[0, 1, 0], keyframe.conf[0, 2] = 1e6, math.nan, math.nan
    keyframe.conf[0, 3], keyframe.conf[0, 4] = 1e9, -1.0
    save_map(tmp_path / "map", original, pair_model="opencv")
    loaded = load_map(tmp_path / "map").map.keyframes[0]
    assert loaded.conf[0, :5].tolist() == [0.0, 0.0, 0.0, 65504.0, 0.0]
    assert torch.equal(loaded.X[1:], keyframe.X[1:].half()) and torch.equal(loaded.conf[1:], keyframe.conf[1:].half())
    assert bool(loaded.X.isfinite().all())


def test_the_folder_holds_what_map_json_lists_and_everybody_can_check_it(tmp_path):
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    content = json.loads((tmp_path / "map" / "map.json").read_text())
    assert {*content["files"], "map.json", "map.json.sha256"} == set(files_below(tmp_path / "map"))
    assert all(map(is_map_file, files_below(tmp_path / "map")))
    for name, entry in content["files"].items():
        data = (tmp_path / "map" / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert os.listdir(tmp_path) == ["map"]


def read_by_the_documentation(path):
    """The arrays of a safetensors file, with nothing but docs/map_format.md and the format's own page at hand."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    types = {"I64": "<i8", "F64": "<f8", "F32": "<f4", "F16": "<f2", "I16": "<i2", "U8": "u1"}
    header = json.loads(data[8:start]).items()
    return {
        name: np.frombuffer(data[start:][slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header
    }


def test_another_program_finds_points_and_matches_by_the_documentation(tmp_path):
    original = random_map()
    save_map(tmp_path / "map", original, pair_model="opencv")
    tables = {
        name: read_by_the_documentation(tmp_path / "map" / f"{name}.safetensors") for name in ("keyframes", "edges", "frames")
    }
    row = tables["keyframes"]["ids"].tolist().index(7)
    pose = tables["keyframes"]["T_world_cam"][row]
    X = read_by_the_documentation(tmp_path / "map" / "pointmaps" / "000007.safetensors")["X"].astype(np.float64)
    world = pose[12] * X @ pose[:9].reshape(3, 3).T + pose[9:12]
    keyframe = original.keyframes[7]
    np.testing.assert_allclose(world, keyframe.T_world_cam.act(keyframe.X.double().numpy()))
    first = next(iter(original.edges))
    assert tables["edges"]["keyframe_ids"][0].tolist() == [first.i, first.j]
    count = tables["edges"]["match_counts"][0]
    np.testing.assert_array_equal(tables["edges"]["pixels_j"][:count] / 16, first.pixels_j)
    assert tables["frames"]["keyframe_ids"].tolist() == original.frames.keyframe_ids.tolist()


def test_fields_that_a_later_program_may_add_are_ignored(tmp_path):
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    manifest = tmp_path / "map" / "map.json"
    text = json.dumps({**json.loads(manifest.read_text()), "place": "office"})
    manifest.write_text(text)
    (tmp_path / "map" / "map.json.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  map.json")
    assert_same_map(load_map(tmp_path / "map").map, random_map())


def test_progress_is_told_for_every_keyframe(tmp_path):
    told: dict[str, list] = {"save": [], "load": []}
    save_map(tmp_path / "map", random_map(), pair_model="opencv", progress=lambda *numbers: told["save"].append(numbers))
    load_map(tmp_path / "map", progress=lambda *numbers: told["load"].append(numbers))
    assert told["save"] == told["load"] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_interrupted_save_changes_nothing(tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    original = random_map()
    save_map(tmp_path / "map", original, pair_model="opencv")
    with pytest.raises(KeyboardInterrupt):
        save_map(tmp_path / "map", random_map((1, 2)), pair_model="opencv", progress=interrupt)
    assert_same_map(load_map(tmp_path / "map").map, original)
    assert os.listdir(tmp_path) == ["map"]


def broken_maps():
    def no_pose(m):
        m.keyframes[5].T_world_cam = Sim3(np.full((3, 3), np.nan), np.zeros(3), 1.0)

    def stray_frame(m):
        m.frames.append(FramePose(77, 0, 3, Sim3.identity()))

    def match_outside(m):
        edge = next(iter(m.edges))
        m.add_edge(dataclasses.replace(edge, packed_i=edge.packed_i + 16 * 32))

    def other_size(m):
        m.keyframes[5].X = m.keyframes[5].X[:-1]

    return {
        "keyframe 5 has a pose": no_pose,
        "frame 77 belongs to a missing keyframe": stray_frame,
        "lies outside the image": match_outside,
        "of different sizes": other_size,
    }


@pytest.mark.parametrize("sentence", broken_maps())
def test_a_map_that_could_not_be_loaded_is_not_saved_over_a_good_one(tmp_path, sentence):
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    broken = random_map()
    broken_maps()[sentence](broken)
    with pytest.raises(OutputError, match=sentence):
        save_map(tmp_path / "map", broken, pair_model="opencv")
    assert_same_map(load_map(tmp_path / "map").map, random_map())


def test_an_empty_map_is_not_saved(tmp_path):
    for empty in (KeyframeMap(), random_map((0,))):
        empty.frames.clear()
        with pytest.raises(OutputError, match="no frame has been tracked"):
            save_map(tmp_path / "map", empty, pair_model="opencv")
    assert not list(tmp_path.iterdir())


def test_a_map_without_edges_and_descriptors(tmp_path):
    original = random_map((7,))
    assert not original.edges and original.keyframes[7].descriptor is None
    save_map(tmp_path / "map", original, pair_model="opencv")
    assert_same_map(load_map(tmp_path / "map").map, original)


def test_masks_are_kept_and_maps_without_them_stay_version_1(tmp_path):
    saved = random_map()
    assert save_map(tmp_path / "plain", saved, pair_model="opencv").keyframes == 4
    assert json.loads((tmp_path / "plain" / "map.json").read_text())["version"] == 1
    assert not (tmp_path / "plain" / "masks").exists()
    saved.keyframes[0].mask = np.random.default_rng(0).random(saved.keyframes[0].image.shape[:2]) > 0.3
    save_map(tmp_path / "masked", saved, pair_model="opencv")
    assert json.loads((tmp_path / "masked" / "map.json").read_text())["version"] == 2
    loaded = load_map(tmp_path / "masked").map
    np.testing.assert_array_equal(loaded.keyframes[0].mask, saved.keyframes[0].mask)
    assert all(k.mask is None for k in loaded.keyframes.values() if k.id != 0)
    save_map(tmp_path / "masked", random_map(), pair_model="opencv")  # in its place
    assert not (tmp_path / "masked" / "masks").exists()


def test_a_damaged_mask_is_a_sentence(tmp_path):
    for data in (b"", b"\x89PNG", encode_jpeg(np.zeros((24, 32, 3), np.uint8)), encode_mask(np.ones((24, 31), bool))):
        with pytest.raises(MapFileError, match=r"'m.png' is damaged"):
            decode_mask(data, (32, 24), Path("m.png"))
    mask = np.random.default_rng(0).random((24, 32)) > 0.5
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), (32, 24), Path("m.png")), mask)
