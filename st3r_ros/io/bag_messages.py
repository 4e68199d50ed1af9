# SPDX-License-Identifier: Apache-2.0
"""Deserializes messages of a bag. The definitions of image types are built in; those in the bag, which may be missing or broken,
are not needed."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from st3r_ros.errors import FrameError
from st3r_ros.io.bag_storage import Channel, Message

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

IMAGE, COMPRESSED, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
FOXGLOVE_VIDEO = "foxglove_msgs/msg/CompressedVideo"
FFMPEG_PACKETS = ("ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "depthai_ros_msgs/msg/FFMPEGPacket")
IMAGE_KINDS = (IMAGE, COMPRESSED, FOXGLOVE_VIDEO, *FFMPEG_PACKETS)
ENCODINGS = ("cdr", "ros1")

_FOXGLOVE_FIELDS = """
builtin_interfaces/Time timestamp
string frame_id
uint8[] data
string format
"""
_FFMPEG_FIELDS = """
std_msgs/Header header
int32 width
int32 height
string encoding
uint64 pts
uint8 flags
bool is_bigendian
uint8[] data
"""
_ZSTD, _CDR = b"\x28\xb5\x2f\xfd", (b"\0\0", b"\0\1")


def can_be_read(channel: Channel) -> bool:
    """Whether the messages of a channel are serialized in a way that is known here."""
    return channel.encoding in ENCODINGS


def read_message(message: Message) -> Any:
    """A message with the fields of ROS 2, from ROS 1 or compressed by zstd as well.

    Raises:
        FrameError: it is empty, cut short, or not what the channel says.
    """
    channel, data = message.channel, message.data
    if not can_be_read(channel):
        raise FrameError(f"The message is serialized as {channel.encoding!r}; only the formats of ROS (cdr, ros1) can be read.")
    if data[:4] == _ZSTD and channel.encoding == "cdr":
        data = _unpacked(data)
    if channel.encoding == "cdr" and data[:2] not in _CDR:
        begin = data[:4].hex(" ") or "nothing"
        raise FrameError(f"The message is not CDR, the format of ROS 2: it begins with {begin} instead of 00 00 or 00 01.")
    store = _types(channel.encoding)
    try:
        if channel.encoding == "ros1":
            return _with_names_of_ros2(store.deserialize_ros1(data, channel.kind))
        return store.deserialize_cdr(data, channel.kind)
    except Exception as error:  # rosbags reports damaged messages by many types of error
        raise FrameError(
            f"The message of {len(data)} bytes is not a complete {channel.kind}: it was cut short or is damaged."
        ) from error


def _unpacked(data: bytes) -> bytes:
    import zstandard

    unpacker = zstandard.ZstdDecompressor().decompressobj()
    try:
        unpacked = unpacker.decompress(data)
    except zstandard.ZstdError as error:
        raise FrameError("The message is compressed with zstd and damaged.") from error
    if not unpacker.eof:
        raise FrameError("The message is compressed with zstd and cut short.")
    return unpacked


def _with_names_of_ros2(message: Any) -> Any:
    """CameraInfo has D, K, R and P in ROS 1."""
    return SimpleNamespace(**{name.lower(): value for name, value in vars(message).items()})


@cache
def _types(encoding: str) -> Typestore:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if encoding == "ros1" else Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(_FOXGLOVE_FIELDS, FOXGLOVE_VIDEO))
    for kind in FFMPEG_PACKETS:
        store.register(get_types_from_msg(_FFMPEG_FIELDS, kind))
    return store
