# SPDX-License-Identifier: Apache-2.0
"""Full-resolution exports of a small map of a distorted camera, made from files."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from st3r_ros.commands.originals import Originals
from st3r_ros.config import CloudConfig
from st3r_ros.errors import InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.geometry.undistortion import Undistorter
from st3r_ros.io.image_file import read_image
from st3r_ros.maps.export import export_colmap, export_nerfstudio
from st3r_ros.sequences import open_sequence
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.tracking.stream import LensCorrection
from st3r_ros.types import FramePose, Keyframe

LENS = Camera(320, 240, np.array([[260.0, 0, 161], [0, 262, 118], [0, 0, 1]]), distortion=np.array([-0.2, 0.05, 0.0, 0.0]))


def pictures(folder, suffix: str = ".png"):
    folder.mkdir()
    for number in range(3):
        image = cv2.resize(np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8), (320, 240))
        cv2.imwrite(str(folder / f"view_{number}{suffix}"), image)
    return folder


def map_of(folder, camera: Camera | None) -> KeyframeMap:
    """A keyframe of half the size for each image of a folder, as a mapper makes them."""
    result, lens = KeyframeMap(), LensCorrection()
    for frame in map(lens.undistorted, open_sequence(str(folder), camera=camera)):
        image = cv2.resize(frame.image, (160, 120), interpolation=cv2.INTER_AREA)
        K = LENS.without_distortion().scaled(160, 120).K
        X, conf = np.ones((120, 160, 3), np.float32), np.ones((120, 160), np.float32)
        result.add_keyframe(
            Keyframe(
                frame.id,
                frame.id,
                frame.stamp_ns,
                Sim3.identity(),
                torch.from_numpy(X),
                torch.from_numpy(conf),
                image,
                K,
                source=frame.source,
                lens=frame.lens,
            )
        )
        result.frames.append(FramePose(frame.id, frame.stamp_ns, frame.id, Sim3.identity()))
    return result


def test_originals_are_exported_at_full_size_and_without_distortion(tmp_path):
    folder = pictures(tmp_path / "views")
    export_nerfstudio(tmp_path / "out", map_of(folder, LENS), CloudConfig(voxel_size=0.5), Originals())
    content = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert (content["w"], content["h"]) == (320, 240)
    np.testing.assert_allclose([content["fl_x"], content["cx"]], [260.0, 161.5], rtol=1e-9)
    for number, frame in enumerate(content["frames"]):
        assert frame["file_path"] == f"images/view_{number}.jpg"
        assert frame["original"] == str(folder.resolve() / f"view_{number}.png")
        expected = Undistorter(LENS).rectify(read_image(folder / f"view_{number}.png"))
        assert np.abs(read_image(tmp_path / "out" / frame["file_path"]).astype(int) - expected).mean() < 3


def test_without_distortion_the_files_are_copied_also_from_where_they_have_moved(tmp_path):
    folder = pictures(tmp_path / "views")
    made = map_of(folder, LENS.without_distortion())
    (tmp_path / "archive").mkdir()
    moved = shutil.move(folder, tmp_path / "archive" / "garden")
    with pytest.raises(InputError, match=r"3 of 3 original images are not found; the first is '.*view_0.png'.*--originals"):
        export_colmap(tmp_path / "out", made, CloudConfig(voxel_size=0.5), originals=Originals())
    assert not (tmp_path / "out").exists()
    export_colmap(tmp_path / "out", made, CloudConfig(voxel_size=0.5), originals=Originals(str(tmp_path / "archive")), text=True)
    for number in range(3):
        name = f"view_{number}.png"
        assert (tmp_path / "out" / "images" / name).read_bytes() == (moved / name).read_bytes()
    assert "PINHOLE 320 240 " in (tmp_path / "out" / "sparse" / "0" / "cameras.txt").read_text()
    assert "view_1.png" in (tmp_path / "out" / "sparse" / "0" / "images.txt").read_text()


def test_images_of_another_input_are_found_by_their_stamps(tmp_path):
    folder = pictures(tmp_path / "views")
    made = map_of(folder, LENS)
    for keyframe in made.keyframes.values():
        keyframe.source, keyframe.lens = "/camera/image_raw", LENS
    found = dict(Originals(str(folder))(list(made.keyframes.values())))
    assert {original.size for original in found.values()} == {(320, 240)} and len(found) == 3
    next(iter(made.keyframes.values())).stamp_ns += 1
    with pytest.raises(InputError, match=r"has no image of the stamp.*1 of 3 are missing"):
        list(Originals(str(folder))(list(made.keyframes.values())))
