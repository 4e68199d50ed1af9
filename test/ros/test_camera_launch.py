# SPDX-License-Identifier: Apache-2.0
"""launch/st3r_camera.launch.py, run by the real launch where that is installed: topics, and the settings for a bad link."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.node import Node
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage
from test_launch import NO_LAUNCH, Launched

from st3r_ros.ros.qos import images

pytest.importorskip("launch_ros", reason=NO_LAUNCH)


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Launched]:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64, 3), 80, np.uint8))
    launched = Launched(
        "camera", f"source:={tmp_path}", "loop:=true", "namespace:=bot", "image_topic:=cam/raw", "lossy_link:=true"
    )
    yield launched
    launched.close()


def test_images_come_compressed_and_reliable_over_the_paced_profile(ros: Ros, launched: Launched) -> None:
    ros.init()
    node, heard, infos = Node("base"), list[CompressedImage](), list[CameraInfo]()
    node.create_subscription(CompressedImage, "bot/cam/raw/compressed", heard.append, images("reliable"))
    node.create_subscription(CameraInfo, "bot/cam/camera_info", infos.append, images("best_effort"))
    ros.spin(node)
    wait_until(lambda: len(heard) > 3 and infos, "images and their calibration", 60.0)
    launched.ctrl_c()
    assert launched.wait() == 0, launched.output
    assert "Sent " in launched.output
