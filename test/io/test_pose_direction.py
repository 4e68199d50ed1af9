# SPDX-License-Identifier: Apache-2.0
"""Comments that tell the direction of poses."""

import numpy as np
import pytest

from st3r_ros.errors import InputError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.layouts.recording import Truth
from st3r_ros.io.trajectory import TrajectoryFile, load_tum

POSES = SE3.exp(np.array([[1.0, 2.0, 3.0, 0.1, 0.2, 0.3], [2.0, 2.0, 3.0, 0.4, -0.2, 0.3]]))


def loaded(folder, comment: str) -> TrajectoryFile:
    rows = np.hstack([[[1], [2]], POSES.translation, POSES.quaternion_xyzw])
    path = folder / "poses.txt"
    path.write_text(f"{comment}\n" + "".join(" ".join(map(str, row)) + "\n" for row in rows))
    return load_tum(path)


def assert_same(found: TrajectoryFile, T: SE3) -> None:
    poses = found.trajectory
    read = SE3.from_quaternion_xyzw(poses.quaternions_xyzw, poses.positions)
    np.testing.assert_allclose((read.inverse() @ T).log(), 0.0, atol=1e-9)


@pytest.mark.parametrize(
    "comment",
    [
        "# poses are T_cam_world",
        "# T_cam0_world",
        "# timestamp tx ty tz qx qy qz qw (T_cw)",
        "# Tcw\n# timestamp tx ty tz qx qy qz qw",
        "# world_to_cam",
        "# transforms from the world frame to the camera frame",
        "# w2c, OpenCV axes",
        "# worldToCamera",
        "# cam_from_world",
        "# not T_world_cam",
        "# the inverse of c2w",
        "t,T_cw.p.x,T_cw.p.y,T_cw.p.z,T_cw.q.x,T_cw.q.y,T_cw.q.z,T_cw.q.w",
    ],
)
def test_inverse_poses_are_inverted_and_that_is_said(tmp_path, comment):
    found = loaded(tmp_path, comment)
    assert_same(found, POSES.inverse())
    truth = Truth.of_file(found, "poses.txt")
    assert "inverted" in truth.source and "so the poses are T_cam_world, and their inverses are taken" in truth.notes[0]


@pytest.mark.parametrize(
    "comment",
    [
        "# timestamp tx ty tz qx qy qz qw  (T_world_cam)",
        "# T_wc",
        "# T_world_cam0",
        "# Twc",
        "# c2w",
        "# cam_to_world",
        "# camera to world",
        "# the inverse of T_cam_world",
        "# T_world_cam, not T_cam_world",
        "# pose of the camera in the world",
        "# camera world trajectory t c",
        "# the world as seen by cam1",
    ],
)
def test_other_comments_leave_the_poses_as_they_are(tmp_path, comment):
    found = loaded(tmp_path, comment)
    assert_same(found, POSES)
    assert not found.notes and found.kind == "TUM's columns"


def test_comments_that_name_both_directions_are_said(tmp_path):
    found = loaded(tmp_path, "# T_world_cam\n# images/w2c/1.png")
    assert_same(found, POSES)
    (note,) = found.notes
    assert "name t_world_cam and w2c; the poses are taken as T_world_cam" in note


def test_positions_alone_cannot_be_inverted(tmp_path):
    (tmp_path / "poses.txt").write_text("# T_cam_world: t x y z\n1 2 3 4\n2 2 3 4\n")
    with pytest.raises(InputError, match="say t_cam_world, and positions that are to be inverted need rotations"):
        load_tum(tmp_path / "poses.txt")
