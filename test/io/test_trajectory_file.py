# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_images import properties

from st3r_ros.errors import InputError, OutputError
from st3r_ros.io.trajectory import load_tum, read_tum, write_tum
from st3r_ros.types import Trajectory

GOOD = "1305031102.175304 1 2 3 0 0 0 1"


def trajectory_of(stamps: list[int], seed: int = 0) -> Trajectory:
    rng = np.random.default_rng(seed)
    quaternions = rng.normal(size=(len(stamps), 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return Trajectory(np.array(stamps, dtype=np.int64), rng.normal(0, 10, (len(stamps), 3)), quaternions)


@properties
@given(stamps=st.lists(st.integers(0, 2**60), unique=True, min_size=1).map(sorted), seed=st.integers(0, 99))
def test_what_is_written_is_read_back(tmp_path_factory, stamps, seed):
    path, written = tmp_path_factory.mktemp("tum") / "trajectory.txt", trajectory_of(stamps, seed)
    write_tum(path, written)
    read = read_tum(path)
    np.testing.assert_array_equal(read.stamps_ns, written.stamps_ns)
    np.testing.assert_allclose(read.positions, written.positions, atol=1e-9)
    np.testing.assert_allclose(read.quaternions_xyzw, written.quaternions_xyzw, atol=1e-8)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nan 1 2 3 0 0 0 1", "not a finite number"),
        ("soon 1 2 3 0 0 0 1", "not a number of seconds"),
        ("5.0 1 2 3 0 0 0", "7 values instead of 8"),
        ("5.0 1 2 nan 0 0 0 1", "not finite"),
        ("5.0 1 2 x 0 0 0 1", "not made of numbers"),
        ("5.0 1 2 3 0 0 0 0", "quaternion is zero"),
        ("1305031102.175304 9 9 9 0 0 0 1", "second time"),
    ],
)
def test_bad_lines_are_skipped_and_counted(tmp_path, line, reason):
    path = tmp_path / "groundtruth.txt"
    path.write_text(f"# a comment\n{GOOD}\n{line}\n\n1305031101.5 4 5 6 0 0 0.5 0.5\n")
    found = load_tum(path)
    assert found.trajectory.stamps_ns.tolist() == [1305031101500000000, 1305031102175304000]
    np.testing.assert_allclose(found.trajectory.positions, [(4, 5, 6), (1, 2, 3)])
    np.testing.assert_allclose(np.linalg.norm(found.trajectory.quaternions_xyzw, axis=1), 1.0)
    (sentence,) = found.skipped
    assert sentence.startswith("'groundtruth.txt' line 3: ") and reason in sentence


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"1 2 3\n", b"\xff\xfe\x00\x01"])
def test_a_file_without_poses_is_refused(tmp_path, content):
    path = tmp_path / "trajectory.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"trajectory\.txt"):
        read_tum(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_tum(tmp_path / "absent.txt")


def test_a_pose_that_is_not_finite_is_not_written(tmp_path):
    trajectory = trajectory_of([1, 2, 3])
    trajectory.positions[1, 2] = np.nan
    with pytest.raises(OutputError, match="pose 1 at stamp 2"):
        write_tum(tmp_path / "trajectory.txt", trajectory)
    assert not list(tmp_path.iterdir())
