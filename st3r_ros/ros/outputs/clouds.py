# SPDX-License-Identifier: Apache-2.0
"""Point clouds as PointCloud2 messages, packed by NumPy."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.products.cloud import CloudBuilder
from st3r_ros.products.steps import Steps, finish
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import PointCloud

POINT_STEP = 20
"""Bytes of a point: x, y, z, rgb, conf, four each."""
AT_ONCE = 20_000
"""Number of points packed at once, small enough for the cache."""


def cloud_message(header: Header, points: np.ndarray, colors: np.ndarray, conf: np.ndarray) -> PointCloud2:
    """A PointCloud2 of points (..., 3) float32, colors (..., 3) uint8 RGB and conf (...) float32.

    (N, 3) points become an unorganised cloud (height 1), (h, w, 3) points an organised one, in which points without a value are
    NaN. Fields: x, y, z float32; rgb, the bytes 0RGB packed into a float32 as RViz and PCL read it; conf float32.
    """
    message = _empty_message(header, is_dense=points.ndim != 3)
    points, colors, conf, shape = points.reshape(-1, 3), colors.reshape(-1, 3), conf.reshape(-1), points.shape[:-1]
    for begin in range(0, len(points), AT_ONCE):
        some = slice(begin, begin + AT_ONCE)
        _append(message, points[some], colors[some], conf[some])
    _set_size(message, *(shape if len(shape) == 2 else (1, *shape)))
    return message


class MapCloud:
    """The cloud of a whole map as messages; unchanged parts are not computed again."""

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
        """The current map, transformed by `T_map_world`."""
        pieces = yield from self._builder.steps(keyframe_map, config)
        return (yield from _message_steps(header, pieces, T_map_world))

    def whole(self, keyframe_map: KeyframeMap, config: CloudConfig) -> PointCloud:
        """The current map, in the world."""
        return self._builder.whole(keyframe_map, config)

    def last(self, header: Header, keyframe_map: KeyframeMap, T_map_world: SE3) -> PointCloud2:
        """The result of the last completed steps for this map, in its current unit."""
        return finish(_message_steps(header, self._builder.last(keyframe_map), T_map_world))


def _message_steps(header: Header, pieces: Sequence[PointCloud], T_map_world: SE3) -> Steps[PointCloud2]:
    """One message from many pieces in the world."""
    message = _empty_message(header, is_dense=True)
    R, t = T_map_world.rotation.T.astype(np.float32), T_map_world.translation.astype(np.float32)
    for piece in pieces:
        _append(message, piece.points @ R + t, piece.colors, piece.conf)
        yield
    _set_size(message, 1, len(message.data) // POINT_STEP)
    return message


def _empty_message(header: Header, *, is_dense: bool) -> PointCloud2:
    fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate(("x", "y", "z", "rgb", "conf"))
    ]
    return PointCloud2(
        header=header, fields=fields, is_bigendian=sys.byteorder == "big", point_step=POINT_STEP, is_dense=is_dense
    )


def _append(message: PointCloud2, points: np.ndarray, colors: np.ndarray, conf: np.ndarray) -> None:
    """Adds points (N, 3), colors (N, 3) and conf (N,). The array of the message itself grows: one that is assigned is copied."""
    floats = np.empty((len(points), POINT_STEP // 4), np.float32)
    for axis in range(3):
        floats[:, axis] = points[:, axis]
    rgb = colors[:, 0].astype(np.uint32) << 16
    rgb |= colors[:, 1].astype(np.uint32) << 8
    rgb |= colors[:, 2]
    floats.view(np.uint32)[:, 3] = rgb
    floats[:, 4] = conf
    message.data.frombytes(floats.reshape(-1).view(np.uint8).data)


def _set_size(message: PointCloud2, height: int, width: int) -> None:
    message.height, message.width, message.row_step = height, width, POINT_STEP * width
