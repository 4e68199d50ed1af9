# SPDX-License-Identifier: Apache-2.0
"""Point clouds as PointCloud2 messages, packed by NumPy straight into the message's own buffer."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.se3 import SE3
from st3r_ros.slam.cloud import CloudBuilder
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.slam.steps import Steps, finish
from st3r_ros.types import PointCloud

POINT_STEP = 20
"""Bytes of a point: x, y, z, rgb, conf, four each."""


def cloud_message(header: Header, points: np.ndarray, colors: np.ndarray, conf: np.ndarray) -> PointCloud2:
    """A PointCloud2 of points (..., 3) float32, colors (..., 3) uint8 RGB and conf (...) float32.

    (N, 3) points become an unorganised cloud (height 1), (h, w, 3) points an organised one, in which points without a value are
    NaN. Fields: x, y, z float32; rgb, the bytes 0RGB packed into a float32 as RViz and PCL read it; conf float32.
    """
    height, width = points.shape[:2] if points.ndim == 3 else (1, len(points))
    message = _empty_message(header, height, width, is_dense=points.ndim != 3)
    _pack(_floats(message), points.reshape(-1, 3), colors.reshape(-1, 3), conf.reshape(-1))
    return message


class MapCloud:
    """The cloud of a whole map as messages; what has not changed since the last one is not computed again."""

    def __init__(self) -> None:
        self._builder = CloudBuilder()

    @property
    def nbytes(self) -> int:
        """Memory kept for the next message, bytes."""
        return self._builder.nbytes

    def rescale(self, factor: float) -> None:
        """The unit of the map has changed."""
        self._builder.rescale(factor)

    def steps(self, header: Header, keyframe_map: KeyframeMap, config: CloudConfig, T_map_world: SE3) -> Steps[PointCloud2]:
        """The map as it is now, moved by `T_map_world`."""
        pieces = yield from self._builder.steps(keyframe_map, config)
        return (yield from _message_steps(header, pieces, T_map_world))

    def last(self, header: Header, keyframe_map: KeyframeMap, T_map_world: SE3) -> PointCloud2:
        """What the last completed steps gave of this map, in the map's unit of now."""
        return finish(_message_steps(header, self._builder.last(keyframe_map), T_map_world))


def _message_steps(header: Header, pieces: Sequence[PointCloud], T_map_world: SE3) -> Steps[PointCloud2]:
    """One message from many pieces in the world."""
    message = _empty_message(header, 1, sum(len(piece) for piece in pieces), is_dense=True)
    floats, begin = _floats(message), 0
    R, t = T_map_world.rotation.T.astype(np.float32), T_map_world.translation.astype(np.float32)
    for piece in pieces:
        _pack(floats[begin : begin + len(piece)], piece.points @ R + t, piece.colors, piece.conf)
        begin += len(piece)
        yield
    return message


def _empty_message(header: Header, height: int, width: int, *, is_dense: bool) -> PointCloud2:
    """With room for the points. rclpy takes an array('B') as it is; bytes it would copy one by one."""
    return PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=[
            PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
            for index, name in enumerate(("x", "y", "z", "rgb", "conf"))
        ],
        is_bigendian=sys.byteorder == "big",
        point_step=POINT_STEP,
        row_step=POINT_STEP * width,
        is_dense=is_dense,
        data=array.array("B", bytes(POINT_STEP)) * (height * width),
    )


def _floats(message: PointCloud2) -> np.ndarray:
    """The message's own buffer, (N, 5) float32."""
    flat = np.frombuffer(message.data, np.float32) if len(message.data) else np.zeros(0, np.float32)
    return flat.reshape(-1, POINT_STEP // 4)


def _pack(floats: np.ndarray, points: np.ndarray, colors: np.ndarray, conf: np.ndarray) -> None:
    """Points (N, 3), colors (N, 3) and conf (N,) into (N, 5) float32 of a message."""
    for axis in range(3):
        floats[:, axis] = points[:, axis]
    rgb = colors[:, 0].astype(np.uint32) << 16
    rgb |= colors[:, 1].astype(np.uint32) << 8
    rgb |= colors[:, 2]
    floats.view(np.uint32)[:, 3] = rgb
    floats[:, 4] = conf
