# SPDX-License-Identifier: Apache-2.0
"""Topics of images: message types and names by `image_transport`, and why no images arrive on one."""

from __future__ import annotations

import importlib
import os
import re

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from st3r_ros.errors import MissingDependencyError
from st3r_ros.io.video_decoder import check_decoder

TYPES = {
    "raw": "sensor_msgs/msg/Image",
    "compressed": "sensor_msgs/msg/CompressedImage",
    "foxglove": "foxglove_msgs/msg/CompressedVideo",
    "ffmpeg": "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
}
VIDEOS = ("foxglove", "ffmpeg")
LISTED = 6
"""Maximum number of other topics that are named."""
_TRANSPORTS = {kind: transport for transport, kind in TYPES.items()}
_PICTURES = re.compile("image|video|h26[45]", re.IGNORECASE)
_NO_PICTURES = re.compile("/compressedDepth |DisparityImage$")
"""In the name and the type of a topic."""
_UNREADABLE = re.compile("/zstd$")


def topic_of(image_topic: str, transport: str) -> str:
    """The topic of a transport beside that of the raw images, as image_transport names it."""
    return image_topic if transport == "raw" else f"{image_topic}/{transport}"


def info_topic_of(node: Node, image_topic: str) -> str:
    """`camera_info` if remapped, otherwise the topic next to the image topic."""
    resolved = node.resolve_topic_name("camera_info")
    if resolved != node.resolve_topic_name("camera_info", only_expand=True):
        return resolved
    return f"{image_topic.rsplit('/', 1)[0]}/camera_info"


def message_type(transport: str) -> type:
    """The class of the messages of a transport.

    Raises:
        MissingDependencyError: the package of the messages, or PyAV for a video, is not installed.
    """
    if transport in VIDEOS:
        check_decoder(f"image_transport is {transport}, a video. Decoding it")
    package, _, name = TYPES[transport].split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except ImportError as error:
        distribution = os.environ.get("ROS_DISTRO", "<distro>")
        raise MissingDependencyError(
            f"image_transport is {transport}, and the messages of {package} are not installed; get them with: "
            f"sudo apt install ros-{distribution}-{package.replace('_', '-')}"
        ) from error


def explain_silence(node: Node, image_topic: str, transport: str, reliability: str) -> str:
    """What is wrong with the topic of the images: the second half of a sentence.

    image_topic: of raw images. transport, reliability: the settings `image_transport` and `image_reliability`.
    """
    topic, wanted = topic_of(image_topic, transport), TYPES[transport]
    publishers = node.get_publishers_info_by_topic(topic)
    others = sorted({publisher.topic_type for publisher in publishers} - {wanted})
    if others:
        pictures = [kind for kind in others if _PICTURES.search(kind)]
        ways = [way for kind in pictures if (way := _way(topic, kind, image_topic, transport))]
        advice = " or ".join(ways) if ways else "check image_transport and the topic"
        return f"it carries {', '.join(others)}, not {wanted}; {advice}."
    if not publishers:
        return f"it has no publisher; {_elsewhere(node, image_topic, transport)}."
    if reliability == "reliable" and all(each.qos_profile.reliability != ReliabilityPolicy.RELIABLE for each in publishers):
        return "its publisher is best effort, but image_reliability is reliable; make them the same."
    return "its publisher does not publish."


def _elsewhere(node: Node, image_topic: str, transport: str) -> str:
    """The topics that have images: those beside the missing one, otherwise all."""
    found = {
        name: kind
        for name, kinds in sorted(node.get_topic_names_and_types())
        for kind in kinds
        if _PICTURES.search(kind) and not _NO_PICTURES.search(f"{name} {kind}") and _published(node, name)
    }
    near = {name: kind for name, kind in found.items() if name == image_topic or name.startswith(f"{image_topic}/")}
    ways = {name: _way(name, kind, image_topic, transport) for name, kind in (near or found).items()}
    topics = [f"{name} ({way})" if way else name for name, way in ways.items()]
    if not topics:
        return "no other topic has images either"
    more = f" and {len(topics) - LISTED} more topics" if len(topics) > LISTED else ""
    return f"images are on {', '.join(topics[:LISTED])}{more}"


def _published(node: Node, topic: str) -> bool:
    """Whether another node publishes on a topic."""
    own = node.get_name(), node.get_namespace()
    return any((each.node_name, each.node_namespace) != own for each in node.get_publishers_info_by_topic(topic))


def _way(topic: str, kind: str, image_topic: str, transport: str) -> str:
    """How the images of a type on a topic are read; "" where the name of the topic says it."""
    found = _TRANSPORTS.get(kind)
    if found is None or _UNREADABLE.search(topic):
        return f"{kind}: republish them as raw images with image_transport"
    settings = [] if found == transport else [f"image_transport:={found}"]
    base = topic if found == "raw" else topic.removesuffix(f"/{found}")
    if found != "raw" and base == topic:  # not the name that image_transport gives it
        settings.append(f"-r {topic_of(image_topic, found)}:={topic}")
    elif base != image_topic and not found == transport == "raw":
        settings.insert(0, f"image_topic:={base}")
    return f"set {' '.join(settings)}" if settings else ""
