# SPDX-License-Identifier: Apache-2.0
"""tools/datasets.py converts published data sets to the layout that the benchmarks read."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from st3r_ros.io.trajectory import read_tum
from st3r_ros.io.tum import DepthImages
from st3r_ros.sequences import open_sequence

ROOT = Path(__file__).resolve().parent.parent
T_WORLD_CAM = np.array([[1.0, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3], [0, 0, 0, 1]])
"""Of every image, OpenCV axes."""
HALF = np.sqrt(0.5)


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from datasets import main

    return lambda *arguments: main([str(argument) for argument in arguments])


def write_image(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), 100, np.uint8))


def check_poses(folder: Path, stamps: list[float]) -> None:
    trajectory = read_tum(folder / "groundtruth.txt")
    np.testing.assert_allclose(trajectory.stamps_ns / 1e9, stamps, atol=1e-6)
    np.testing.assert_allclose(trajectory.positions, np.tile([1.0, 2, 3], (len(stamps), 1)))
    np.testing.assert_allclose(trajectory.quaternions_xyzw, np.tile([HALF, 0, 0, HALF], (len(stamps), 1)), atol=1e-8)


def test_kitchen_is_every_second_frame_with_depth_for_every_fourth(tmp_path, convert):
    source = tmp_path / "data"
    for number in range(6):
        write_image(source / f"frame-{number:06d}.color.jpg", (64, 48))
        cv2.imwrite(str(source / f"frame-{number:06d}.depth.png"), np.array([[0, 1234, 65535]], np.uint16))
        np.savetxt(source / f"frame-{number:06d}.pose.txt", T_WORLD_CAM)
    np.savetxt(source / "camera-intrinsics.txt", np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]]))
    convert("kitchen", source, tmp_path / "kitchen")
    check_poses(tmp_path / "kitchen", [0, 1 / 15, 2 / 15])
    depths = DepthImages(tmp_path / "kitchen")
    np.testing.assert_allclose(depths.stamps_ns / 1e9, [0, 2 / 15], atol=1e-6)
    np.testing.assert_allclose(depths.depth(1), [[0, 1.234, 0]], atol=1e-6)


def test_fox_has_half_size_and_opencv_axes(tmp_path, convert):
    source = tmp_path / "fox"
    for number in (1, 3):
        write_image(source / "images" / f"{number:04d}.jpg", (64, 96))
    matrix = (T_WORLD_CAM @ np.diag([1.0, -1, -1, 1])).tolist()
    frames = [{"file_path": f"images/{number:04d}.jpg", "transform_matrix": matrix} for number in (3, 2, 1)]
    camera = {"w": 64.0, "h": 96.0, "fl_x": 80, "fl_y": 82, "cx": 30, "cy": 50, "k1": 0.1, "k2": 0, "p1": 0, "p2": 0}
    (source / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    convert("fox", source, tmp_path / "out")
    check_poses(tmp_path / "out", [0.1, 0.3])
    sequence = open_sequence(str(tmp_path / "out"))
    assert sequence.camera is not None
    assert (sequence.camera.width, sequence.camera.height) == (32, 48)
    np.testing.assert_allclose(sequence.camera.K, [[40, 0, 15], [0, 41, 25], [0, 0, 1]])


def test_fountain_has_a_third_of_the_size(tmp_path, convert):
    source = tmp_path / "fountain-P11"
    K = np.array([[90.0, 0, 45], [0, 93, 30], [0, 0, 1]])
    for number in range(2):
        write_image(source / "images" / f"{number:04d}.jpg", (96, 60))
        (source / "gt_dense_cameras").mkdir(exist_ok=True)
        numbers = [*K.ravel(), 0, 0, 0, *T_WORLD_CAM[:3, :3].ravel(), *T_WORLD_CAM[:3, 3], 96, 60]
        (source / "gt_dense_cameras" / f"{number:04d}.jpg.camera").write_text(" ".join(map(str, numbers)))
    convert("fountain", source, tmp_path / "out")
    check_poses(tmp_path / "out", [0, 1])
    sequence = open_sequence(str(tmp_path / "out"))
    assert sequence.camera is not None
    np.testing.assert_allclose(sequence.camera.K, [[30, 0, 15], [0, 31, 10], [0, 0, 1]])
    assert next(iter(sequence)).image.shape == (20, 32, 3)


def test_nothing_is_overwritten(tmp_path, convert, capsys):
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit):
        convert("fox", tmp_path, tmp_path / "out")
    assert "exists already" in capsys.readouterr().err
