# SPDX-License-Identifier: Apache-2.0
"""The profiles in config/: Fast DDS reads them without complaint, and images pass."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.node import Node
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CompressedImage

from st3r_ros.ros.demo.child import Child
from st3r_ros.ros.nodes.process import make_room_for_images
from st3r_ros.ros.qos import images

CONFIG = Path(__file__).parents[2] / "config"
NOISE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("file", "mode"),
    [
        ("fastdds_images.xml", "SYNCHRONOUS"),
        ("fastdds_lossy.xml", "SYNCHRONOUS"),
        ("fastdds_lossy_paced.xml", "ASYNCHRONOUS"),
    ],
)
def test_a_profile_is_read_and_large_images_pass(ros: Ros, tmp_path: Path, file: str, mode: str) -> None:
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index:02d}.png"), NOISE)
    ros.init()
    node, heard = Node("listener"), list[CompressedImage]()
    node.create_subscription(CompressedImage, "image/compressed", heard.append, images("reliable"))
    ros.spin(node)
    profile = dict.fromkeys(("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"), str(CONFIG / file))
    parameters = {"source": str(tmp_path), "loop": True, "rate": 0.2, "jpeg_quality": 100}
    child = Child("camera_node", parameters, {**profile, "RMW_FASTRTPS_PUBLICATION_MODE": mode})
    try:
        wait_until(lambda: len(heard) >= 5, "images")
    finally:
        child.stop(10.0)
    assert len(heard[0].data) > 65_535, "the image does not need fragments"
    assert child.exit_code == 0, child.lines
    assert not [line for line in child.lines if "XML" in line or "Error" in line]


def test_each_name_that_the_user_has_not_set_gets_the_profile_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """One version of Fast DDS reads one of the names only."""
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
    for given in ((), names[:1], names[1:], names):
        for name in names:
            monkeypatch.setenv(name, "/mine.xml" if name in given else "")
        make_room_for_images()
        for name in names:
            assert Path(os.environ[name]).name == ("mine.xml" if name in given else "fastdds_images.xml")


def test_transports_that_the_user_has_chosen_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    make_room_for_images()
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" not in os.environ
