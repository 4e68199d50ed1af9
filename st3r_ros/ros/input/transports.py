# SPDX-License-Identifier: Apache-2.0
"""Message types and topics of images, by `image_transport`."""

from __future__ import annotations

import importlib
import os

from st3r_ros.errors import MissingDependencyError
from st3r_ros.io.video_decoder import check_decoder

TYPES = {
    "raw": "sensor_msgs/msg/Image",
    "compressed": "sensor_msgs/msg/CompressedImage",
    "foxglove": "foxglove_msgs/msg/CompressedVideo",
    "ffmpeg": "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
}
VIDEOS = ("foxglove", "ffmpeg")


def topic_of(image_topic: str, transport: str) -> str:
    """The topic of a transport beside that of the raw images, as image_transport names it."""
    return image_topic if transport == "raw" else f"{image_topic}/{transport}"


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
