# SPDX-License-Identifier: Apache-2.0
"""Why no images arrive on a topic: what its publishers do, and which other topics have images and how they are read."""

from __future__ import annotations

import re

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from st3r_ros.ros.input.transports import TYPES, topic_of

LISTED = 6
"""Maximum number of other topics that are named."""
_TRANSPORTS = {kind: transport for transport, kind in TYPES.items()}
_PICTURES = re.compile("image|video|h26[45]", re.IGNORECASE)
_NO_PICTURES = re.compile("/compressedDepth |DisparityImage$")
"""In the name and the type of a topic."""
_UNREADABLE = re.compile("/zstd$")


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
