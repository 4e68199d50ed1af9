# SPDX-License-Identifier: Apache-2.0
import pytest

from st3r_ros.errors import OutputError
from st3r_ros.io.atomic import atomic_path, write_file


def test_folders_are_made_and_old_files_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write_file(path, b"old")
    write_file(path, b"new ", memoryview(b"parts"))
    assert path.read_bytes() == b"new parts"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.png"
    write_file(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        assert temporary.suffix == ".png" and temporary.parent == tmp_path
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_disk_error_in_the_middle_is_a_sentence(tmp_path):
    with pytest.raises(OutputError, match="No space left"), atomic_path(tmp_path / "file"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_say_why(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "cloud.ply", "a file stands where a folder is needed"),
        (tmp_path / "file" / "deeper" / "cloud.ply", "a file stands where a folder is needed"),
        ("/proc/nowhere/cloud.ply", "cannot be written"),
    ):
        with pytest.raises(OutputError, match=reason):
            write_file(path, b"")
