# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server on this machine that breaks off, lies and forgets."""

import fcntl
import hashlib
import os
import shutil

import numpy as np
import pytest
from file_server import FileServer

from st3r_ros.errors import DownloadError, OutputError
from st3r_ros.io import download as download_module
from st3r_ros.io.checksum import recorded_sha256
from st3r_ros.io.download import PAUSES_S, download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with FileServer(CONTENT).running() as running:
        yield running


@pytest.fixture
def fetch(server, tmp_path):
    """Downloads the server's file without waiting between tries."""

    def run(url="", **options):
        return download(url or f"{server.base}/weights.pth", tmp_path / "weights.pth", sleep=lambda seconds: None, **options)

    return run


def left_over(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_with_its_checksum_and_progress(server, fetch, tmp_path):
    seen = []
    result = fetch(progress=lambda done, total: seen.append((done, total)))
    assert (result.path.read_bytes(), result.sha256, result.resumed_at) == (CONTENT, SHA256, 0)
    assert recorded_sha256(result.path) == SHA256
    assert left_over(tmp_path) == ["weights.pth", "weights.pth.sha256"]
    assert seen == sorted(seen) and seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_connection_goes_on_where_it_ended(server, fetch):
    server.breaks = [1_000_000, 500_000]
    said = []
    assert fetch(say=said.append).sha256 == SHA256
    assert server.starts == [0, 1_000_000, 1_500_000]
    assert len(said) == 2 and "trying again" in said[0]


def test_a_later_run_goes_on_where_the_first_ended(server, fetch, tmp_path):
    server.breaks = [1_000_000] + [0] * len(PAUSES_S)
    with pytest.raises(DownloadError, match="1000000 bytes are stored; run the same command to resume"):
        fetch()
    assert left_over(tmp_path) == ["weights.pth.part", "weights.pth.part.json"]
    server.starts.clear()
    result = fetch()
    assert (result.sha256, result.resumed_at, server.starts) == (SHA256, 1_000_000, [1_000_000])
    assert left_over(tmp_path) == ["weights.pth", "weights.pth.sha256"]


def test_a_run_that_ended_just_before_the_end_asks_for_nothing_more(server, fetch, tmp_path):
    server.breaks = [1_000_000] + [0] * len(PAUSES_S)
    with pytest.raises(DownloadError):
        fetch()
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    server.starts.clear()
    assert fetch().sha256 == SHA256
    assert server.starts == []


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": '"version-2"'}, {"etag": 'W/"weak"'}])
def test_where_going_on_is_impossible_the_file_comes_anew(server, fetch, change):
    server.breaks = [1_000_000] + [0] * len(PAUSES_S)
    with pytest.raises(DownloadError):
        fetch()
    server.content = CONTENT[::-1]
    for name, value in change.items():
        setattr(server, name, value)
    assert fetch().path.read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_that_always_breaks_is_given_up(server, fetch):
    server.ranges, server.breaks = False, [1_000_000] * 100
    with pytest.raises(DownloadError, match="ended before"):
        fetch()
    assert len(server.starts) == len(PAUSES_S) + 1


def test_another_url_does_not_go_on_with_the_old_part(server, fetch):
    server.breaks = [1_000_000] + [0] * len(PAUSES_S)
    with pytest.raises(DownloadError):
        fetch()
    server.starts.clear()
    assert fetch(f"{server.base}/other.pth").resumed_at == 0
    assert server.starts == [0]


def test_a_busy_server_is_asked_again(server, fetch):
    server.busy = 2
    assert fetch().sha256 == SHA256
    assert len(server.starts) == 3


def test_pauses_grow_and_start_again_after_progress(server, tmp_path):
    server.breaks = [0, 0, 1_000_000, 0, 0]
    waited = []
    download(f"{server.base}/weights.pth", tmp_path / "weights.pth", sleep=waited.append)
    assert waited == [*PAUSES_S[:2], *PAUSES_S[:3]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"status": 404}, "404 Not Found: there is no such file"),
        ({"status": 403}, "not open to everybody"),
        ({"headers": {"Content-Type": "text/html"}}, "a web page instead of the file"),
        ({"content": b"\n <!DOCTYPE html><p>Please log in."}, "a web page instead of the file"),
        ({"announced": 5_000_000, "ranges": False}, "the connection ended before the 5000000 of the file"),
    ],
)
def test_what_is_not_the_file_is_refused(server, fetch, tmp_path, change, sentence):
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(DownloadError, match=sentence):
        fetch()
    assert "weights.pth" not in left_over(tmp_path)


def test_a_wrong_checksum_is_refused_and_not_kept(server, fetch, tmp_path):
    with pytest.raises(DownloadError, match=f"SHA-256 {SHA256}, expected {'0' * 64}"):
        fetch(sha256="0" * 64)
    assert (tmp_path / "weights.pth.part").stat().st_size == 0
    assert fetch(sha256=SHA256).resumed_at == 0


def test_a_redirect_is_followed_and_what_it_tells_is_checked(server, fetch):
    server.redirects = {"/weights.pth": "/store/blob"}
    server.headers = {"X-Linked-Etag": f'"{"1" * 64}"', "X-Linked-Size": str(len(CONTENT))}
    with pytest.raises(DownloadError, match=f"expected {'1' * 64}"):
        fetch()
    server.headers = {"X-Linked-Etag": f'"{SHA256}"'}
    assert fetch().sha256 == SHA256


def test_a_file_of_unknown_length_comes_too(server, fetch):
    server.announced = None
    assert fetch().sha256 == SHA256


def test_a_file_that_is_there_is_verified_and_not_fetched(server, fetch, tmp_path):
    fetch()
    server.starts.clear()
    assert fetch().already_there and server.starts == []
    (tmp_path / "weights.pth").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DownloadError, match="delete it to begin again"):
        fetch()
    assert (tmp_path / "weights.pth").exists()


def test_a_file_that_came_otherwise_is_compared_with_the_server(server, fetch, tmp_path):
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    result = fetch()
    assert result.already_there and recorded_sha256(result.path) == SHA256
    (tmp_path / "weights.pth.sha256").unlink()
    (tmp_path / "weights.pth").write_bytes(CONTENT[:5])
    with pytest.raises(DownloadError, match="is there with 5 bytes"):
        fetch()


def test_two_downloads_to_one_place_are_not_mixed(fetch, tmp_path):
    with (tmp_path / "weights.pth.part").open("a+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process"):
            fetch()


def test_a_server_that_is_not_there_is_told_at_once(tmp_path):
    with FileServer(CONTENT).running() as gone:
        pass
    waited = []
    with pytest.raises(DownloadError, match="cannot be reached"):
        download(f"{gone.base}/weights.pth", tmp_path / "weights.pth", sleep=waited.append)
    assert waited == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "weights.pth", "http://", "http://[", "http://a b/c", "http://h:port/"])
def test_what_is_no_address_is_a_sentence(tmp_path, url):
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download(url, tmp_path / "weights.pth")
    assert "weights.pth" not in left_over(tmp_path)


def test_a_full_disk_is_a_sentence_and_loses_nothing(server, fetch, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match="make room"):
        fetch()
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OutputError, match="No space left"):
        fetch()
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")
    assert fetch().resumed_at == len(CONTENT)


def test_places_that_cannot_be_written_are_a_sentence(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path, tmp_path / "file" / "weights.pth", "/proc/nowhere/weights.pth"):
        with pytest.raises(OutputError, match="cannot be written"):
            download(f"{server.base}/weights.pth", type(tmp_path)(path))


def test_any_pattern_of_breaks_gives_the_same_file(server, tmp_path):
    rng = np.random.default_rng(1)
    for number in range(5):
        server.breaks = [int(size) for size in rng.integers(1, 900_000, size=4)]
        server.ranges = bool(number % 2)
        assert download(f"{server.base}/a", tmp_path / f"{number}", sleep=lambda seconds: None).sha256 == SHA256
