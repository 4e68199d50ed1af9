# SPDX-License-Identifier: Apache-2.0
"""`st3r download` against a server on this machine."""

import hashlib
from pathlib import Path

import huggingface_hub
import huggingface_hub.errors
import pytest
from checkpoint_files import make_state, save_hub, save_pth
from file_server import FileServer

from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.checkpoints.published import CATALOGUE, find_published
from st3r_ros.cli import main
from st3r_ros.commands.download import DownloadOptions, run_download
from st3r_ros.errors import DownloadError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server(tmp_path):
    with FileServer(save_pth(tmp_path / "source.pth", make_state()).read_bytes()).running() as running:
        yield running


def st3r(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_a_published_name_is_fetched_then_found_by_name(server, tmp_path, capfd):
    assert st3r("download", "dust3r-224", "--mirror", server.base, "--accept-license") == 0
    said = capfd.readouterr()
    path = tmp_path / "cache" / "st3r_ros" / "DUSt3R_ViTLarge_BaseDecoder_224_linear.pth"
    assert path.read_bytes() == server.content
    assert hashlib.sha256(server.content).hexdigest() in said.out and "--checkpoint dust3r-224" in said.out
    assert "CC BY-NC-SA 4.0" in said.err
    assert load_network("dust3r-224").config.head == "linear"
    server.starts.clear()
    assert st3r("download", "dust3r-224", "--mirror", server.base, "--accept-license") == 0
    assert "exists already, verified" in capfd.readouterr().out and server.starts == []


def test_the_mirror_may_come_from_the_environment(server, monkeypatch, tmp_path):
    monkeypatch.setenv("ST3R_MIRROR", f"{server.base}/folder/")
    assert st3r("download", "mast3r", "--out", tmp_path / "weights", "--accept-license") == 0
    assert (tmp_path / "weights" / find_published("mast3r").file_name).exists()


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_without_a_yes_to_the_licence_nothing_is_fetched(server, entry, capfd, tmp_path):
    for name in filter(None, (entry.name, entry.hub_id, f"{server.base}/{entry.file_name}")):
        assert st3r("download", name, "--mirror", server.base) == 2
        said = capfd.readouterr().err
        assert "no commercial use" in said and "add --accept-license" in said
    assert server.starts == [] and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_the_licence_is_asked_for(server, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question, err: answer)
    if answer:
        assert run_download("mast3r", DownloadOptions(mirror=server.base)) == 0
    else:
        with pytest.raises(DownloadError, match="its licence was not accepted"):
            run_download("mast3r", DownloadOptions(mirror=server.base))


def test_a_url_needs_no_acceptance_but_a_warning(server, tmp_path, capfd):
    assert st3r("download", f"{server.base}/my%20weights.pth?token=1", "--out", tmp_path / "w") == 0
    said = capfd.readouterr()
    assert (tmp_path / "w" / "my weights.pth").exists()
    assert "does not know the licence of these weights" in said.err and "--checkpoint" in said.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mast4r"], "give one of mast3r, dust3r, dust3r-224, a url, or a Hub id"),
        (["http://127.0.0.1:9/"], "the url does not name a file"),
        (["http://127.0.0.1:9/a.pth"], "cannot be reached"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(capfd, arguments, sentence):
    assert st3r("download", *arguments) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("Error: ") and sentence in last


def test_a_missing_file_on_the_server_is_a_sentence(server, capfd):
    server.status = 404
    assert st3r("download", "mast3r", "--mirror", server.base, "--accept-license") == 2
    assert "404" in capfd.readouterr().err


def test_a_hub_id_comes_by_the_hubs_own_library(tmp_path, monkeypatch, capfd):
    asked = {}

    def snapshot_download(hub_id, *, allow_patterns, local_dir, endpoint):
        asked.update(hub_id=hub_id, local_dir=local_dir, endpoint=endpoint)
        return str(save_hub(tmp_path / "weights", make_state()))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert st3r("download", "owner/name", "--out", tmp_path / "weights", "--mirror", "http://hub.local") == 0
    assert asked == {"hub_id": "owner/name", "local_dir": tmp_path / "weights", "endpoint": "http://hub.local"}
    sha256 = hashlib.sha256((tmp_path / "weights" / "model.safetensors").read_bytes()).hexdigest()
    assert sha256 in capfd.readouterr().out


def test_a_damaged_file_of_the_hubs_cache_is_told(tmp_path, monkeypatch):
    """The cache names large files by their SHA-256 and links to them."""
    folder = save_hub(tmp_path / "snapshot", make_state())
    blob = tmp_path / ("0" * 64)
    (folder / "model.safetensors").rename(blob)
    Path(folder / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *arguments, **options: str(folder))
    with pytest.raises(DownloadError, match=f"is damaged: its SHA-256 is .*, expected {'0' * 64}"):
        run_download("owner/name", DownloadOptions())


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch):
    def snapshot_download(*arguments, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network.\nMore text.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(DownloadError, match=r"could not be downloaded from the Hub \(no network"):
        run_download("owner/name", DownloadOptions())
