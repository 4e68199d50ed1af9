# SPDX-License-Identifier: Apache-2.0
"""Where weights are looked for: names, paths, the Hub's cache."""

from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.errors
import pytest
from checkpoint_files import LINEAR, make_state, save_hub, save_pth

from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.checkpoints.published import (
    CATALOGUE,
    LICENSE_SUMMARY,
    UNKNOWN_LICENSE,
    find_published,
    license_note,
    weights_folder,
)
from st3r_ros.checkpoints.sources import is_hub_id, locate
from st3r_ros.errors import CheckpointError, CheckpointNotFoundError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Caches of this test alone, no network, and an empty working folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def fill_hub_cache(folder: Path, hub_id: str) -> Path:
    """What huggingface_hub leaves behind when it has fetched a repository."""
    repository = folder / "hub" / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    return repository / "snapshots" / ("0" * 40)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_a_published_name_is_the_downloaded_file(entry):
    with pytest.raises(CheckpointNotFoundError, match=f"run `st3r download {entry.name}`"):
        locate(entry.name)
    path = weights_folder() / entry.file_name
    path.parent.mkdir(parents=True)
    path.touch()
    assert locate(entry.name) == path
    for text in (entry.name, entry.url, entry.file_name, f"/somewhere/{entry.file_name}", entry.hub_id or entry.name):
        assert find_published(text) == entry and license_note(text) == LICENSE_SUMMARY
    assert license_note("/somewhere/own.pth") == UNKNOWN_LICENSE and find_published("") is None


def test_a_published_name_is_not_a_folder_that_happens_to_be_called_so():
    Path("mast3r").mkdir()
    with pytest.raises(CheckpointNotFoundError):
        locate("mast3r")
    assert locate("./mast3r") == Path("mast3r")


def test_the_cache_is_where_the_system_keeps_caches(monkeypatch):
    assert weights_folder({"XDG_CACHE_HOME": "/var/c"}) == Path("/var/c/st3r_ros")
    for unset in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert weights_folder(unset) == Path.home() / ".cache" / "st3r_ros"


def test_the_hub_is_taken_from_its_cache_without_network(tmp_path):
    save_hub(fill_hub_cache(tmp_path, "owner/name"), make_state())
    assert load_network("owner/name").config == LINEAR


def test_a_local_folder_comes_before_the_hub(tmp_path):
    folder = save_hub(tmp_path / "here" / "owner" / "name", make_state())
    assert locate("owner/name").resolve() == folder


def test_what_is_not_cached_is_a_sentence_without_network(tmp_path):
    with pytest.raises(
        CheckpointNotFoundError,
        match=r"'owner/name' is not a local folder and could not be downloaded from .*offline|disabled",
    ):
        load_network("owner/name")
    snapshot = fill_hub_cache(tmp_path, "owner/half")
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"model.safetensors|could not be downloaded"):
        load_network("owner/half")


def test_what_is_not_cached_is_fetched_where_there_is_a_network(tmp_path, monkeypatch):
    asked = []

    def snapshot_download(hub_id, *, allow_patterns, local_files_only=False, **options):
        asked.append((hub_id, local_files_only))
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
        return str(save_hub(tmp_path / "fetched", make_state()))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_network("owner/name").config == LINEAR
    assert asked == [("owner/name", True), ("owner/name", False)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", True),
        ("naver/MASt3R_512.v2", True),
        ("a/b/c", False),
        ("name", False),
        ("weights/a.pth", False),
        ("./name", False),
        ("../name", False),
        ("/name", False),
    ],
)
def test_hub_ids_are_told_from_paths(text, expected):
    assert is_hub_id(text) == expected
    Path("weights").mkdir()
    assert not is_hub_id("weights/mast3r")


@pytest.mark.parametrize(
    "text", ["none.pth", "weights/none.pth", "/none", "~/none.safetensors", "https://example.org/a.pth", "a b", ""]
)
def test_what_is_nowhere_is_a_sentence(text):
    with pytest.raises(CheckpointNotFoundError, match=r"There is no checkpoint|is a web address; run `st3r download"):
        locate(text)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_pth(tmp_path / "a.pth", make_state())
    assert locate("~/a.pth") == tmp_path / "a.pth"
