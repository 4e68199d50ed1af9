# SPDX-License-Identifier: Apache-2.0
import pytest
from map_samples import random_map

from st3r_ros.errors import CheckpointNotFoundError, MapFileError, OutputError
from st3r_ros.saved_maps import keep_map, open_map


@pytest.fixture
def weights(tmp_path):
    """Two files of weights; only their bytes matter here."""
    files = [tmp_path / "first.pth", tmp_path / "second.pth"]
    for file in files:
        file.write_bytes(file.name.encode())
    return [str(file) for file in files]


def test_a_map_is_opened_with_the_model_and_the_weights_that_made_it(tmp_path, weights):
    folder, made = str(tmp_path / "map"), random_map()
    kept = keep_map(folder, made, "mast3r", weights[0])
    opened = open_map(folder, "mast3r", weights[0])
    assert opened.info == kept and list(opened.map.keyframes) == list(made.keyframes)
    for arguments, sentence in (
        (("opencv", ""), "pair model 'mast3r', but this run uses 'opencv'"),
        (("mast3r", weights[1]), r"other weights \(SHA-256 [0-9a-f]{12}\.\.\.\)"),
        (("mast3r", ""), r"than those of this run \(none\.\.\.\)"),
    ):
        with pytest.raises(MapFileError, match=sentence):
            open_map(folder, *arguments)


def test_a_model_without_weights_has_maps_without(tmp_path):
    assert keep_map(str(tmp_path / "map"), random_map(), "opencv", "").checkpoint_sha256 == ""
    assert open_map(str(tmp_path / "map"), "opencv", "").info.pair_model == "opencv"


def test_invalid_paths_and_missing_weights_are_told(tmp_path):
    with pytest.raises(MapFileError, match="cannot be read"):
        open_map("a" * 300, "opencv", "")
    with pytest.raises(OutputError, match="cannot be written"):
        keep_map(str(tmp_path / ("a" * 300)), random_map(), "opencv", "")
    with pytest.raises(CheckpointNotFoundError):
        open_map(str(tmp_path), "mast3r", "no-such-weights")
