# SPDX-License-Identifier: Apache-2.0
"""Converts downloaded data sets to the TUM layout of the benchmarks (docs/datasets.md says where they come from).

python tools/datasets.py kitchen tsdf-fusion-python/data kitchen
python tools/datasets.py fox instant-ngp/data/nerf/fox fox
python tools/datasets.py fountain SfM_quality_evaluation/Benchmarking_Camera_Calibration_2008/fountain-P11 fountain
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import write_camera
from st3r_ros.io.stamps import format_stamp
from st3r_ros.io.trajectory import write_tum
from st3r_ros.types import Trajectory

MILLIMETRES_TO_TUM = 5
"""TUM depth images have 5000 units per metre."""
JPEG_QUALITY = 92
CAMERA_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])


@dataclass
class Sequence:
    """A sequence in TUM layout that is being written to `folder`."""

    folder: Path
    stamps: list[int] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    rotations: list[np.ndarray] = field(default_factory=list)
    depth_stamps: list[int] = field(default_factory=list)

    def add(self, seconds: float, R_world_cam: np.ndarray, t_world_cam: np.ndarray) -> str:
        """Registers an image and its pose, (3, 3) and (3,); returns the name of its file without the extension."""
        self.stamps.append(round(seconds * 1e6) * 1000)
        self.positions.append(t_world_cam)
        self.rotations.append(Rotation.from_matrix(R_world_cam).as_quat())
        (self.folder / "rgb").mkdir(parents=True, exist_ok=True)
        return f"{seconds:.6f}"

    def add_depth(self, name: str, millimetres: np.ndarray) -> None:
        """Writes a depth image, (H, W) uint16 millimetres (0 and 65535: none), for the image added last."""
        (self.folder / "depth").mkdir(exist_ok=True)
        millimetres = millimetres.astype(np.uint32)
        known = np.where(millimetres * MILLIMETRES_TO_TUM < np.iinfo(np.uint16).max, millimetres, 0)
        cv2.imwrite(str(self.folder / "depth" / f"{name}.png"), (known * MILLIMETRES_TO_TUM).astype(np.uint16))
        self.depth_stamps.append(self.stamps[-1])

    def close(self, K: np.ndarray, size: tuple[int, int], distortion: np.ndarray) -> None:
        """Writes the lists, the poses and the calibration; `size` is (width, height)."""
        write_tum(
            self.folder / "groundtruth.txt", Trajectory(np.array(self.stamps), np.array(self.positions), np.array(self.rotations))
        )
        self._write_list("rgb", ".jpg", self.stamps)
        if self.depth_stamps:
            self._write_list("depth", ".png", self.depth_stamps)
        write_camera(self.folder / "camera.yaml", Camera(*size, K, "plumb_bob", distortion), self.folder.name)

    def _write_list(self, name: str, ending: str, stamps: list[int]) -> None:
        lines = [f"{format_stamp(stamp)} {name}/{stamp / 1e9:.6f}{ending}\n" for stamp in stamps]
        (self.folder / f"{name}.txt").write_text("# timestamp filename\n" + "".join(lines))


def kitchen(source: Path, out: Path) -> None:
    """Every second of the 1000 RedKitchen frames in tsdf-fusion-python's `data/`, at 15 Hz; depth for every fourth frame."""
    sequence = Sequence(out)
    for index, image_file in enumerate(sorted(source.glob("frame-*.color.jpg"))[::2]):
        frame = str(image_file).removesuffix(".color.jpg")
        T_world_cam = np.loadtxt(f"{frame}.pose.txt")
        name = sequence.add(index / 15, T_world_cam[:3, :3], T_world_cam[:3, 3])
        shutil.copy(image_file, out / "rgb" / f"{name}.jpg")
        if index % 2 == 0:
            sequence.add_depth(name, cv2.imread(f"{frame}.depth.png", cv2.IMREAD_UNCHANGED))
    # The colour camera of the Kinect, as published with 7-Scenes; depth images and poses are those of its depth camera.
    sequence.close(np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]]), (640, 480), np.zeros(5))
    K_depth = np.loadtxt(source / "camera-intrinsics.txt")
    write_camera(out / "depth_camera.yaml", Camera(640, 480, K_depth, "plumb_bob", np.zeros(5)), "depth_camera")


def fox(source: Path, out: Path) -> None:
    """The images of instant-ngp's fox at half size, ten a second by their numbers; poses and calibration of transforms.json."""
    content = json.loads((source / "transforms.json").read_text())
    sequence = Sequence(out)
    size = (int(content["w"]) // 2, int(content["h"]) // 2)
    for frame in sorted(content["frames"], key=lambda item: item["file_path"]):
        image_file = source / frame["file_path"]
        if not image_file.exists():  # transforms.json names images that the repository does not have
            continue
        T_world_cam = np.array(frame["transform_matrix"])
        R_world_cam = Rotation.from_matrix(T_world_cam[:3, :3] @ CAMERA_FROM_OPENGL).as_matrix()
        name = sequence.add(int(image_file.stem) / 10, R_world_cam, T_world_cam[:3, 3])
        half = cv2.resize(cv2.imread(str(image_file)), size, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(out / "rgb" / f"{name}.jpg"), half, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    K = np.array([[content["fl_x"], 0, content["cx"]], [0, content["fl_y"], content["cy"]], [0, 0, 2]]) / 2
    sequence.close(K, size, np.array([content["k1"], content["k2"], content["p1"], content["p2"], 0.0]))


def fountain(source: Path, out: Path) -> None:
    """Strecha's fountain-P11 at a third of its size, one image a second; poses and calibration of the .camera files."""
    sequence = Sequence(out)
    for number, image_file in enumerate(sorted((source / "images").glob("*.jpg"))):
        numbers = np.array((source / "gt_dense_cameras" / f"{image_file.name}.camera").read_text().split(), dtype=float)
        K, R_world_cam, t_world_cam = numbers[:9].reshape(3, 3), numbers[12:21].reshape(3, 3), numbers[21:24]
        name = sequence.add(number, R_world_cam, t_world_cam)
        image = cv2.imread(str(image_file))
        size = (image.shape[1] // 3, round(image.shape[0] / 3))
        third = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(out / "rgb" / f"{name}.jpg"), third, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    sequence.close(np.diag([1 / 3, 1 / 3, 1]) @ K, size, np.zeros(5))


DATA_SETS = {"kitchen": kitchen, "fox": fox, "fountain": fountain}


def main(arguments: list[str] | None = None) -> None:
    """Converts one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=DATA_SETS)
    parser.add_argument("source", type=Path, help="the downloaded folder")
    parser.add_argument("out", type=Path, help="the folder to write")
    options = parser.parse_args(arguments)
    if not options.source.is_dir():
        parser.error(f"There is no folder {options.source}.")
    if options.out.exists():
        parser.error(f"{options.out} exists already.")
    DATA_SETS[options.name](options.source, options.out)
    print(f"Wrote {options.out}.")


if __name__ == "__main__":
    main()
