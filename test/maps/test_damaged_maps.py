# SPDX-License-Identifier: Apache-2.0
"""Saved maps that are damaged or wish harm: each is refused with a sentence that names the file, quickly and without a crash."""

import hashlib
import io
import json
import os
import shutil
import struct
import time

import numpy as np
import pytest
from map_samples import WIDTH, assert_same_map, random_map
from PIL import Image
from safetensors.numpy import load_file, save

from st3r_ros.errors import MapFileError, OutputError
from st3r_ros.maps.format import VERSION
from st3r_ros.maps.load import load_map, read_info
from st3r_ros.maps.save import save_map
from st3r_ros.maps.staging import files_below


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "map"
    save_map(folder, random_map(), pair_model="opencv")
    return folder


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    folder = tmp_path_factory.mktemp("another") / "map"
    save_map(folder, random_map((5, 7, 9)), pair_model="opencv")
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "map")


def refusal(folder) -> str:
    started = time.process_time()  # the machine may be busy
    with pytest.raises(MapFileError) as raised:
        load_map(folder)
    assert time.process_time() - started < 5.0
    text = str(raised.value)
    assert text.startswith("'") and text.endswith(".") and "\n" not in text and str(folder) in text and len(text) < 800
    return text


def sign(folder, *names: str, manifest: dict | None = None) -> None:
    """Makes sizes and hashes right again, as somebody would who wishes harm."""
    content = manifest or json.loads((folder / "map.json").read_text())
    for name in names:
        data = (folder / name).read_bytes()
        content["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    sign_text(folder, json.dumps(content))


def sign_text(folder, text: str) -> None:
    (folder / "map.json").write_text(text)
    (folder / "map.json.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  map.json\n")


# By accident ---------------------------------------------------------------------------------------------------------


def damage(folder, another, rng: np.random.Generator) -> None:
    """Changes a byte, cuts or lengthens a file, swaps two files or blocks, or takes a file away or from another map."""
    names = files_below(folder)
    path = folder / names[rng.integers(len(names))]
    other = folder / names[rng.integers(len(names))]
    data = bytearray(path.read_bytes())
    at = int(rng.integers(len(data)))
    match rng.integers(7):
        case 0:
            data[at] ^= 1 << int(rng.integers(8))
            rewrite(path, data)
        case 1:
            rewrite(path, data[:at])
        case 2:
            rewrite(path, data + rng.bytes(1 + int(rng.integers(64))))
        case 3:
            rewrite(path, other.read_bytes())
            rewrite(other, data)
        case 4:
            half = len(data) // 2
            rewrite(path, data[half:] + data[:half])
        case 5:
            path.unlink()
        case 6:
            foreign = another / path.relative_to(folder)
            if foreign.is_file():
                rewrite(path, foreign.read_bytes())


def rewrite(path, data: bytes) -> None:
    """Writes a new file, for the old one is a link to the original."""
    path.unlink()
    path.write_bytes(data)


def test_three_hundred_random_damages_are_noticed_or_harmless(original, another, tmp_path):
    expected, refused = random_map(), 0
    for seed in range(300):
        folder = shutil.copytree(original, tmp_path / "map", copy_function=os.link)
        damage(folder, another, np.random.default_rng(seed))
        started = time.process_time()  # the machine may be busy
        try:
            assert_same_map(load_map(folder).map, expected)  # what is loaded at all is the map as it was
        except MapFileError as error:
            assert str(error).endswith(".") and "\n" not in str(error)
            refused += 1
        assert time.process_time() - started < 5.0
        shutil.rmtree(folder)
    assert refused > 250


def test_the_sentence_names_the_file_and_what_to_do(folder):
    (folder / "pointmaps" / "000007.safetensors").write_bytes(b"short")
    text = refusal(folder)
    assert "pointmaps/000007.safetensors" in text and "5 bytes instead of" in text and "restore the map from a copy" in text


@pytest.mark.parametrize("name", ["images/000002.jpg", "edges.safetensors", "map.json.sha256"])
def test_a_file_that_is_missing(folder, name):
    (folder / name).unlink()
    assert name in refusal(folder) and "is missing" in refusal(folder)


def test_a_folder_that_is_no_map(tmp_path):
    assert "is not there" in refusal(tmp_path / "nowhere")
    assert "is not a saved map (map.json is missing)" in refusal(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "is not there" in refusal(tmp_path / "file")
    (tmp_path / "map.json").write_text('{"format": "another"}')
    assert "not the map.json of a saved map" in refusal(tmp_path)
    with pytest.raises(OutputError, match="root"):
        load_map("/")


def test_a_newer_version_says_so(folder):
    content = json.loads((folder / "map.json").read_text())
    newer = VERSION + 1
    (folder / "map.json").write_text(json.dumps({"format": content["format"], "version": newer, "all": "else is new"}))
    assert f"format version {newer}" in refusal(folder) and "or a newer one" in refusal(folder)


def test_files_that_may_not_be_read(folder):
    os.remove(folder / "map.json")
    (folder / "map.json").mkdir()
    assert "map.json is missing" in refusal(folder)


# With intent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("[]", "not the map.json"),
        ("{", "invalid JSON"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "invalid JSON"),
        ('{"format": NaN}', "invalid JSON"),
        (f'{{"format": {"9" * 10_000_000}}}', "invalid JSON"),
    ],
)
def test_a_hostile_map_json(folder, text, sentence):
    sign_text(folder, text)
    assert sentence in refusal(folder)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("version", "1", "'version' = \"1\", which must be a whole number"),
        ("version", True, "version"),
        ("image_size", [32], "image_size"),
        ("image_size", [10**9, 10**9], "image_size"),
        ("image_size", [32, 25], "pointmaps/"),
        ("pair_model", "open\ncv", "pair_model"),
        ("pair_model", "\ud800", "pair_model"),
        ("checkpoint_sha256", "../../etc", "checkpoint_sha256"),
        ("scale.source", "guess", "scale.source"),
        ("scale.sigma", -1, "scale.sigma"),
        ("scale.sigma", 1e400, "invalid JSON"),
        ("scale", None, "'scale' = null, which must be an object"),
        ("counts.keyframes", 10**12, "counts.keyframes"),
        ("counts.keyframes", 0, "counts.keyframes"),
        ("counts.keyframes", 3, "keyframes.safetensors"),
        ("counts.frames", 10**8, "frames.safetensors"),
        ("counts.matches", 10**9, "edges.safetensors"),
        ("next_keyframe_id", 7, "next_keyframe_id is 7, but there is a keyframe 7"),
        ("files", [], "files"),
        ("files./etc/passwd", {"bytes": 1, "sha256": 64 * "0"}, "lists an unknown file"),
        ("files.images/../../x.jpg", {"bytes": 1, "sha256": 64 * "0"}, "lists an unknown file"),
        ("files.images/000099.jpg", {"bytes": 1, "sha256": 64 * "0"}, "'images/000099.jpg' belongs to no keyframe"),
        ("files.images/000007.jpg", {"bytes": 10**15, "sha256": 64 * "0"}, "more than possible"),
        ("files.images/000007.jpg", {"bytes": 5}, "files.images/000007.jpg.sha256"),
    ],
)
def test_a_value_that_no_map_has(folder, place, value, sentence):
    content = json.loads((folder / "map.json").read_text())
    group, _, name = place.rpartition(".") if not place.startswith("files.") else ("files", "", place.removeprefix("files."))
    (content[group] if group else content)[name] = value
    sign(folder, manifest=content)
    assert sentence in refusal(folder)


@pytest.mark.parametrize("name", ["counts", "files", "scale", "image_size", "next_keyframe_id", "package_version"])
def test_a_value_that_is_missing(folder, name):
    content = json.loads((folder / "map.json").read_text())
    del content[name]
    sign(folder, manifest=content)
    assert f"lacks '{name}'" in refusal(folder)


def first(column: str, value: float):
    """A change of a table: the first number of a column."""

    def change(table):
        table[column].reshape(-1)[0] = value

    return change


def tie(i: int, j: int):
    def change(table):
        table["keyframe_ids"][1] = i, j

    return change


def stretch(table):
    table["T_world_cam"][0, :9] *= 1.1


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("keyframes", first("ids", 7), "keyframe ids are negative or duplicate"),
        ("keyframes", first("ids", -1), "keyframe ids are negative or duplicate"),
        ("keyframes", first("ids", 6), "an edge refers to a missing keyframe"),
        ("keyframes", stretch, "keyframe 5 has a pose that is not a similarity transform"),
        ("keyframes", first("T_world_cam", np.nan), "keyframe 5 has a pose"),
        ("keyframes", first("K", 0.0), "keyframe 5 has impossible intrinsics K"),
        ("keyframes", first("descriptors", np.inf), "keyframe 5 has a descriptor that is not finite"),
        ("edges", tie(5, 6), "an edge refers to a missing keyframe"),
        ("edges", tie(5, 5), "an edge connects a keyframe to itself"),
        ("edges", tie(5, 0), "two edges connect the same keyframes"),
        ("edges", first("kinds", 2), "an edge has an unknown kind"),
        ("edges", first("match_counts", 21), "the number of matches differs"),
        ("edges", first("match_counts", -(2**63)), "the number of matches differs"),
        ("edges", first("pixels_i", 16 * WIDTH), "outside the image"),
        ("edges", first("pixels_j", -9), "outside the image"),
        ("edges", first("weights", np.nan), "a weight that is negative or not finite"),
        ("frames", first("keyframe_ids", 6), "frame 0 belongs to a missing keyframe"),
        ("frames", first("T_kf_cam", 1e200), "frame 0 has a pose that is not a similarity transform"),
        ("pointmaps/000005", first("X", np.nan), "not finite or negative"),
        ("pointmaps/000005", first("conf", -1.0), "not finite or negative"),
    ],
)
def test_numbers_that_no_map_has(folder, name, change, sentence):
    file = f"{name}.safetensors"
    table = {column: array.copy() for column, array in load_file(folder / file).items()}
    change(table)
    (folder / file).write_bytes(save(table))
    sign(folder, file)
    assert sentence in refusal(folder)


def header(content: dict, *, length: int | None = None) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        header({}, length=10_000_000) + b" " * 1000,
        header({"X": {"dtype": "F16", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}) + b"\x00" * 4,
        header({"X": {"dtype": "F16", "shape": [24, 32, 3], "data_offsets": [0, 2**62]}}),
        header({"X": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}) + b"\x00" * 16,
        header({"X": {"dtype": "NEW", "shape": [2], "data_offsets": [0, 16]}}) + b"\x00" * 16,
        struct.pack("<Q", 60_000) + b"[" * 60_000,
        b"PK\x03\x04" + b"\x00" * 100,
        b"\x80\x04\x95pickle" + b"\x00" * 100,
    ],
    ids=range(11),
)
def test_a_file_of_arrays_that_is_none(folder, data):
    name = "pointmaps/000007.safetensors"
    (folder / name).write_bytes(data)
    sign(folder, name)
    assert name in refusal(folder)


def jpeg(size: tuple[int, int] = (32, 24), mode: str = "RGB", **options) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size).save(data, format=options.pop("format", "JPEG"), **options)
    return data.getvalue()


def with_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG that says another size in its header."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (jpeg((64, 24)), "64x24 RGB, not 32x24 RGB"),
        (with_size(jpeg(), 9000, 9000), "9000x9000 RGB, not 32x24 RGB"),
        (with_size(jpeg(), 65500, 65500), "bomb"),
        (jpeg(mode="L"), "32x24 L"),
        (jpeg(mode="CMYK"), "32x24 CMYK"),
        (jpeg(progressive=True), "more than one scan"),
        (jpeg()[:-200], "damaged"),
        (jpeg(format="PNG"), "damaged"),
        (b"", "damaged"),
    ],
)
def test_an_image_that_is_not_the_keyframes(folder, data, sentence):
    (folder / "images" / "000007.jpg").write_bytes(data)
    sign(folder, "images/000007.jpg")
    refused = refusal(folder)
    assert "images/000007.jpg" in refused and sentence in refused


def test_what_is_no_regular_file_is_not_waited_for(folder):
    name = "images/000007.jpg"
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "no regular file" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert "no regular file" in refusal(folder)


def test_a_huge_sparse_file_is_not_read(folder):
    for name in ("map.json", "map.json.sha256", "frames.safetensors"):
        data = (folder / name).read_bytes()
        os.truncate(folder / name, 2**40)
        assert name in refusal(folder)
        (folder / name).write_bytes(data)
    assert read_info(folder).keyframes == 4
