# SPDX-License-Identifier: Apache-2.0
"""A folder that is replaced as a whole, whatever happens in between."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from map_samples import assert_same_map, marked_map, marker, random_map

from st3r_ros.errors import MapFileError, OutputError
from st3r_ros.maps import staging
from st3r_ros.maps.load import load_map
from st3r_ros.maps.save import save_map
from st3r_ros.maps.staging import current, exchange, staged_folder


def always(name: str) -> bool:
    return True


def anything(folder: Path) -> None:
    """Everything may be replaced."""


def fill(folder: Path, content: str) -> None:
    with staged_folder(folder, always, anything) as new:
        (new / "below").mkdir()
        (new / "below" / "file").write_text(content)


def content(folder: Path) -> str:
    return (current(folder) / "below" / "file").read_text()


# Killed processes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start():
    """Starts a process that saves in one of the ways of `saving_process`; returns its number."""
    command = [sys.executable, str(Path(__file__).with_name("saving_process.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None

        def start_one(way: str, folder: Path) -> int:
            print(way, folder, file=server.stdin, flush=True)
            return int(server.stdout.readline())

        yield start_one
        server.stdin.close()


def wait_for_the_end(process: int) -> None:
    deadline = time.monotonic() + 20
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(process, 0)
            time.sleep(0.001)


def wait_for_a_save(folder: Path) -> None:
    """Until another process writes."""
    before, deadline = set(os.listdir(folder.parent)), time.monotonic() + 20
    while set(os.listdir(folder.parent)) <= before and time.monotonic() < deadline:
        time.sleep(0.001)


def kill_saves(start, way, folder: Path, times: int) -> None:
    """Each time a process that saves is killed at a random moment; the map is whole then."""
    expected = {0.5: marked_map(0.5), 2.0: marked_map(2.0)}
    save_map(folder, expected[2.0], pair_model="opencv")
    started = time.monotonic()
    save_map(folder, expected[0.5], pair_model="opencv")
    longest = 3.0 * (time.monotonic() - started)
    found = Counter()
    for seed in range(5 * times):
        if seed >= times and len(found) == 2:
            break
        process = start(way, folder)
        wait_for_a_save(folder)
        time.sleep(random.Random(seed).uniform(0.0, longest))
        os.kill(process, signal.SIGKILL)
        wait_for_the_end(process)
        saved = load_map(folder)
        assert_same_map(saved.map, expected[marker(saved)])
        found[marker(saved)] += 1
        if len(found) == 1:
            longest *= 1.3  # the machine may be busy
    assert len(found) == 2, "no save ever came to its end"
    save_map(folder, expected[2.0], pair_model="opencv")
    assert os.listdir(folder.parent) == [folder.name], "what the killed processes left is still there"


@pytest.mark.parametrize("way", ["save_for_ever", "save_renaming_twice"])
def test_a_killed_save_leaves_the_old_or_the_new_map(start, tmp_path, way):
    kill_saves(start, way, tmp_path / "map", 12)


@pytest.mark.full
@pytest.mark.parametrize("way", ["save_for_ever", "save_renaming_twice"])
def test_a_hundred_killed_saves_leave_the_old_or_the_new_map(start, tmp_path, way):
    kill_saves(start, way, tmp_path / "map", 100)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_each_moment_between_the_renames_leaves_a_whole_map(start, tmp_path, number):
    """The renames: over an empty folder, which fails; the old one aside; the new one in its place; the old one to be deleted."""
    save_map(tmp_path / "map", marked_map(0.5), pair_model="opencv")
    wait_for_the_end(start(f"die_at_rename_{number}", tmp_path / "map"))
    assert len(os.listdir(tmp_path)) == 2
    saved = load_map(tmp_path / "map")
    assert marker(saved) == (2.0 if number == 4 else 0.5)
    assert_same_map(saved.map, marked_map(marker(saved)))
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    assert os.listdir(tmp_path) == ["map"]


def test_an_old_folder_that_was_set_aside_is_found_and_brought_back(tmp_path):
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    (tmp_path / "map").rename(tmp_path / ".map.st3r-old")
    assert_same_map(load_map(tmp_path / "map").map, random_map())
    assert not (tmp_path / "map").exists(), "loading changes nothing"
    with pytest.raises(OutputError):  # an empty map
        save_map(tmp_path / "map", type(random_map())(), pair_model="opencv")
    save_map(tmp_path / "map", marked_map(2.0), pair_model="opencv")
    assert os.listdir(tmp_path) == ["map"]


# Folders -------------------------------------------------------------------------------------------------------------


def test_two_folders_change_places(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange folders")
    assert os.listdir(tmp_path / "a") == ["b"] and os.listdir(tmp_path / "b") == ["a"]
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("fallback", [False, True])
def test_new_empty_and_old_folders_are_filled_and_nothing_is_left(tmp_path, monkeypatch, fallback):
    if fallback:
        monkeypatch.setattr(staging, "exchange", lambda a, b: False)
    (tmp_path / "empty").mkdir()
    for name in ("new/deeper", "empty", "empty"):
        fill(tmp_path / name, name)
        assert content(tmp_path / name) == name
    assert sorted(os.listdir(tmp_path)) == ["empty", "new"] and os.listdir(tmp_path / "new") == ["deeper"]


def test_a_link_stays_a_link(tmp_path):
    fill(tmp_path / "x", "old")
    (tmp_path / "link").symlink_to("x")
    fill(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "x") == "new"


def test_leftovers_of_killed_processes_go_and_what_only_looks_like_them_stays(tmp_path):
    ours = [f".x.st3r-save-{'0' * 32}", ".x.st3r-old"]
    others = [f".y.st3r-save-{'0' * 32}", ".x.st3r-save-1", ".x.st3r-save", "x.st3r-old", f".x.st3r-save-{'0' * 32}.txt"]
    for name in (*ours, *others):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below" / "file").touch()
    (tmp_path / f".x.st3r-save-{'1' * 32}").touch()  # a file
    fill(tmp_path / "x", "new")
    assert set(os.listdir(tmp_path)) == {*others, f".x.st3r-save-{'1' * 32}", "x"}


def test_files_that_are_not_ours_stay_in_what_was_left_behind(tmp_path):
    leftover = tmp_path / f".x.st3r-save-{'0' * 32}"
    leftover.mkdir()
    (leftover / "ours").touch()
    (leftover / "notes").touch()
    with staged_folder(tmp_path / "x", lambda name: name == "ours", anything) as new:
        (new / "ours").touch()
    assert os.listdir(leftover) == ["notes"] and os.listdir(tmp_path / "x") == ["ours"]


def test_a_folder_that_is_being_written_is_no_leftover(tmp_path):
    with staged_folder(tmp_path / "x", always, anything) as first:
        (first / "first").touch()
        fill(tmp_path / "x", "second")
        assert (first / "first").exists()
    assert os.listdir(tmp_path / "x") == ["first"] and os.listdir(tmp_path) == ["x"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    fill(tmp_path / "x", "old")
    with pytest.raises(ZeroDivisionError), staged_folder(tmp_path / "x", always, anything) as new:
        (new / "half").touch()
        raise ZeroDivisionError
    assert content(tmp_path / "x") == "old" and os.listdir(tmp_path) == ["x"]


def test_what_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    for folder, reason in (
        (tmp_path / "file", "it is a file"),
        (tmp_path / "file" / "below", "cannot be written"),
        (tmp_path / ("n" * 250), "File name too long"),
        ("/proc/nowhere/x", "cannot be written"),
        ("/", "root of the file system"),
    ):
        with pytest.raises(OutputError, match=reason):
            fill(Path(folder), "")
    (tmp_path / "link").symlink_to("nowhere")
    fill(tmp_path / "link", "new")
    assert content(tmp_path / "nowhere") == "new"


# Maps ----------------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_map_or_holds_more_is_never_overwritten(tmp_path):
    for name, files in {
        "photos": ["images/000001.jpg", "images/000002.jpg"],
        "foreign": ["map.json", "images/000001.jpg"],
        "text": ["notes.txt"],
    }.items():
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text("{}")
        with pytest.raises(OutputError, match="not overwritten: it is not empty and not a readable map"):
            save_map(tmp_path / name, random_map(), pair_model="opencv")
        assert sorted(staging.files_below(tmp_path / name)) == sorted(files)
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    for file in ("notes.txt", "images/000099.jpg"):
        (tmp_path / "map" / file).write_text("mine")
        with pytest.raises(OutputError, match=f"it contains '{file}', which is not part of the map"):
            save_map(tmp_path / "map", random_map(), pair_model="opencv")
        (tmp_path / "map" / file).unlink()
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    assert sorted(os.listdir(tmp_path)) == ["foreign", "map", "photos", "text"]


def test_a_full_disk_in_the_middle_loses_nothing(tmp_path, monkeypatch):
    save_map(tmp_path / "map", random_map(), pair_model="opencv")
    written = []

    def write(path, data):
        written.append(path)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        path.write_bytes(data)

    monkeypatch.setattr("st3r_ros.maps.save.write_synced", write)
    with pytest.raises(OutputError, match=r"No space left on device.*What was there before is unchanged"):
        save_map(tmp_path / "map", marked_map(2.0), pair_model="opencv")
    assert_same_map(load_map(tmp_path / "map").map, random_map())
    assert os.listdir(tmp_path) == ["map"]


def test_a_limit_on_file_sizes_is_a_sentence(start, tmp_path):
    """What the system really does when no more may be written."""
    save_map(tmp_path / "map", marked_map(0.5), pair_model="opencv")
    wait_for_the_end(start("save_large_files", tmp_path / "map"))
    assert "File too large" in (tmp_path / "message").read_text()
    assert_same_map(load_map(tmp_path / "map").map, marked_map(0.5))
    assert sorted(os.listdir(tmp_path)) == ["map", "message"]


def test_a_map_that_is_replaced_while_it_is_loaded_is_loaded_as_the_new_one(tmp_path):
    save_map(tmp_path / "map", marked_map(0.5), pair_model="opencv")
    replaced = []

    def replace(done: int, total: int) -> None:
        if not replaced:
            replaced.append(True)
            save_map(tmp_path / "map", marked_map(2.0), pair_model="opencv")
            raise MapFileError("A file has gone.")

    assert_same_map(load_map(tmp_path / "map", replace).map, marked_map(2.0))


def test_loading_while_another_thread_saves_never_fails(tmp_path):
    save_map(tmp_path / "map", marked_map(0.5), pair_model="opencv")
    ended = threading.Event()

    def save():
        for value in (2.0, 0.5) * 3:
            save_map(tmp_path / "map", marked_map(value), pair_model="opencv")
        ended.set()

    thread = threading.Thread(target=save)
    thread.start()
    loads = 0
    while not ended.is_set():
        saved = load_map(tmp_path / "map")
        assert_same_map(saved.map, marked_map(marker(saved)))
        loads += 1
    thread.join()
    assert loads > 5
