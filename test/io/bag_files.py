# SPDX-License-Identifier: Apache-2.0
"""Writes small bags with the rosbags library."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

FOXGLOVE_VIDEO = "foxglove_msgs/msg/CompressedVideo"
FFMPEG_PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
STORE = get_typestore(Stores.ROS2_JAZZY)
STORE.register(
    get_types_from_msg("builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n", FOXGLOVE_VIDEO)
)
STORE.register(
    get_types_from_msg(
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\nbool is_bigendian\n"
        "uint8[] data\n",
        FFMPEG_PACKET,
    )
)
T = STORE.types


def header(stamp_ns: int) -> Any:
    """A header with a stamp."""
    time = T["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return T["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def image(stamp_ns: int, pixels: np.ndarray, encoding: str = "rgb8", padding: int = 0) -> Any:
    """A sensor_msgs/Image of an (H, W, 3) array."""
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)))
    return T["sensor_msgs/msg/Image"](
        header=header(stamp_ns),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def compressed(stamp_ns: int, data: bytes, format: str) -> Any:
    """A sensor_msgs/CompressedImage."""
    return T["sensor_msgs/msg/CompressedImage"](header=header(stamp_ns), format=format, data=np.frombuffer(data, np.uint8))


def camera_info(stamp_ns: int, width: int, height: int, focal: float) -> Any:
    """A sensor_msgs/CameraInfo without distortion."""
    k = np.array([focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1])
    roi = T["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return T["sensor_msgs/msg/CameraInfo"](
        header=header(stamp_ns),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).reshape(-1),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def text(content: str) -> Any:
    """A std_msgs/String."""
    return T["std_msgs/msg/String"](data=content)


def foxglove_video(stamp_ns: int, data: bytes, format: str) -> Any:
    """A foxglove_msgs/CompressedVideo."""
    return T[FOXGLOVE_VIDEO](
        timestamp=header(stamp_ns).stamp, frame_id="camera", data=np.frombuffer(data, np.uint8), format=format
    )


def ffmpeg_packet(stamp_ns: int, data: bytes, encoding: str, pts: int) -> Any:
    """A ffmpeg_image_transport_msgs/FFMPEGPacket."""
    return T[FFMPEG_PACKET](
        header=header(stamp_ns),
        width=0,
        height=0,
        encoding=encoding,
        pts=pts,
        flags=0,
        is_bigendian=False,
        data=np.frombuffer(data, np.uint8),
    )


def write_bag(
    path: Path, messages: Iterable[tuple[str, int, Any]], storage: str = "mcap", compression: str | None = None
) -> Path:
    """A bag folder of (topic, time of recording in ns, message). compression: by zstd, of the "file" or each "message"."""
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compression is not None:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, recorded_ns, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], recorded_ns, STORE.serialize_cdr(message, kind))
    return path
