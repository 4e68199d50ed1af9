# SPDX-License-Identifier: Apache-2.0
"""Messages that carry a video packet by packet: CompressedVideo of foxglove_msgs, FFMPEGPacket of ffmpeg_image_transport_msgs,
and CompressedImage whose format is a video codec."""

from __future__ import annotations

from typing import Any

from st3r_ros.io.video_decoder import Packet, codec_of


def is_video(message: Any) -> bool:
    """Whether a message is a packet of a video. A CompressedImage is one when its format says so; mjpeg are single images."""
    if hasattr(message, "timestamp") or hasattr(message, "pts"):
        return True
    return codec_of(message.format) not in ("", "mjpeg")


def video_packet(message: Any, tag: Any) -> Packet:
    """The packet of a message. tag: returned with the image."""
    if hasattr(message, "pts"):
        return Packet(message.encoding, bytes(message.data), tag, int(message.pts))
    return Packet(message.format, bytes(message.data), tag)


def stamp_of(message: Any) -> Any:
    """The stamp of a message of a camera (sec and nanosec)."""
    return message.timestamp if hasattr(message, "timestamp") else message.header.stamp
