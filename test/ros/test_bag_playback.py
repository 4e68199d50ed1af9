# SPDX-License-Identifier: Apache-2.0
"""A bag played by the camera node over real topics: into a subscriber, and into the mapping node, once and in a loop."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from nav_msgs.msg import Path as PathMessage
from rclpy.node import Node
from rendered import Rendered
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, Image

from st3r_ros.config import SimulationConfig
from st3r_ros.msg import MappingStatus
from st3r_ros.ros import conversions
from st3r_ros.ros.demo.child import Child
from st3r_ros.ros.input.image_input import image_from_message
from st3r_ros.ros.nodes.camera_node import sent_images
from st3r_ros.ros.qos import latched, stream
from st3r_ros.sim.sequence import SimulatedSequence

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from bag_files import camera_info, compressed, image, write_bag

COUNT = 24
START_NS = 1_700_000_000 * 10**9
SEQUENCE = SimulatedSequence(SimulationConfig(frames=30, fps=8.0, width=320, height=240), range(COUNT))
FRAMES = Rendered(SEQUENCE)
STAMPS = [START_NS + stamp_ns for stamp_ns in SEQUENCE.stamps_ns.tolist()]


def make_bag(folder: Path, *, jpeg: bool = False, storage: str = "mcap") -> Path:
    """What a robot records: images and their calibration, recorded 5 ms after their stamps; and another camera."""
    camera = FRAMES[0].camera
    assert camera is not None
    messages = []
    for stamp_ns, frame in zip(STAMPS, FRAMES, strict=True):
        recorded_ns = stamp_ns + 5_000_000
        if jpeg:
            data = cv2.imencode(".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))[1].tobytes()
            picture = ("/cam/image_raw/compressed", recorded_ns, compressed(stamp_ns, data, "rgb8; jpeg compressed bgr8"))
        else:
            picture = ("/cam/image_raw", recorded_ns, image(stamp_ns, frame.image))
        info = camera_info(stamp_ns, camera.width, camera.height, float(camera.K[0, 0]))
        messages += [("/cam/camera_info", recorded_ns, info), picture, ("/rear/image", recorded_ns, image(stamp_ns, frame.image))]
    return write_bag(folder / "bag", messages, storage)


class Viewer(Node):
    """Keeps what the camera node and the mapping node say."""

    def __init__(self) -> None:
        super().__init__("viewer")
        self.images: list[Image] = []
        self.infos: list[CameraInfo] = []
        self.statuses: list[MappingStatus] = []
        self.path = PathMessage()
        self.create_subscription(CameraInfo, "camera_info", self.infos.append, stream(100))
        self.create_subscription(Image, "image", self.images.append, stream(100))
        self.create_subscription(MappingStatus, "st3r_mapping/status", self.statuses.append, latched())
        self.create_subscription(PathMessage, "st3r_mapping/path", self._on_path, latched())

    @property
    def status(self) -> MappingStatus:
        return self.statuses[-1] if self.statuses else MappingStatus()

    def _on_path(self, path: PathMessage) -> None:
        self.path = path


@pytest.fixture
def viewer(ros: Ros) -> Iterator[Viewer]:
    ros.init()
    viewer = Viewer()
    ros.spin(viewer)
    return viewer


def play(bag: Path, **parameters: str | float | bool) -> Child:
    """The camera node, at four times the speed unless told otherwise."""
    return Child("camera_node", {"source": f"{bag}?topic=/cam/image_raw", "rate": 4.0, **parameters}, {})


@pytest.mark.parametrize(("jpeg", "storage"), [(True, "mcap"), (False, "sqlite3")])
def test_a_bag_is_played_with_the_stamps_and_the_calibration_in_it(
    viewer: Viewer, tmp_path: Path, jpeg: bool, storage: str
) -> None:
    bag = make_bag(tmp_path, jpeg=jpeg, storage=storage)
    topic = "/cam/image_raw/compressed" if jpeg else "/cam/image_raw"
    child = play(bag, source=f"{bag}?topic={topic}")
    try:
        wait_until(lambda: not child.running, "the end of the bag")
    finally:
        child.stop(0.0)
    assert child.exit_code == 0, child.lines
    assert sent_images(child.lines) == COUNT
    wait_until(lambda: len(viewer.images) == COUNT and len(viewer.infos) == COUNT, "all images")
    assert [conversions.stamp_to_ns(message.header.stamp) for message in viewer.images] == STAMPS
    camera = FRAMES[0].camera
    assert camera is not None
    assert viewer.infos[0].k[0] == pytest.approx(float(camera.K[0, 0]))
    for frame, message in zip(FRAMES, viewer.images, strict=True):
        pixels = image_from_message(message)
        if jpeg:
            assert np.abs(pixels.astype(int) - frame.image).mean() < 6
        else:
            np.testing.assert_array_equal(pixels, frame.image)


def test_a_bag_with_several_cameras_asks_which(tmp_path: Path) -> None:
    bag = make_bag(tmp_path)
    child = play(bag, source=str(bag))
    try:
        wait_until(lambda: not child.running, "the refusal")
    finally:
        child.stop(0.0)
    assert child.exit_code == 2
    assert f"holds several image topics: /cam/image_raw, /rear/image; choose one with '{bag}?topic=" in "\n".join(child.lines)


def test_the_mapping_node_maps_a_looping_bag(viewer: Viewer, tmp_path: Path) -> None:
    mapping = Child("mapping_node", {"base_frame": "", "status_period": 0.05}, {})
    try:
        wait_until(lambda: viewer.statuses, "the mapping node")
        camera = play(make_bag(tmp_path), rate=1.0, loop=True)
        try:
            wait_until(lambda: viewer.status.frames_tracked > 2, "the first round")
            back = "Time went back by"
            wait_until(lambda: any(back in line for line in mapping.lines), "the beginning of the second round", 40.0)
            before = viewer.status.frames_tracked
            wait_until(lambda: viewer.status.frames_tracked > before + 2, "tracking in the next round", 40.0)
        finally:
            camera.signal(signal.SIGINT)
            camera.stop(10.0)
        assert camera.exit_code == 0, camera.lines
        stamps = {conversions.stamp_to_ns(pose.header.stamp) for pose in viewer.path.poses}
        assert stamps <= set(STAMPS), "a stamp that is not in the bag"
    finally:
        mapping.stop(20.0)
    assert "Traceback" not in "\n".join(mapping.lines)
