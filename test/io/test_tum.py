# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
from sample_images import number_of, write_pictures

from st3r_ros.errors import CalibrationError, FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import write_camera
from st3r_ros.io.layouts.open import open_folder


@pytest.fixture
def folder(tmp_path):
    """Three images, a camera, poses, two depth images."""
    write_pictures(tmp_path / "rgb", ["a b.png", "1.jpg", "2.png"])
    (tmp_path / "rgb.txt").write_text(
        "# stamp file\n1305031102.175304 rgb/a b.png\n1305031102.3 rgb/1.jpg\n1305031102.4 rgb/2.png\n"
    )
    (tmp_path / "groundtruth.txt").write_text("1305031102.175304 1 2 3 0 0 0 1\nnan 1 2 3 0 0 0 1\n1305031102.5 4 5 6 0 0 0 1\n")
    (tmp_path / "depth.txt").write_text("1305031102.30 depth/1.png\nbad depth/9.png\n1305031102.17 depth/0.png\n")
    (tmp_path / "depth").mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"depth/{i}.png"), np.array([[0, 5000 * (i + 1)], [2500, 65535]], dtype=np.uint16))
    write_camera(tmp_path / "camera.yaml", Camera.from_fov(48, 32, 60.0))
    return tmp_path


def test_everything_of_the_layout_is_read_exactly(folder):
    sequence = open_folder(folder)
    frames = list(sequence)
    assert [frame.stamp_ns for frame in frames] == [1305031102175304000, 1305031102300000000, 1305031102400000000]
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2] and sequence.length == 3
    assert frames[0].camera == sequence.camera == Camera.from_fov(48, 32, 60.0)
    assert sequence.truth.stamps_ns.tolist() == [1305031102175304000, 1305031102500000000]
    (skipped,) = sequence.notes
    assert "line 2" in skipped and "nan" in skipped


def test_depth_is_in_metres_and_found_by_time(folder):
    depth = open_folder(folder).depth
    assert depth.stamps_ns.tolist() == [1305031102170000000, 1305031102300000000] and len(depth.skipped) == 1
    np.testing.assert_allclose(depth.depth(1), [[0, 2], [0.5, 13.107]], rtol=1e-6)
    assert depth.depth(0).dtype == np.float32 and depth.depth(0)[0, 1] == 1
    assert depth.nearest(1305031102175304000) == 0 and depth.nearest(1305031102295000000) == 1
    assert depth.nearest(1305031102250000000) is None and depth.camera is None
    (folder / "depth/1.png").write_bytes(b"damaged")
    (folder / "depth/0.png").write_bytes((folder / "rgb/2.png").read_bytes())
    for index in range(2):
        with pytest.raises(FrameError, match="no depth image"):
            depth.depth(index)


@pytest.mark.parametrize(
    ("line", "source", "reason"),
    [
        ("nan rgb/2.png", "rgb.txt line 3", "not a finite number"),
        ("later rgb/2.png", "rgb.txt line 3", "not a number"),
        ("1305031102.35 rgb/absent.png", "rgb/absent.png", "No such file"),
        ("1305031102.35", "rgb.txt line 3", "does not consist of a stamp and a file"),
    ],
)
def test_bad_lines_are_skipped_when_they_come(folder, line, source, reason):
    lines = (folder / "rgb.txt").read_text().splitlines()
    (folder / "rgb.txt").write_text("\n".join([*lines[:2], line, *lines[2:]]))
    sequence = open_folder(folder)
    assert [frame.id for frame in sequence] == [0, 2, 3]
    (skipped,) = sequence.skipped
    assert skipped.index == 1 and skipped.source == source and reason in skipped.reason


def test_time_that_goes_backwards_is_kept_in_the_order_of_the_file(folder):
    (folder / "rgb.txt").write_text("3.0 rgb/2.png\n1.0 rgb/1.jpg\n1.0 rgb/2.png\n")
    assert [frame.stamp_ns for frame in open_folder(folder)] == [3 * 10**9, 10**9, 10**9]


def test_only_rgb_txt_is_needed(folder):
    for name in ("groundtruth.txt", "depth.txt", "camera.yaml"):
        (folder / name).unlink()
    sequence = open_folder(folder)
    assert len(list(sequence)) == 3
    assert sequence.truth is None and sequence.depth is None and sequence.camera is None


def test_truth_without_a_valid_line_is_none_and_counted(folder):
    (folder / "groundtruth.txt").write_text("nan 0 0 0 0 0 0 1\n1 2 3\n")
    sequence = open_folder(folder)
    assert sequence.truth is None and "2 of 2 lines left out; first: 'groundtruth.txt' line 1: The stamp" in sequence.notes[0]


def test_what_cannot_be_used_says_why(folder):
    (folder / "camera.yaml").write_text("image_width: 48\n")
    with pytest.raises(CalibrationError, match="image_height is missing"):
        open_folder(folder)
    (folder / "rgb.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match="lists no images"):
        open_folder(folder)
    with pytest.raises(InputError, match="There is no folder"):
        open_folder(folder / "absent")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rgb.txt", "1305031102175304000\trgb/1.jpg\n1305031102300000000\trgb/2.png\n"),
        ("rgb.txt", "#timestamp,filename\r\n1305031102.175304,rgb/1.jpg\r\n1305031102.3,rgb/2.png\r\n"),
        ("rgb.csv", "timestamp,filename\n1305031102175304000, rgb/1.jpg\n1305031102300000000, rgb/2.png\n"),
        (
            "associations.txt",
            "1305031102.175304 rgb/1.jpg 1305031102.17 depth/0.png\n1305031102.3 rgb/2.png 1305031102.3 depth/1.png\n",
        ),
        (
            "associations.txt",
            "1305031102.17 depth/0.png 1305031102.175304 rgb/1.jpg\n1305031102.3 depth/1.png 1305031102.3 rgb/2.png\n",
        ),
    ],
)
def test_lists_as_people_write_them(folder, name, content):
    (folder / "rgb.txt").unlink()
    (folder / name).write_bytes(content.encode())
    for path in (folder, folder / "rgb"):
        frames = list(open_folder(path))
        assert [frame.stamp_ns for frame in frames] == [1305031102175304000, 1305031102300000000]
        assert [number_of(frame.image) for frame in frames] == [1, 2] and frames[0].camera is not None


def test_without_a_list_the_names_of_the_images_are_their_times(folder):
    (folder / "rgb.txt").unlink()
    for number, name in enumerate(("a b.png", "1.jpg", "2.png")):
        (folder / "rgb" / name).rename(folder / f"rgb/1305031102.{number}5{name[-4:]}")
    sequence = open_folder(folder)
    assert [frame.stamp_ns for frame in sequence] == [1305031102050000000 + i * 10**8 for i in range(3)]
    assert sequence.truth is not None and sequence.camera is not None


def test_true_poses_in_nanoseconds_are_read_and_those_of_euroc_are_named(folder):
    (folder / "groundtruth.txt").write_text("1305031102175304000 1 2 3 0 0 0 1\n1305031102300000000,1,2,3,1,0,0,0" + ",0" * 9)
    sequence = open_folder(folder)
    assert sequence.truth.stamps_ns.tolist() == [1305031102175304000]
    assert "a line of EuRoC (quaternion w first" in sequence.notes[0]


def test_a_header_of_the_true_poses_is_obeyed_and_lines_left_out_are_counted(folder):
    (folder / "groundtruth.txt").write_text(
        "timestamp [ns];tx;ty;tz;qw;qx;qy;qz\n1305031102175304000;1;2;3;0;1;0;0\n1305031102300000000;1;2\n"
    )
    sequence = open_folder(folder)
    assert sequence.truth.stamps_ns.tolist() == [1305031102175304000]
    np.testing.assert_allclose(sequence.truth.quaternions_xyzw, [(1, 0, 0, 0)])
    (note,) = sequence.truth_notes
    assert note.startswith("True poses: 1 of 2 lines left out; first: 'groundtruth.txt' line 3: It has 3 values instead of 8 ")
    assert "true poses: groundtruth.txt (the columns of its header)" in sequence.origin


def test_true_poses_without_stamps_are_those_of_the_images_in_their_order(folder):
    rows = "".join(f"1 0 0 {i} 0 1 0 0 0 0 1 0\n" for i in range(3))
    (folder / "groundtruth.txt").write_text(rows)
    sequence = open_folder(folder)
    assert sequence.truth.stamps_ns.tolist() == [frame.stamp_ns for frame in sequence]
    np.testing.assert_allclose(sequence.truth.positions[:, 0], [0, 1, 2])
    (folder / "groundtruth.txt").write_text(rows * 2)
    sequence = open_folder(folder)
    assert sequence.truth is None and "6 poses without stamps, but there are 3 images" in sequence.truth_notes[0]


def test_poses_of_a_body_are_taken_as_the_camera_s_and_that_is_said(folder):
    (folder / "groundtruth.txt").write_text("1305031102175304000,1,2,3,0,1,0,0\n")
    sequence = open_folder(folder)
    np.testing.assert_allclose(sequence.truth.quaternions_xyzw, [(1, 0, 0, 0)])
    assert "poses are those of the body; they are taken as the camera's" in sequence.truth_notes[0]


def test_a_rate_takes_the_place_of_the_times_and_with_them_of_the_truth(folder):
    sequence = open_folder(folder, fps=4.0)
    assert [frame.stamp_ns for frame in sequence] == [0, 250_000_000, 500_000_000] and sequence.truth is None
