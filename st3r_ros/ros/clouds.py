# SPDX-License-Identifier: Apache-2.0
"""Point clouds as PointCloud2 messages, packed by NumPy straight into the message's own buffer."""

from __future__ import annotations

import array
import sys

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

POINT_STEP = 20
"""Bytes of a point: x, y, z, rgb, conf, four each."""


def cloud_message(header: Header, points: np.ndarray, colors: np.ndarray, conf: np.ndarray) -> PointCloud2:
    """A PointCloud2 of points (..., 3) float32, colors (..., 3) uint8 RGB and conf (...) float32.

    (N, 3) points become an unorganised cloud (height 1), (h, w, 3) points an organised one, in which points without a value are
    NaN. Fields: x, y, z float32; rgb, the bytes 0RGB packed into a float32 as RViz and PCL read it; conf float32.
    """
    height, width = points.shape[:2] if points.ndim == 3 else (1, len(points))
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
        is_dense=points.ndim != 3,
        data=_packed(points.reshape(-1, 3), colors.reshape(-1, 3), conf.reshape(-1)),
    )


def _packed(points: np.ndarray, colors: np.ndarray, conf: np.ndarray) -> array.array:
    """The bytes of the points. rclpy takes an array('B') as it is; bytes it would copy one by one."""
    data = array.array("B", bytes(POINT_STEP)) * len(points)
    if not data:
        return data
    floats = np.frombuffer(data, np.float32).reshape(-1, POINT_STEP // 4)
    for axis in range(3):
        floats[:, axis] = points[:, axis]
    rgb = colors[:, 0].astype(np.uint32) << 16
    rgb |= colors[:, 1].astype(np.uint32) << 8
    rgb |= colors[:, 2]
    floats.view(np.uint32)[:, 3] = rgb
    floats[:, 4] = conf
    return data
