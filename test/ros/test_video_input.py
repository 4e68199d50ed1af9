# SPDX-License-Identifier: Apache-2.0
"""Videos as they arrive at a node. The messages of foxglove_msgs and ffmpeg_image_transport_msgs are not at hand as wheels: on
real topics CompressedImage carries the packets, and the others are objects with the same fields."""

import sys
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("av", reason="videos are decoded with the optional library PyAV")

from builtin_interfaces.msg import Time
from rclpy.node import Node
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header
from video_packets import Encoded, encode, index_of, ramp

from st3r_ros.config import MappingNodeConfig
from st3r_ros.errors import MissingDependencyError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.image_size import size_of_message
from st3r_ros.io.video_decoder import Packet, VideoDecoder, VideoFrame
from st3r_ros.ros import conversions
from st3r_ros.ros.input import video_input
from st3r_ros.ros.input.image_input import ImageCounts, ImageInput, ImageSource, image_from_message
from st3r_ros.ros.input.topics import message_type
from st3r_ros.ros.input.video_input import VideoImage, VideoInput
from st3r_ros.ros.qos import packets, stream

COUNT = 20
PACKETS = encode([ramp(i) for i in range(COUNT)])


def compressed(packet: Encoded) -> CompressedImage:
    return CompressedImage(header=Header(stamp=Time(sec=packet.index), frame_id="camera"), format="h264", data=packet.data)


def foxglove(packet: Encoded) -> SimpleNamespace:
    return SimpleNamespace(timestamp=Time(sec=packet.index), frame_id="camera", format="h264", data=packet.data)


def ffmpeg(packet: Encoded) -> SimpleNamespace:
    header = Header(stamp=Time(sec=packet.index), frame_id="camera")
    return SimpleNamespace(header=header, encoding="libx264;yuv420p;bgr8;bgr8", pts=packet.index, data=packet.data)


class Listener:
    """A video input in a node that spins."""

    def __init__(self, ros: Ros) -> None:
        ros.init()
        self.node = Node("listener")
        self.images: list[VideoImage] = []
        self.came = self.lost = 0
        self.input = VideoInput(self.node, "/image/ffmpeg", self.images.append, self._count)
        ros.spin(self.node)

    def _count(self, came: int, lost: int) -> None:
        self.came, self.lost = self.came + came, self.lost + lost


@pytest.mark.parametrize("message", [compressed, foxglove, ffmpeg])
def test_every_packet_is_decoded_and_the_newest_image_is_handed_on(ros: Ros, message) -> None:
    listener = Listener(ros)
    for packet in PACKETS:
        listener.input.put(message(packet))
    wait_until(lambda: listener.images and listener.images[-1].header.stamp.sec == COUNT - 1, "the last image")
    listener.input.close()
    assert listener.came == COUNT == listener.lost + len(listener.images)
    for image in listener.images:
        assert index_of(image_from_message(image)) == image.header.stamp.sec
        assert image.header.frame_id == "camera"


def test_packets_before_a_key_frame_are_counted_and_the_reason_is_known(ros: Ros) -> None:
    listener = Listener(ros)
    for packet in PACKETS[1:6]:
        listener.input.put(compressed(packet))
    wait_until(lambda: listener.lost == 5, "the packets to be given up")
    assert listener.came == 5 and not listener.images
    assert "before the first key frame" in listener.input.problem
    listener.input.put(compressed(PACKETS[6]))
    wait_until(lambda: listener.images, "the image of the key frame")
    assert index_of(listener.images[0].image()) == 6 and listener.input.problem == ""
    listener.input.close()


def test_a_decoder_that_cannot_follow_goes_on_at_a_key_frame(ros: Ros, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, may_go_on = [], threading.Event()

    class Held(VideoDecoder):
        def decode(self, packet: Packet) -> list[VideoFrame]:
            taken.append(packet)
            assert may_go_on.wait(30.0)
            return super().decode(packet)

    monkeypatch.setattr(video_input, "QUEUE", 4)
    monkeypatch.setattr(video_input, "VideoDecoder", Held)
    listener = Listener(ros)
    listener.input.put(compressed(PACKETS[1]))  # no image without a key frame
    wait_until(lambda: taken, "the first packet to be taken")
    for packet in PACKETS[:9]:
        listener.input.put(compressed(packet))
    may_go_on.set()
    wait_until(lambda: len(taken) == 2, "the packet that is left to be taken")
    for count, packet in enumerate(PACKETS[9:], start=3):
        listener.input.put(compressed(packet))
        wait_until(lambda count=count: len(taken) == count, "the packet to be taken")
    wait_until(lambda: listener.images and listener.images[-1].header.stamp.sec == COUNT - 1, "the last image")
    listener.input.close()
    shown = [image.header.stamp.sec for image in listener.images]
    assert [index_of(image.image()) for image in listener.images] == shown
    assert min(shown) >= 12


@pytest.mark.parametrize("transport", ["compressed", "foxglove"])
def test_a_video_topic_gives_images_with_their_calibration(ros: Ros, monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    monkeypatch.setattr("st3r_ros.ros.input.image_input.message_type", lambda transport: CompressedImage)
    depth = "qos_overrides./cam/image_raw/compressed.subscription.depth:=100"  # that of other transports is made for videos
    ros.init("-r", "image:=/cam/image_raw", *(("-p", depth) if transport == "compressed" else ()))
    node, driver = Node("listener"), Node("driver")
    inputs: list[ImageInput] = []
    counts = ImageCounts()
    config = MappingNodeConfig(base_frame="", input_wait=60.0, image_transport=transport, image_reliability="reliable")
    source = ImageSource(node, config, counts, lambda item: inputs.append(item) or 0, lambda frame, stamp_ns: False)
    assert (source.topic, source.info_topic) == (f"/cam/image_raw/{transport}", "/cam/camera_info")
    images = driver.create_publisher(CompressedImage, source.topic, packets("reliable"))
    infos = driver.create_publisher(CameraInfo, source.info_topic, stream(1))
    ros.spin(node)
    wait_until(lambda: images.get_subscription_count() and infos.get_subscription_count(), "the source to listen")
    camera = Camera.from_fov(64, 48, 60.0)
    infos.publish(conversions.camera_message(camera, 1, "camera", 64, 48))
    wait_until(lambda: source.calibration != "none yet", "the calibration")
    for packet in PACKETS[2:6]:
        images.publish(compressed(packet))
    wait_until(lambda: counts.dropped == 4, "the packets before the key frame")
    assert "its packets give none. It comes before the first key frame" in source.silence() or transport == "foxglove"
    for packet in PACKETS[6:]:
        images.publish(compressed(packet))
    wait_until(lambda: inputs and inputs[-1].message.header.stamp.sec == COUNT - 1, "the last image")
    source.close()
    assert [index_of(image_from_message(item.message)) for item in inputs] == [item.message.header.stamp.sec for item in inputs]
    assert inputs[0].camera == camera and size_of_message(inputs[0].message) == (64, 48)
    assert counts.received == COUNT - 2 == counts.dropped + len(inputs)


def test_what_is_not_installed_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setitem(sys.modules, "ffmpeg_image_transport_msgs.msg", None)
    with pytest.raises(MissingDependencyError, match="sudo apt install ros-jazzy-ffmpeg-image-transport-msgs"):
        message_type("ffmpeg")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"image_transport is foxglove, a video.*pip install av"):
        message_type("foxglove")
    assert message_type("compressed") is CompressedImage
