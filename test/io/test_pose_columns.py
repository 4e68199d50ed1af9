# SPDX-License-Identifier: Apache-2.0
"""Files of poses as data sets, SLAM systems, robots and motion capture write them."""

import numpy as np
import pytest

from st3r_ros.errors import InputError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.trajectory import FrameStamps, TrajectoryFile, load_tum

NS = 1403636580838555648
X, Y, Z, W = 0.1, 0.2, 0.3, 0.927  # a rotation that is another one in any other order
R = " ".join(f"{value:.9f}" for value in SE3.from_quaternion_xyzw(np.array([X, Y, Z, W]), np.zeros(3)).rotation.ravel())
R11, R00 = "r11,r12,r13,r21,r22,r23,r31,r32,r33", "R[0][0] R[0][1] R[0][2] R[1][0] R[1][1] R[1][2] R[2][0] R[2][1] R[2][2]"
P, XYZW, WXYZ = "1 2 3", f"{X} {Y} {Z} {W}", f"{W} {X} {Y} {Z}"
EUROC = "#timestamp [ns], p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []"
SPEEDS = ", v_RS_R_x [m s^-1], v_RS_R_y, v_RS_R_z, b_w_RS_S_x, b_w_RS_S_y, b_w_RS_S_z, b_a_RS_S_x, b_a_RS_S_y, b_a_RS_S_z"
ROS = "pose.position.{0},pose.position.{1},pose.position.{2},pose.orientation.{0},pose.orientation.{1},pose.orientation.{2},"
ROS = ROS.format(*"xyz") + "pose.orientation.w"
OPTITRACK = """Format Version,1.23,Take Name,Walk,Length Units,Millimeters
,,Type,Rigid Body,Rigid Body,Rigid Body,Rigid Body,Rigid Body,Rigid Body,Rigid Body
,,Rotation,Rotation,Rotation,Rotation,Position,Position,Position
Frame,Time (Seconds),X,Y,Z,W,X,Y,Z"""


def commas(*parts: object) -> str:
    return ",".join(str(part).replace(" ", ",") for part in parts)


def loaded(folder, text: str | bytes, **options) -> TrajectoryFile:
    path = folder / "groundtruth.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_tum(path, **options)


FILES = {
    "TUM": (f"# ground truth\n# timestamp tx ty tz qx qy qz qw\n1.5 {P} {XYZW}\n", 1_500_000_000),
    "w first in the header": (f"# timestamp tx ty tz qw qx qy qz\n1.5 {P} {WXYZ}\n", 1_500_000_000),
    "w first in a comment": (f"# quaternions are qw, qx, qy, qz\n1.5 {P} {WXYZ}\n", 1_500_000_000),
    "real first in a comment": (f"# quaternions are qr, qi, qj, qk\n1.5 {P} {WXYZ}\n", 1_500_000_000),
    "real last in a comment": (f"# quaternions i j k r\n1.5 {P} {XYZW}\n", 1_500_000_000),
    "scalar first": (f"# quaternions, scalar-first\n1.5 {P} {WXYZ}\n", 1_500_000_000),
    "w last": (f"# quaternions, w last\n1.5 {P} {XYZW}\n", 1_500_000_000),
    "a header without the stamp": (f"# tx ty tz qw qx qy qz\n1.5 {P} {WXYZ}\n", 1_500_000_000),
    "EuRoC, 17 columns": (EUROC + SPEEDS + f"\r\n{commas(NS, P, WXYZ, '0 0 0 0 0 0 0 0 0')}\r\n", NS),
    "EuRoC, 8 columns": (f"{EUROC}\n{commas(NS, P, WXYZ)}\n", NS),
    "EuRoC, an abbreviated header": (f"{EUROC}, v...\n{commas(NS, P, WXYZ, '0 0 0 0 0 0 0 0 0')}\n", NS),
    "EuRoC without a header": (commas(NS, P, WXYZ), NS),
    "EuRoC with semicolons": (commas(NS, P, WXYZ).replace(",", "; "), NS),
    "ORB-SLAM3": (f"{NS}.000000 {P} {XYZW}\n", NS),
    "a stamp as a float": (f"1.403636580838555648e18 {P} {XYZW}\n", NS),
    "OpenVINS": (f"# timestamp(s) tx ty tz qx qy qz qw Pr11 Pr12\n1.5 {P} {XYZW} 5 6\n", 1_500_000_000),
    "Kimera": (f"#timestamp,x,y,z,qw,qx,qy,qz,vx,vy,vz,bgx,bgy,bgz\n{commas(NS, P, WXYZ, '7 7 7 8 8 8')}\n", NS),
    "RTAB-Map": (f"#timestamp x y z qx qy qz qw id\n1.5 {P} {XYZW} 4\n", 1_500_000_000),
    "rostopic echo -p": (
        f"%time,field.header.seq,field.header.stamp,field.header.frame_id,field.{ROS.replace(',', ',field.')}\n"
        f"{commas(NS + 99, 7, NS, 'world', P, XYZW)}\n",
        NS,
    ),
    "bagpy": (
        f"Time,header.seq,header.stamp.secs,header.stamp.nsecs,pose.{ROS.replace(',', ',pose.')},twist.twist.linear.x\n"
        f"{commas(NS / 1e9, 7, NS // 10**9, NS % 10**9, P, XYZW, 9)}\n",
        NS,
    ),
    "ros2 topic echo --csv": (f"{commas(NS // 10**9, NS % 10**9, 'map', P, XYZW)}\n", NS),
    "PlotJuggler": (f"__time,/v/{ROS.replace('.', '/').replace(',', ',/v/')}\n{commas(1.5, P, XYZW)}\n", 1_500_000_000),
    "PX4": (
        "timestamp,timestamp_sample,position[0],position[1],position[2],q[0],q[1],q[2],q[3],velocity[0]\n"
        f"{commas(1500000, 1499000, P, WXYZ, 9)}\n",
        1_500_000_000,
    ),
    "OptiTrack": (f"{OPTITRACK}\n{commas(0, 1.5, XYZW, '1000 2000 3000')}\n", 1_500_000_000),
    "tabs and milliseconds": (
        "timestamp [ms]\ttx\tty\ttz\tqx\tqy\tqz\tqw\n" + f"1500 {P} {XYZW}".replace(" ", "\t"),
        1_500_000_000,
    ),
    "microseconds": (f"t_us,x,y,z,qx,qy,qz,qw\n{commas(1500000, P, XYZW)}\n", 1_500_000_000),
    "milliseconds since 1970": (f"1403636580838 {P} {XYZW}\n", 1403636580838000000),
    "decimal commas": (f"t;tx;ty;tz;qx;qy;qz;qw\n{f'1.5 {P} {XYZW}'.replace(' ', ';').replace('.', ',')}\n", 1_500_000_000),
    "decimal commas and spaces": (f"1.5 {P} {XYZW}\n".replace(".", ","), 1_500_000_000),
    "a byte order mark": (f"\ufeff1.5 {P} {XYZW}\n", 1_500_000_000),
    "UTF-16": (f"# Länge\n1.5 {P} {XYZW}\n".encode("utf-16"), 1_500_000_000),
    "Latin-1": (f"# Länge\n1.5 {P} {XYZW}\n".encode("latin-1"), 1_500_000_000),
    "i, j, k and real": (f"timestamp,x,y,z,q_r,q_i,q_j,q_k\n{commas(1.5, P, WXYZ)}\n", 1_500_000_000),
    "i, j, k and l": (f"# t px py pz qi qj qk ql\n1.5 {P} {XYZW}\n", 1_500_000_000),
    "a matrix": (f"t,{R11},tx,ty,tz\n{commas(1.5, R, P)}\n", 1_500_000_000),
    "a matrix from 0": (f"# time tx ty tz {R00}\n1.5 {P} {R}\n", 1_500_000_000),
    "a matrix in millimetres": (
        f"t,tx [mm],ty [mm],tz [mm],{R11.replace('r', 'rot_')}\n{commas(1.5, '1000 2000 3000', R)}\n",
        1_500_000_000,
    ),
    "a comment about x y z": (f"# x y z of the camera in metres\n1.5 {P} {XYZW}\n", 1_500_000_000),
}


@pytest.mark.parametrize("name", FILES)
def test_stamp_position_and_rotation_are_those_of_the_file(tmp_path, name):
    text, stamp_ns = FILES[name]
    found = loaded(tmp_path, text)
    assert found.trajectory.stamps_ns.tolist() == [stamp_ns] and found.left_out == "" and not found.notes
    np.testing.assert_allclose(found.trajectory.positions, [(1, 2, 3)], atol=1e-12)
    np.testing.assert_allclose(found.trajectory.quaternions_xyzw, [(X, Y, Z, W)], atol=1e-3)
    assert found.of_body == name.startswith("EuRoC")


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("last_row", ["", " 0 0 0 1"])
def test_rows_of_a_matrix_are_poses(tmp_path, stamped, last_row):
    rows = [f"0 -1 0 {i} 1 0 0 2 0 0 1 3{last_row}" for i in range(2)]
    text = "\n".join(f"{i + 5}.0 {row}" if stamped else row for i, row in enumerate(rows))
    found = loaded(tmp_path, text, frames=FrameStamps({0: 5_000_000_000, 1: 6_000_000_000}, complete=True))
    assert found.trajectory.stamps_ns.tolist() == [5_000_000_000, 6_000_000_000]
    np.testing.assert_allclose(found.trajectory.positions, [(0, 2, 3), (1, 2, 3)])
    np.testing.assert_allclose(found.trajectory.quaternions_xyzw, [(0, 0, 0.5**0.5, 0.5**0.5)] * 2)


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("by_columns", [True, False])
def test_the_last_row_of_a_matrix_tells_its_order(tmp_path, stamped, by_columns):
    matrices = [np.eye(4), *2 * [np.array([[0, -1, 0, 4], [1, 0, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]])]]  # the first fits both
    matrices = [M.T if by_columns else M for M in (*matrices, matrices[2].T)]
    lines = [" ".join(map(str, M.ravel())) for M in matrices]
    text = "\n".join(f"{i}.0 {line}" if stamped else line for i, line in enumerate(lines))
    found = loaded(tmp_path, text, frames=FrameStamps({i: i * 10**9 for i in range(4)}, complete=True))
    np.testing.assert_allclose(found.trajectory.positions, [(0, 0, 0), *2 * [(4, 5, 6)]])
    np.testing.assert_allclose(found.trajectory.quaternions_xyzw, [(0, 0, 0, 1), *2 * [(0, 0, 0.5**0.5, 0.5**0.5)]])
    assert found.kind == "a 4x4 matrix in each line" + (", column by column" if by_columns else "")
    (reason,) = found.skipped
    assert "line 4: The last row of a transform matrix is not 0 0 0 1" in reason


@pytest.mark.parametrize(
    ("header", "unread"),
    [
        ("timestamp,x,y,z,roll,pitch,yaw", "roll, pitch, yaw; the order and the unit of angles are not certain"),
        ("t,x,y,z,euler_x,euler_y,euler_z", "euler.x, euler.y, euler.z; the order"),
        ("t,x,y,z,ux,uy,theta", "ux, uy, theta; the order"),
        ("t,x,y,z,qx,qy,qz", "qx, qy, qz."),
        ("t,x,y,z,r11,r12,r13", "r11, r12, r13."),
    ],
)
def test_a_rotation_that_is_not_read_is_said(tmp_path, header, unread):
    for mark in ("", "# "):
        found = loaded(tmp_path, f"{mark}{header}\n1.5,1,2,3,0,0,0\n")
        assert found.kind == "positions only" and not found.trajectory.has_rotations
        (note,) = found.notes
        assert note.startswith("'groundtruth.txt': only positions are read: ") and unread in note


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        ("1.5 0 0 0 1 0 0 0\n2.5 1 0 0 0.99 0.141 0 0\n", True),
        ("1.5 0 0 0 0 0 0 1\n", False),
        (f"1.5 {P} {XYZW}\n", False),
        ("# timestamp tx ty tz qx qy qz qw\n1.5 0 0 0 1 0 0 0\n", False),
        ("# quaternions in the order x y z w\n1.5 0 0 0 1 0 0 0\n", False),
    ],
)
def test_an_assumed_order_is_said_where_another_one_is_likely(tmp_path, text, doubtful):
    found = loaded(tmp_path, text)
    assert found.kind == "TUM's columns" and [("if w comes first" in note) for note in found.notes] == [True] * doubtful
    first = next(line for line in text.splitlines() if not line.startswith("#"))
    np.testing.assert_allclose(found.trajectory.quaternions_xyzw[0], [float(v) for v in first.split()[4:]], atol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,x,y,z\n1.5,1,2,3\n",
        "1.5 1 2 3\n2.5 1 2 3\n",
        "timestamp,x,y,z,roll,pitch,yaw\n1.5,1,2,3,0,0,90\n",
        "timestamp [us],position x [mm],position y [mm],position z [mm]\n1500000,1000,2000,3000\n",
    ],
)
def test_positions_alone_have_no_rotation(tmp_path, text):
    found = loaded(tmp_path, text)
    assert found.trajectory.stamps_ns[0] == 1_500_000_000 and found.kind == "positions only"
    np.testing.assert_allclose(found.trajectory.positions[0], (1, 2, 3))
    assert not found.trajectory.has_rotations


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("t,x,y,z,q0,q1,q2,q3\n1.5,1,2,3,1,0,0,0\n", "numbers the parts of the quaternion"),
        ("# t x y z qw qx qy qz\n1.5 1 2 3 1 0 0 0 9\n", "names 8 columns, but its lines have 9 values"),
        ("timestamp,lat,lon,alt\n1.5,49,8,300\n", "names no columns of a position: 'timestamp,lat,lon,alt'"),
        ("t,x,y,z,x,y,z\n1.5,1,2,3,4,5,6\n", "several columns alike"),
        ("1.0 1 0 0 0 4 5 6\n2.0 1 0 0 0 4 5 6\n", "a norm of 8.77 instead of 1"),
        ("1 2 3 0 0 0 1\n", "its lines hold 7 values, like '1 2 3 0 0 0 1', and no header names them. Accepted are"),
        ("0 0 1\n1 0 0 1\n0 1 0 2\n0 0 1 3\n0 0 0 1\n", "hold 4 values"),
        ("#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n1 1 0 0 0 1 2 3 1 a.jpg\n", "images.txt of COLMAP"),
        ("1 0 0 1 0 1 0 2 0 0 1 3\n", "without stamps, and nothing tells the images' order"),
    ],
)
def test_a_file_whose_meaning_is_unknown_is_refused(tmp_path, text, reason):
    with pytest.raises(InputError, match=r"groundtruth\.txt' cannot be used: ") as caught:
        loaded(tmp_path, text)
    assert reason in str(caught.value)


def test_poses_without_stamps_must_be_as_many_as_the_images(tmp_path):
    with pytest.raises(InputError, match="2 poses without stamps, but there are 3 images"):
        loaded(tmp_path, "1 0 0 1 0 1 0 2 0 0 1 3\n" * 2, frames=FrameStamps({0: 0, 1: 1, 2: 2}, complete=True))


def test_lines_left_out_are_counted_and_the_first_is_named(tmp_path):
    lines = [f"{i}.5 {P} {XYZW}" for i in range(20)]
    lines[7], lines[9] = "7.5 1 2 3", "nine 1 2 3 0 0 0 1"
    found = loaded(tmp_path, "\n".join(["# comment", *lines]))
    assert len(found.trajectory) == 18
    sentence = "'groundtruth.txt' line 9: It has 4 values instead of 8 (stamp tx ty tz qx qy qz qw)."
    assert found.left_out == f"2 of 20 lines left out; first: {sentence}"
