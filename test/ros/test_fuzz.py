# SPDX-License-Identifier: Apache-2.0
"""Broken images and calibrations: the node lives, says what is wrong with each, and goes on with the next good image."""

import array
import gc
import itertools
from collections.abc import Iterator
from functools import partial

import cv2
import numpy as np
import pytest
from fuzzed import Fuzzer, Message, bomb, png_claiming
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rendered import Rendered
from ros_harness import Ros, give, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import EncodingError
from st3r_ros.io.image_encoding import decode_compressed
from st3r_ros.results import peak_rss_mb
from st3r_ros.ros import conversions
from st3r_ros.ros.input.image_input import ImageInput
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.outputs.status import rss_mb
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.keyframes.memory import give_back_freed, map_bytes
from st3r_ros.types import Frame, MappingState

FRAMES = Rendered(SimulatedSequence(SimulationConfig(seed=2, frames=16, fps=8.0, width=320, height=240)))
STEP_NS = 100_000_000
FIRST_NS = 1_700_000_000_000_000_000
GOOD = (MappingState.TRACKING, MappingState.RELOCALIZED)
PATIENCE = 8
"""Good images within which the camera must be found again."""
EVERY = 25
"""Broken images after which it is looked whether the camera is found."""


class Stream:
    """Good images of a camera that goes to and fro, with stamps that increase."""

    def __init__(self) -> None:
        there = list(range(len(FRAMES)))
        self._indices = itertools.cycle(there + there[-2:0:-1])
        self.stamp_ns = FIRST_NS
        self.info = conversions.camera_message(FRAMES[0].camera, 0, "camera", 320, 240)

    def next(self) -> Frame:
        """The next image."""
        self.stamp_ns += STEP_NS
        frame = FRAMES[next(self._indices)]
        return Frame(0, self.stamp_ns, frame.image, frame.camera)


class Fed:
    """An active mapping node whose callbacks get every message from here, one after the other."""

    def __init__(self, ros: Ros, *arguments: str) -> None:
        ros.init("-p", "base_frame:=''", "-p", "input_wait:=0.0", *arguments)
        self.node = MappingNode(Stop())
        self.node.start()
        self._inputs: list[ImageInput] = []
        self.node.worker.submit = lambda item, surely=False: self._inputs.append(item) or 0
        self._session = self.node.session
        self.stream = Stream()
        self.refused = 0

    def feed(self, message: Message) -> None:
        """Give a message to its callback, and the image to the worker, whose errors are raised here."""
        if isinstance(message, CameraInfo):
            give(self.node, "/camera_info", message)
            return
        before = self._counts
        give(self.node, "/image", message)
        assert len(self._inputs) == 1
        self.node.worker.run(partial(self._session.process, self._inputs.pop())).result()
        processed, skipped = (now - then for now, then in zip(self._counts, before, strict=True))
        assert processed + skipped == 1
        if skipped:
            self.refused += 1
            message = self._session.message(self._session.mapper.state)
            assert message.startswith("Skipped an image: ")
            assert 30 < len(message) < 700

    def feed_good(self) -> MappingState:
        """A good image; the state after it."""
        frame = self.stream.next()
        self.feed(self.stream.info)
        before = self._counts[0]
        self.feed(conversions.image_message(frame, "camera"))
        assert self._counts[0] == before + 1
        return self._session.mapper.state

    @property
    def _counts(self) -> tuple[int, int]:
        return self._session.run.recorder.frames, self._session.run.recorder.skipped


@pytest.fixture
def fed(ros: Ros) -> Iterator[Fed]:
    """A node that has a map."""
    fed = Fed(ros)
    for _ in range(2 * len(FRAMES)):
        fed.feed_good()
    assert fed.node.session.mapper.state in GOOD
    yield fed
    fed.node.close()


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.full)])
def test_no_message_does_harm(fed: Fed, count: int) -> None:
    fuzzer = Fuzzer(FRAMES, seed=count)
    memory = []
    for number in range(count):
        stamp_ns = fed.stream.stamp_ns + 1 + number % EVERY
        if number % 3 == 0:
            fed.feed(fuzzer.image(stamp_ns))
        elif number % 3 == 1:
            fed.feed(fuzzer.compressed(stamp_ns))
        else:
            fed.feed(fuzzer.info())
            fed.feed(conversions.image_message(Frame(0, stamp_ns, FRAMES[0].image), "camera"))
            fed.feed(fed.stream.info)
        if number % EVERY == EVERY - 1:
            assert any(fed.feed_good() in GOOD for _ in range(PATIENCE)), f"lost after message {number}"
            gc.collect()
            give_back_freed()
            memory.append(rss_mb() - map_bytes(fed.node.session.mapper.map) / 1e6)  # the map may grow
    assert count / 3 < fed.refused < count
    trajectory = fed.node.session.mapper.map.trajectory()
    assert np.isfinite(trajectory.positions).all() and np.isfinite(trajectory.quaternions_xyzw).all()
    tenth = max(len(memory) // 10, 1)
    print(
        "MB beside the map, medians of the tenths:",
        [round(np.median(memory[i : i + tenth])) for i in range(0, len(memory), tenth)],
    )
    assert np.median(memory[-tenth:]) < np.median(memory[tenth : 2 * tenth]) + 150.0  # work of the moment may take more


def test_a_picture_that_claims_too_much_is_refused_before_it_is_decoded() -> None:
    before = peak_rss_mb()
    for data in (bomb(), png_claiming(20000, 20000), png_claiming(2**31 - 1, 2**31 - 1)):
        assert len(data) < 10_000
        with pytest.raises(EncodingError, match=r"pixels|decoded"):
            decode_compressed(data, "png")
    assert peak_rss_mb() < before + 100.0


class Sender(Node):
    """A driver that may send anything."""

    def __init__(self) -> None:
        super().__init__("sender")
        qos = QoSProfile(depth=5)
        self.publishers_of = {
            Image: self.create_publisher(Image, "image", qos),
            CompressedImage: self.create_publisher(CompressedImage, "image/compressed", qos),
            CameraInfo: self.create_publisher(CameraInfo, "camera_info", qos),
        }

    def send(self, message: Message) -> None:
        self.publishers_of[type(message)].publish(message)


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_broken_messages_on_real_topics(ros: Ros, transport: str) -> None:
    ros.init("-p", "base_frame:=''", "-p", "input_wait:=0.0", "-p", f"image_transport:={transport}")
    node, sender, stream, fuzzer = MappingNode(Stop()), Sender(), Stream(), Fuzzer(FRAMES, seed=7)
    node.start()
    ros.spin(node)
    kind = Image if transport == "raw" else CompressedImage
    wanted = (sender.publishers_of[kind], sender.publishers_of[CameraInfo])
    wait_until(lambda: all(publisher.get_subscription_count() for publisher in wanted), "the node to listen")

    def handled() -> int:
        recorder = node.session.run.recorder
        return recorder.frames + recorder.skipped + node.counts.dropped

    def show(info: CameraInfo, image: Message) -> None:
        """Send both, until the image was handled: the first ones may find no listener."""
        before, received = handled(), node.counts.received
        sender.send(info)
        sender.send(image)
        wait_until(lambda: node.counts.received > received and handled() > before, "the image to be handled")

    def find_camera() -> None:
        for _ in range(2 * len(FRAMES)):
            frame = stream.next()
            show(stream.info, conversions.image_message(frame, "camera") if transport == "raw" else jpeg(frame))
            if node.session.mapper.state in GOOD:
                return
        pytest.fail("The camera was not found again.")

    find_camera()
    for number in range(100):
        stamp_ns = stream.stamp_ns + 1 + number % EVERY
        image = fuzzer.image(stamp_ns) if transport == "raw" else fuzzer.compressed(stamp_ns)
        show(fuzzer.info() if number % 3 == 0 else stream.info, image)
        if number % EVERY == EVERY - 1:
            find_camera()
    assert node.session.run.recorder.skipped > 20
    assert node.counts.received == handled()


def jpeg(frame: Frame) -> CompressedImage:
    data = cv2.imencode(".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))[1].tobytes()
    return CompressedImage(header=conversions.header(frame.stamp_ns, "camera"), format="jpeg", data=array.array("B", data))
