# SPDX-License-Identifier: Apache-2.0
"""The camera node as a process, heard by a real subscriber."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.node import Node
from ros_harness import Ros, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import camera_from_info, write_camera
from st3r_ros.ros import conversions
from st3r_ros.ros.demo.child import Child
from st3r_ros.ros.input.image_input import image_from_message
from st3r_ros.ros.nodes.camera_node import sent_images, summary
from st3r_ros.ros.qos import stream

COUNT = 6
STAMPS_NS = [1_700_000_000_000_000_001 + 40_000_000 * index for index in range(COUNT)]
CAMERA = Camera(64, 48, np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]), "plumb_bob", np.array([0.1, 0, 0, 0, 0]))


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """A folder in the TUM layout, with a calibration; every image has a grey of its own."""
    lines = []
    for index, stamp_ns in enumerate(STAMPS_NS):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64, 3), 10 * index, np.uint8))
        lines.append(f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d} {index}.png\n")
    (tmp_path / "rgb.txt").write_text("".join(lines))
    write_camera(tmp_path / "camera.yaml", CAMERA)
    return tmp_path


class Viewer(Node):
    """Keeps everything that a camera sends."""

    def __init__(self) -> None:
        super().__init__("viewer")
        self.images: list[Image] = []
        self.infos: list[CameraInfo] = []
        self.clock: list[Clock] = []
        self.create_subscription(CameraInfo, "camera_info", self.infos.append, stream(100))
        self.create_subscription(Clock, "/clock", self.clock.append, stream(100))
        self.create_subscription(Image, "image", self.images.append, stream(100))


@pytest.fixture
def viewer(ros: Ros) -> Iterator[Viewer]:
    ros.init()
    viewer = Viewer()
    ros.spin(viewer)
    return viewer


def ended(child: Child, patience_s: float = 20.0) -> str:
    """The output of a child that ends by itself."""
    try:
        wait_until(lambda: not child.running, f"the end of {child.name}", patience_s)
    finally:
        child.stop(0.0)
    return "\n".join(child.lines)


def test_it_plays_every_image_with_its_stamp_and_calibration(viewer: Viewer, sequence: Path) -> None:
    child = Child("camera_node", {"source": str(sequence), "rate": 4.0, "publish_clock": True, "frame_id": "eye"}, {})
    output = ended(child)
    assert child.exit_code == 0, output
    assert sent_images(child.lines) == COUNT
    wait_until(lambda: len(viewer.images) == COUNT and len(viewer.infos) == COUNT, "all images")
    for messages in (viewer.images, viewer.infos):
        assert [conversions.stamp_to_ns(message.header.stamp) for message in messages] == STAMPS_NS
        assert {message.header.frame_id for message in messages} == {"eye"}
    wait_until(lambda: len(viewer.clock) == COUNT, "the clock")
    assert [conversions.stamp_to_ns(message.clock) for message in viewer.clock] == STAMPS_NS
    for index, message in enumerate(viewer.images):
        np.testing.assert_array_equal(image_from_message(message), 10 * index)
    assert all(camera_from_info(info) == CAMERA for info in viewer.infos)


def test_it_compresses_for_whoever_wants_that_and_can_stamp_as_a_live_camera_does(ros: Ros, sequence: Path) -> None:
    ros.init()
    node, images = Node("listener"), list[CompressedImage]()
    node.create_subscription(CompressedImage, "image/compressed", images.append, stream(100))
    ros.spin(node)
    begin_ns = time.time_ns()
    child = Child("camera_node", {"source": str(sequence), "rate": 0.0, "stamp_now": True, "jpeg_quality": 100}, {})
    output = ended(child)
    assert child.exit_code == 0, output
    wait_until(lambda: len(images) == COUNT, "all images")
    stamps = [conversions.stamp_to_ns(message.header.stamp) for message in images]
    assert begin_ns < stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] < time.time_ns()
    for index, message in enumerate(images):
        np.testing.assert_allclose(image_from_message(message), 10 * index, atol=2)


def test_it_loops_until_ctrl_c_ends_it_cleanly(viewer: Viewer, sequence: Path) -> None:
    child = Child("camera_node", {"source": str(sequence), "loop": True, "max_frames": 2}, {})
    try:
        wait_until(lambda: len(viewer.images) > 4, "the second round")
        child.signal(signal.SIGINT)
        output = ended(child)
    finally:
        child.stop(0.0)
    assert child.exit_code == 0, output
    assert "Traceback" not in output
    stamps = [conversions.stamp_to_ns(message.header.stamp) for message in viewer.images]
    assert stamps[:4] == STAMPS_NS[:2] * 2


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "source is ''"),
        ({"source": "/nowhere/at all"}, "/nowhere/at all"),
        ({"source": "0", "rate": -1.0}, "rate"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(parameters: dict, words: str) -> None:
    child = Child("camera_node", parameters, {})
    output = ended(child)
    assert child.exit_code == 2
    assert words in output
    assert "Traceback" not in output


def test_the_number_of_sent_images_is_read_from_the_last_line() -> None:
    assert sent_images(["[INFO] [st3r_camera]: Ready", f"[INFO] [st3r_camera]: {summary(123, 4, 5.6)}"]) == 123
    assert sent_images(["Traceback"]) is None
