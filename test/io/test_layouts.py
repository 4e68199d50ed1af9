# SPDX-License-Identifier: Apache-2.0
"""Folders as public data sets lay them out: each opened from every level, with its stamps, calibration and true poses."""

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import yaml
from sample_images import number_of, write_pictures

from st3r_ros.errors import InputError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.image_file import IMAGE_SUFFIXES
from st3r_ros.io.layouts import folder
from st3r_ros.io.layouts.colmap import read_cameras, read_images
from st3r_ros.io.layouts.open import open_folder

START = 1403636579763555584
STEP = 50_000_000
STAMPS = [START + i * STEP for i in range(3)]
RNG = np.random.default_rng(3)
POSES = SE3.exp(RNG.uniform(-1, 1, (3, 6)))
EXTRINSICS = SE3.exp(np.array([0.1, -0.2, 0.3, 0.5, -0.4, 1.0]))


def check(sequence, *, stamps=None, poses=POSES, K=None):
    """Three pictures in order with their stamps, and T_world_cam at these stamps."""
    frames = list(sequence)
    assert not sequence.skipped and [number_of(frame.image) for frame in frames] == [0, 1, 2]
    found = [frame.stamp_ns for frame in frames]
    assert stamps is None or found == stamps
    if poses is None:
        assert sequence.truth is None
    else:
        assert sequence.truth.stamps_ns.tolist() == found
        T = SE3.from_quaternion_xyzw(sequence.truth.quaternions_xyzw, sequence.truth.positions)
        np.testing.assert_allclose(T.as_matrix(), poses.as_matrix(), atol=1e-6)
    if K is None:
        assert all(frame.camera is None for frame in frames)
    else:
        for frame in frames:
            np.testing.assert_allclose(frame.camera.K, K, atol=1e-9)
    return frames


def lines(rows, separator=" "):
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


# EuRoC --------------------------------------------------------------------------------------------------------------------


def write_euroc(root: Path, names=("cam0", "cam1")) -> Path:
    base = root / "mav0"
    for name in names:
        write_pictures(base / name / "data", [f"{stamp}.png" for stamp in STAMPS])
        text = "#timestamp [ns],filename\r\n" + "".join(f"{stamp},{stamp}.png\r\n" for stamp in STAMPS)
        (base / name / "data.csv").write_bytes(text.encode())
    truth = base / "state_groundtruth_estimate0"
    truth.mkdir()
    T_world_body = POSES @ EXTRINSICS.inverse()
    q = T_world_body.quaternion_xyzw
    rows = [[STAMPS[i], *T_world_body.translation[i], *q[i, [3, 0, 1, 2]], *np.zeros(9)] for i in range(3)]
    (truth / "data.csv").write_text("#timestamp, p_RS_R_x [m], ...\r\n" + lines(rows, ",").replace("\n", "\r\n"))
    return base


def write_sensor(folder: Path, T_body_cam: SE3 = EXTRINSICS) -> None:
    (folder / "sensor.yaml").write_text(
        "sensor_type: camera\nT_BS:\n  cols: 4\n  rows: 4\n"
        f"  data: {T_body_cam.as_matrix().reshape(-1).tolist()}\n"
        "rate_hz: 20\nresolution: [48, 32]\ncamera_model: pinhole\nintrinsics: [40.0, 41.0, 23.0, 16.0] #fu, fv, cu, cv\n"
        "distortion_model: radial-tangential\ndistortion_coefficients: [-0.1, 0.01, 0.0, 0.0]\n"
    )


EUROC_K = [[40, 0, 23], [0, 41, 16], [0, 0, 1]]


@pytest.mark.parametrize("below", ["", "MH_01", "MH_01/mav0", "MH_01/mav0/cam0", "MH_01/mav0/cam0/data"])
def test_euroc_is_opened_from_every_level(tmp_path, below):
    base = write_euroc(tmp_path / "MH_01")
    write_sensor(base / "cam0")
    sequence = open_folder(tmp_path / below)
    (first, *_) = check(sequence, stamps=STAMPS, K=EUROC_K)
    assert first.camera.distortion_model == "plumb_bob" and first.camera.distortion[0] == -0.1
    assert sequence.kind == "euroc" and sequence.name.startswith("MH_01")
    assert "sensor.yaml" in sequence.origin and "state_groundtruth_estimate0/data.csv" in sequence.origin


def test_another_camera_is_chosen_by_its_name_or_its_folder(tmp_path):
    base = write_euroc(tmp_path / "MH_01")
    write_sensor(base / "cam1")
    for sequence in (open_folder(tmp_path, camera="cam1"), open_folder(base / "cam1")):
        check(sequence, stamps=STAMPS, K=EUROC_K)
    assert "?camera=cam1" in open_folder(tmp_path).origin
    with pytest.raises(InputError, match="no camera 'cam7'; there are cam0, cam1"):
        open_folder(tmp_path, camera="cam7")


def test_poses_of_a_body_are_not_taken_for_those_of_the_camera(tmp_path):
    write_euroc(tmp_path)
    sequence = open_folder(tmp_path)
    check(sequence, stamps=STAMPS, poses=None)
    assert "nothing tells where cam0 is on it" in sequence.notes[0]


def test_the_columns_of_euroc_go_by_their_names(tmp_path):
    base = write_euroc(tmp_path)
    write_sensor(base / "cam0")
    file = base / "state_groundtruth_estimate0/data.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    turned = "".join(",".join([*row[:4], *row[5:8], row[4]]) + "\n" for row in rows)
    file.write_text("#timestamp [ns], p_x, p_y, p_z, q_x, q_y, q_z, q_w\n" + turned + "1403636579763555584,1,2\n")
    sequence = open_folder(tmp_path)
    check(sequence, stamps=STAMPS, K=EUROC_K)
    assert "1 of 4 lines left out; first: 'data.csv' line 5: It has 3 values" in sequence.notes[0]


def test_positions_of_a_body_do_not_tell_where_its_camera_is(tmp_path):
    base = write_euroc(tmp_path)
    write_sensor(base / "cam0")
    file = base / "state_groundtruth_estimate0/data.csv"
    file.write_text("#timestamp [ns], p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m]\n" + "".join(f"{s},1,2,3\n" for s in STAMPS))
    sequence = open_folder(tmp_path)
    assert sequence.truth is None and "positions only" in sequence.truth_notes[0]


def test_several_sequences_are_listed(tmp_path):
    for name in ("V1_01_easy", "V1_02_medium"):
        write_euroc(tmp_path / name)
    with pytest.raises(InputError, match=r"holds 2 sequences: V1_01_easy, V1_02_medium\. Select one"):
        open_folder(tmp_path)


def test_euroc_without_a_list_has_its_stamps_in_the_names(tmp_path):
    base = write_euroc(tmp_path)
    write_sensor(base / "cam0")
    (base / "cam0/data.csv").unlink()
    check(open_folder(tmp_path), stamps=STAMPS, K=EUROC_K)
    check(open_folder(tmp_path, fps=10.0), stamps=[0, 10**8, 2 * 10**8], poses=None, K=EUROC_K)


def test_tum_vi_has_its_calibration_in_kalibr_s_file(tmp_path):
    base = write_euroc(tmp_path / "room1")
    (base / "state_groundtruth_estimate0").rename(base / "mocap0")
    T_cam_body = EXTRINSICS.inverse().as_matrix().tolist()
    lens = {
        "camera_model": "pinhole",
        "distortion_model": "equidistant",
        "distortion_coeffs": [0.01, 0, 0, 0],
        "resolution": [48, 32],
    }
    chain = {
        f"cam{i}": {"T_cam_imu": T_cam_body, "intrinsics": [40.0 + i, 41.0, 23.0, 16.0], "rostopic": f"/cam{i}/image_raw", **lens}
        for i in range(2)
    }
    for i in range(2):
        write_pictures(tmp_path / f"room1/dso/cam{i}/images", [f"{stamp}.png" for stamp in STAMPS])
        times = lines([stamp, f"{stamp / 1e9:.6f}", 1.5] for stamp in STAMPS)
        (tmp_path / f"room1/dso/cam{i}/times.txt").write_text(times)
    (tmp_path / "room1/dso/camchain.yaml").write_text(yaml.safe_dump(chain))
    first, *_ = check(open_folder(tmp_path), stamps=STAMPS, K=EUROC_K)
    assert first.camera.distortion_model == "equidistant"
    K1 = [[41, 0, 23], [0, 41, 16], [0, 0, 1]]
    check(open_folder(tmp_path, camera="cam1"), stamps=STAMPS, K=K1)
    check(open_folder(tmp_path / "room1/dso/cam1"), poses=None, K=K1)
    chain["cam0"]["T_cam_imu"][0] = [2.0, 0.0, 0.0, 0.0]
    (tmp_path / "room1/dso/camchain.yaml").write_text(yaml.safe_dump(chain))
    sequence = open_folder(tmp_path)
    check(sequence, stamps=STAMPS, poses=None, K=EUROC_K)
    assert sequence.notes[0].startswith("The true poses are not used: The extrinsics in")


def test_a_link_to_the_images_stands_for_their_place_in_the_data_set(tmp_path):
    base = write_euroc(tmp_path / "MH_01")
    write_sensor(base / "cam0")
    (tmp_path / "images").symlink_to(base / "cam0/data")
    check(open_folder(tmp_path / "images"), stamps=STAMPS, K=EUROC_K)


# KITTI --------------------------------------------------------------------------------------------------------------------

KITTI_K = np.array([[40.0, 0, 23], [0, 40, 16], [0, 0, 1]])


def write_kitti(root: Path) -> Path:
    sequence = root / "sequences/07"
    for name in ("image_0", "image_2"):
        write_pictures(sequence / name, [f"{i:06d}.png" for i in range(3)])
    (sequence / "times.txt").write_text("0.000000e+00\n1.038720e-01\n2.077410e-01\n3.1e-01\n")
    baseline = {0: 0.0, 1: -20.0, 2: 8.0, 3: -16.0}
    rows = [[f"P{i}:", *np.hstack([KITTI_K, [[x], [0], [0.0]]]).reshape(-1)] for i, x in baseline.items()]
    (sequence / "calib.txt").write_text(lines(rows))
    (root / "poses").mkdir()
    (root / "poses/07.txt").write_text(lines(T[:3].reshape(-1) for T in POSES.as_matrix()))
    return sequence


@pytest.mark.parametrize("below", ["", "sequences", "sequences/07", "sequences/07/image_0"])
def test_kitti_odometry_is_opened_from_every_level(tmp_path, below):
    write_kitti(tmp_path)
    sequence = open_folder(tmp_path / below)
    check(sequence, stamps=[0, 103_872_000, 207_741_000], K=KITTI_K)
    assert "times.txt" in sequence.origin and "poses/07.txt" in sequence.origin


def test_the_truth_of_kitti_is_moved_to_the_chosen_camera(tmp_path):
    write_kitti(tmp_path)
    T_cam0_cam2 = SE3(np.eye(3), np.array([-8.0 / 40.0, 0.0, 0.0]))  # P2 maps points to pixels 8 / z to the right
    check(open_folder(tmp_path, camera="image_2"), poses=POSES @ T_cam0_cam2, K=KITTI_K)


def test_a_wrong_line_of_kitti_s_poses_does_not_move_the_others(tmp_path):
    sequence = write_kitti(tmp_path)
    file = tmp_path / "poses/07.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "1 0 0 nan", lines[2]]))
    opened = open_folder(sequence)
    np.testing.assert_allclose(opened.truth.positions, POSES.translation[[0, 2]], atol=1e-9)
    assert opened.truth_notes == ("True poses: 1 of 3 lines left out; first: '07.txt' line 2: It has 4 values instead of 12.",)


def test_images_of_kitti_go_by_their_numbers(tmp_path):
    sequence = write_kitti(tmp_path)
    (sequence / "image_0/000001.png").unlink()
    opened = open_folder(sequence)
    assert [frame.stamp_ns for frame in opened] == [0, 207_741_000]
    np.testing.assert_allclose(opened.truth.positions, POSES.translation[[0, 2]], atol=1e-9)
    (sequence / "times.txt").write_text("0.0\n0.1\n")
    opened = open_folder(sequence)
    assert opened.length == 1 and "1 image beyond the 2 times" in opened.notes[0]
    assert [frame.stamp_ns for frame in open_folder(sequence, fps=5.0)] == [0, 400_000_000]


def test_kitti_raw(tmp_path):
    drive = tmp_path / "2011_09_26/2011_09_26_drive_0001_sync"
    write_pictures(drive / "image_02/data", [f"{i:010d}.png" for i in range(3)])
    (drive / "image_02/timestamps.txt").write_text(lines([f"2011-09-26 13:02:25.{i}64389445" for i in range(3)], ""))
    P = np.hstack([KITTI_K, np.zeros((3, 1))]).reshape(-1)
    calibration = tmp_path / "2011_09_26/calib_cam_to_cam.txt"
    rows = [["calib_time:", "09-Jan-2012 13:57:47"], ["S_02:", 60, 40], ["K_02:", *KITTI_K.reshape(-1)], ["D_02:", *[0.1] * 5]]
    calibration.write_text(lines([*rows, ["S_rect_02:", "4.8e+01", 32], ["P_rect_02:", *P]]))
    first = 1317042145064389445
    for path in (tmp_path, drive, drive / "image_02", drive / "image_02/data"):
        frames = check(open_folder(path), stamps=[first + i * 10**8 for i in range(3)], poses=None, K=KITTI_K)
        assert not frames[0].camera.has_distortion
    calibration.write_text(calibration.read_text().replace("S_02: 60 40", "S_02: 48 32"))
    unrectified = drive.rename(drive.with_name("2011_09_26_drive_0001_extract"))
    assert check(open_folder(unrectified), poses=None, K=KITTI_K)[0].camera.has_distortion


# 7-Scenes, ScanNet, TUM mono ----------------------------------------------------------------------------------------------


def test_seven_scenes(tmp_path):
    folder = tmp_path / "redkitchen/seq-01"
    write_pictures(folder, [f"frame-{i:06d}.color.png" for i in range(3)])
    write_pictures(folder, [f"frame-{i:06d}.{kind}.png" for i in range(3) for kind in ("depth", "depth.proj")])
    for i, T in enumerate(POSES.as_matrix()):
        (folder / f"frame-{i:06d}.pose.txt").write_text("\t ".join(f"{v:.7e}" for v in T.reshape(-1)))
    for path in (folder, folder.parent, tmp_path):
        sequence = open_folder(path)
        check(sequence, stamps=[0, 33_333_333, 66_666_667])
        assert any("no calibration" in note for note in sequence.notes)
        assert any(note.startswith("Left out: depth images or masks (6: ") for note in sequence.notes)


def test_scannet_leaves_out_poses_that_are_none(tmp_path):
    scene = tmp_path / "scene0000_00"
    write_pictures(scene / "color", ["0.jpg", "10.jpg", "100.jpg"])
    for below in ("pose", "intrinsic", "depth"):
        (scene / below).mkdir()
    for name, T in zip((0, 10, 100), POSES.as_matrix(), strict=True):
        (scene / f"pose/{name}.txt").write_text(lines(T))
    K = np.eye(4)
    K[:3, :3] = KITTI_K
    (scene / "intrinsic/intrinsic_color.txt").write_text(lines(K))
    for path in (tmp_path, scene, scene / "color"):
        check(open_folder(path), stamps=[0, 333_333_333, 3_333_333_333], K=KITTI_K)
    (scene / "pose/10.txt").write_text("-inf -inf -inf -inf\n" * 4)
    (scene / "intrinsic/intrinsic_color.txt").write_text(lines(20 * K))
    sequence = open_folder(scene)
    assert len(sequence.truth) == 2 and sequence.camera is None
    assert "(1 of 3)" in sequence.notes[0] and "about 920x640 pixels, the images are 48x32" in sequence.notes[1]


def test_tum_mono(tmp_path):
    write_pictures(tmp_path / "sequence_01/images", [f"{i:05d}.jpg" for i in range(3)])
    (tmp_path / "sequence_01/times.txt").write_text(lines([f"{i:05d}", f"1464004562.{i}5", 0.0196] for i in range(3)))
    check(open_folder(tmp_path), stamps=[1464004562050000000 + i * 10**8 for i in range(3)], poses=None)
    camera = tmp_path / "sequence_01/camera.txt"
    camera.write_text("RadTan 40 41 23.5 15.5 0.1 0 0 0\n48 32\ncrop\n48 32\n")
    check(open_folder(tmp_path), poses=None, K=[[40, 0, 23.5], [0, 41, 15.5], [0, 0, 1]])
    camera.write_text("0.35 0.44 0.49 0.50 0.93\n48 32\ncrop\n48 32\n")
    sequence = open_folder(tmp_path)
    assert sequence.camera is None and "described by its field of view" in sequence.notes[0] and "--camera" in sequence.notes[0]


# nerfstudio and COLMAP ----------------------------------------------------------------------------------------------------


def transforms(paths, **common):
    flip = np.diag([1.0, -1, -1, 1])
    frames = [
        {"file_path": path, "transform_matrix": (T @ flip).tolist()} for path, T in zip(paths, POSES.as_matrix(), strict=True)
    ]
    return {**common, "frames": frames[::-1]}


def test_nerfstudio_has_the_axes_of_opengl_and_frames_in_any_order(tmp_path):
    write_pictures(tmp_path / "images", [f"frame_{i}.jpg" for i in (2, 9, 10)])
    content = transforms(
        [f"./images/frame_{i}.jpg" for i in (2, 9, 10)],
        camera_model="OPENCV", w=48, h=32, fl_x=40.0, fl_y=41.0, cx=23.5, cy=16.5, k1=0.1, k2=0.0, p1=0.0, p2=0.0,
    )  # fmt: skip
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    for path in (tmp_path, tmp_path / "images"):
        frames = check(open_folder(path), K=[[40, 0, 23], [0, 41, 16], [0, 0, 1]])
        assert frames[0].camera.distortion.tolist()[:4] == [0.1, 0, 0, 0]
    content["frames"][0].update(camera_model="OPENCV_FISHEYE", fl_x=30.0, k3=0.02)  # frame_10, the last one
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    first, _, last = open_folder(tmp_path)
    assert last.camera.distortion_model == "equidistant" and last.camera.distortion.tolist() == [0.1, 0, 0.02, 0]
    assert (first.camera.K[0, 0], last.camera.K[0, 0]) == (40.0, 30.0)
    content["frames"].pop()
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    assert "1 image in 'images' that transforms.json does not list" in open_folder(tmp_path).notes[0]


def test_synthetic_scenes_have_no_suffix_and_an_angle_of_view(tmp_path):
    write_pictures(tmp_path / "train", [f"r_{i}.png" for i in range(3)])
    content = transforms([f"./train/r_{i}" for i in range(3)], camera_angle_x=2 * np.arctan(24 / 40))
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    check(open_folder(tmp_path), K=[[40, 0, 23.5], [0, 40, 15.5], [0, 0, 1]])


def write_colmap(
    root: Path, model: str = "OPENCV", params=(40.0, 41.0, 23.5, 16.5, 0.1, 0.0, 0.0, 0.0)
) -> pycolmap.Reconstruction:
    write_pictures(root / "images/a", [f"{i}.jpg" for i in range(3)])
    reconstruction = pycolmap.Reconstruction()
    reconstruction.add_camera_with_trivial_rig(
        pycolmap.Camera(model=model, width=48, height=32, params=list(params), camera_id=4)
    )
    for i in range(3):
        T = POSES[i].inverse()
        image = pycolmap.Image(f"a/{i}.jpg", pycolmap.Point2DList(), 4, i + 1)
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(T.as_matrix()[:3]))
    (root / "sparse/0").mkdir(parents=True)
    return reconstruction


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_colmap(tmp_path, kind):
    reconstruction = write_colmap(tmp_path)
    getattr(reconstruction, f"write_{kind}")(str(tmp_path / "sparse/0"))
    frames = check(open_folder(tmp_path), K=[[40, 0, 23], [0, 41, 16], [0, 0, 1]])
    assert frames[0].camera.distortion.tolist() == [0.1, 0, 0, 0]
    write_pictures(tmp_path / "images/a", ["0.jpg", "1.jpg", "2.jpg", "3.jpg"])
    sequence = open_folder(tmp_path)
    assert len(list(sequence)) == 4 and len(sequence.truth) == 3
    assert any("because sparse/0 does not have them: 1 of 4 images" in note for note in sequence.notes)


def test_every_camera_of_colmap_is_read_or_refused_by_name(tmp_path):
    for kind in ("text", "binary"):
        model = tmp_path / kind
        reconstruction = write_colmap(model, "SIMPLE_RADIAL_FISHEYE", (40.0, 23.5, 16.5, 0.1))
        getattr(reconstruction, f"write_{kind}")(str(model / "sparse/0"))
        camera = read_cameras(model / "sparse/0")[4]
        assert camera.distortion_model == "equidistant" and camera.distortion.tolist() == [0.1, 0, 0, 0]
        assert set(read_images(model / "sparse/0")) == {"a/0.jpg", "a/1.jpg", "a/2.jpg"}
        damaged = model / "sparse/0/images.bin"
        if kind == "binary":
            damaged.write_bytes(damaged.read_bytes()[:-30])
            with pytest.raises(InputError, match="damaged"):
                read_images(model / "sparse/0")


# Left out -----------------------------------------------------------------------------------------------------------------


def test_what_lies_beside_the_images_is_named_and_counted(tmp_path):
    write_pictures(tmp_path, ["001.jpg", "002.jpg", "001_depth.png", "002.jpg.mask.png", "mask_of_venice.jpg"])
    write_pictures(tmp_path / "more", ["1.jpg"])
    for name in ("a.dng", "b.CR2", "c.gif", "clip.mp4"):
        (tmp_path / name).write_bytes(b"")
    sequence = open_folder(tmp_path)
    assert [number_of(frame.image) for frame in sequence] == [0, 1, 4]
    told = " ".join(sequence.notes)
    for phrase in (
        "depth images or masks (2: 001_depth.png, 002.jpg.mask.png)",
        "raw images, which must be converted to JPEG or PNG (2: a.dng, b.CR2)",
        "files of other formats (1: c.gif)",
        "videos, bags or archives (1: clip.mp4)",
        "subfolders with images (1: more)",
    ):
        assert phrase in told


def test_folders_of_depth_images_beside_those_of_colour_are_passed_over(tmp_path):
    for name in ("color", "depth", "masks"):
        write_pictures(tmp_path / name, ["0.png", "1.png"])
    sequence = open_folder(tmp_path)
    assert sequence.name == "color" and len(list(sequence)) == 2
    assert sequence.notes == ("Left out: folders of depth images or masks (2: depth, masks).",)


def test_an_empty_folder_says_what_it_holds_instead(tmp_path):
    (tmp_path / "IMG_1.dng").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no images .* It holds raw images, .*\(1: IMG_1\.dng\)"):
        open_folder(tmp_path)


def test_heic_images_are_left_out_with_the_way_to_read_them(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "image_suffixes", lambda: IMAGE_SUFFIXES)
    monkeypatch.setattr(folder, "why_no_heic", lambda: "to read them: pip install pillow-heif")
    for name in ("IMG_1.HEIC", "IMG_2.heic"):
        (tmp_path / name).write_bytes(b"")
    phrase = r"HEIC images, to read them: pip install pillow-heif \(2: IMG_1\.HEIC, IMG_2\.heic\)"
    with pytest.raises(InputError, match=f"holds no images .* It holds {phrase}"):
        open_folder(tmp_path)
    write_pictures(tmp_path, ["IMG_3.jpg"])
    (note,) = open_folder(tmp_path).notes
    assert note.startswith("Left out: HEIC images, to read them: pip install pillow-heif (2: ")
