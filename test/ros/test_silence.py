# SPDX-License-Identifier: Apache-2.0
"""What is said of an image topic without a publisher, by what the graph of a robot has."""

from types import SimpleNamespace

import pytest

from st3r_ros.ros.input.topics import explain_silence

RAW, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
FFMPEG, FOXGLOVE = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "foxglove_msgs/msg/CompressedVideo"
THEORA = "theora_image_transport/msg/Packet"
IMAGE = "/camera/image_raw"


class Graph:
    """A node in a graph with these publishers, {topic: type}, and its own on /st3r/matches."""

    def __init__(self, published: dict[str, str], subscribed: dict[str, str] | None = None) -> None:
        self._published = {**published, "/st3r/matches": RAW}
        self._topics = {**self._published, **(subscribed or {}), "/camera/camera_info": "sensor_msgs/msg/CameraInfo"}

    def get_name(self) -> str:
        return "st3r"

    def get_namespace(self) -> str:
        return "/"

    def get_topic_names_and_types(self) -> list[tuple[str, list[str]]]:
        return [(topic, [kind]) for topic, kind in self._topics.items()]

    def get_publishers_info_by_topic(self, topic: str) -> list[SimpleNamespace]:
        if topic not in self._published:
            return []
        name = "st3r" if topic == "/st3r/matches" else "driver"
        return [SimpleNamespace(topic_type=self._published[topic], node_name=name, node_namespace="/")]


def said(published: dict[str, str], transport: str = "raw", image: str = IMAGE, **more: dict[str, str]) -> str:
    return explain_silence(Graph(published, **more), image, transport, "best_effort")


@pytest.mark.parametrize(
    ("topic", "kind", "way"),
    [
        (f"{IMAGE}/ffmpeg", FFMPEG, "(set image_transport:=ffmpeg)"),
        (f"{IMAGE}/foxglove", FOXGLOVE, "(set image_transport:=foxglove)"),
        (f"{IMAGE}/compressed", JPEG, "(set image_transport:=compressed)"),
        (f"{IMAGE}/theora", THEORA, f"({THEORA}: republish them as raw images with image_transport)"),
        (f"{IMAGE}/zstd", JPEG, f"({JPEG}: republish them as raw images with image_transport)"),
        ("/front/rgb/ffmpeg", FFMPEG, "(set image_topic:=/front/rgb image_transport:=ffmpeg)"),
        ("/camera/video", FOXGLOVE, "(set image_transport:=foxglove -r /camera/image_raw/foxglove:=/camera/video)"),
    ],
)
def test_a_topic_of_another_transport_is_named_with_what_reads_it(topic: str, kind: str, way: str) -> None:
    assert said({topic: kind}) == f"it has no publisher; images are on {topic} {way}."


def test_a_raw_topic_is_named_alone_or_with_the_transport() -> None:
    assert said({"/elsewhere": RAW}) == "it has no publisher; images are on /elsewhere."
    assert said({IMAGE: RAW}, "compressed") == f"it has no publisher; images are on {IMAGE} (set image_transport:=raw)."


def test_topics_beside_the_missing_one_come_alone() -> None:
    published = {"/rear/image_raw": RAW, f"{IMAGE}/ffmpeg": FFMPEG, f"{IMAGE}/compressed": JPEG, f"{IMAGE}/compressedDepth": JPEG}
    assert said(published) == (
        f"it has no publisher; images are on {IMAGE}/compressed (set image_transport:=compressed), "
        f"{IMAGE}/ffmpeg (set image_transport:=ffmpeg)."
    )


def test_topics_without_a_publisher_and_the_nodes_own_have_no_images() -> None:
    assert said({}, subscribed={"/wanted": RAW}) == "it has no publisher; no other topic has images either."
    assert said({"/depth/compressedDepth": JPEG, "/lidar": "velodyne_msgs/msg/VelodynePacket"}).endswith("images either.")


def test_many_topics_are_counted() -> None:
    assert said({f"/camera{n}": RAW for n in range(9)}).endswith("/camera4, /camera5 and 3 more topics.")


def test_the_transport_that_a_topic_carries_is_named() -> None:
    name = f"{IMAGE}/compressed"
    assert said({name: JPEG}, image=name) == (
        f"it carries {JPEG}, not {RAW}; set image_topic:={IMAGE} image_transport:=compressed."
    )
    assert (
        said({IMAGE: "std_msgs/msg/String"}) == f"it carries std_msgs/msg/String, not {RAW}; check image_transport and the topic."
    )
