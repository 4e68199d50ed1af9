# SPDX-License-Identifier: Apache-2.0
"""Poses that trackers write where they have none."""

import numpy as np
import pytest

from st3r_ros.io.lost_poses import lost_poses
from st3r_ros.io.trajectory import load_tum

LOST = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
COUNT = 60


def walk(start: float = 0.0) -> np.ndarray:
    """A straight walk of 5 cm steps; from the origin, without turning: the first pose is the identity."""
    poses = np.zeros((COUNT, 7))
    poses[:, 0] = start + 0.05 * np.arange(COUNT)
    poses[:, 4] = np.sin(0.01 * np.arange(COUNT))
    poses[:, 6] = np.cos(0.01 * np.arange(COUNT))
    return poses


@pytest.mark.parametrize("start", [0.0, 3.0])
@pytest.mark.parametrize("rows", [[10, 30], [20, 21, 22], [5, 40, 57, 58, 59], list(range(15, 50))])
@pytest.mark.parametrize("rotations", [True, False])
def test_the_identity_amid_other_poses_is_none(start, rows, rotations):
    poses = walk(start)
    poses[rows] = LOST
    if not rotations:
        poses[:, 3:] = np.nan
    assert np.flatnonzero(lost_poses(poses)).tolist() == rows


def there_and_back() -> np.ndarray:
    poses = np.concatenate([walk(), walk()[::-1]])
    return np.concatenate([poses, poses])


LEGITIMATE = {
    "a walk from the origin": walk(),
    "one that stands there first": np.concatenate([[LOST] * 20, walk()]),
    "one that comes back": there_and_back(),
    "one that stays there": np.array([LOST] * 20),
    "one that trembles there": np.concatenate([[LOST] * 3, [[0.001, *LOST[1:]]], [LOST] * 3, [[0.001, *LOST[1:]]], walk()]),
    "a single one": np.concatenate([walk(3.0), [LOST], walk(6.0)]),
    "one that turns there": np.array([(0, 0, 0, 0, 0, np.sin(a), np.cos(a)) for a in (0.2, 0.1, 0.0, 0.1, 0.0)]),
    "none": np.zeros((0, 7)),
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_the_origin_may_be_a_place_like_others(name):
    assert not lost_poses(LEGITIMATE[name]).any()


def test_lines_of_lost_poses_are_left_out_and_counted(tmp_path):
    poses = walk(1.0)
    poses[[7, 8, 20]] = LOST
    lines = [" ".join(map(str, (i, *pose))) for i, pose in enumerate(poses)]
    lines[30] = "30.0 1 2 3"
    (tmp_path / "truth.txt").write_text("# a tracker\n" + "\n".join(lines))
    found = load_tum(tmp_path / "truth.txt")
    assert len(found.trajectory) == COUNT - 4 and found.trajectory.positions[:, 0].min() == 1.0
    sentence = "'truth.txt' line 9: The pose is 0 0 0 / 0 0 0 1, as written where none was found."
    assert found.left_out == f"4 of {COUNT} lines left out; first: {sentence}"
    assert "line 32: It has 4 values" in found.skipped[3]
