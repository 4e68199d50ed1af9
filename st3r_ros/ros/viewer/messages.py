# SPDX-License-Identifier: Apache-2.0
"""Converts the messages of a mapping node to arrays for the viewer, without loops over points."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np
from geometry_msgs.msg import Pose
from nav_msgs.msg import Path
from sensor_msgs.msg import PointCloud2, PointField

from st3r_ros.errors import EncodingError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.stamps import NANOSECONDS
from st3r_ros.msg import KeyframeEdge, KeyframeGraph, MappingStatus
from st3r_ros.types import MappingState
from st3r_ros.viewer.frusta import KeyframeView
from st3r_ros.viewer.pictures import Thumbnail, focal_of_points, picture

_STATES = {getattr(MappingStatus, state.name): state.value for state in MappingState}
_NO_COLOR = 160


def cloud_arrays(message: PointCloud2) -> tuple[np.ndarray, np.ndarray]:
    """Points (h, w, 3) float32 and colors (h, w, 3) uint8 RGB of a cloud; grey without a field rgb. NaN points stay.

    Raises:
        EncodingError: there are no x, y, z of float32, or the data are shorter than the size needs.
    """
    height, width, step = message.height, message.width, message.point_step
    offsets = {f.name: f.offset for f in message.fields if f.datatype in (PointField.FLOAT32, PointField.UINT32)}
    if not {"x", "y", "z"} <= offsets.keys():
        raise EncodingError(f"The cloud has the fields {[f.name for f in message.fields]}; x, y and z must be there as float32.")
    row_step = message.row_step or step * width
    if step < max(offsets.values()) + 4 or row_step < step * width or len(message.data) < row_step * height:
        raise EncodingError(f"The cloud of {width} x {height} points of {step} bytes has {len(message.data)} bytes of data.")
    data = np.frombuffer(message.data, np.uint8)[: row_step * height].reshape(height, row_step)[:, : step * width]
    data = np.ascontiguousarray(data).reshape(height, width, step)
    order = ">f4" if message.is_bigendian else "<f4"
    fields = data.view(
        np.dtype({"names": list("xyz"), "formats": [order] * 3, "offsets": [offsets[name] for name in "xyz"], "itemsize": step})
    )[..., 0]
    points = np.empty((height, width, 3), np.float32)
    for axis, name in enumerate("xyz"):
        points[..., axis] = fields[name]
    rgb = offsets.get("rgb", offsets.get("rgba"))
    if rgb is None:
        return points, np.full(points.shape, _NO_COLOR, np.uint8)
    places = [rgb + 1, rgb + 2, rgb + 3] if message.is_bigendian else [rgb + 2, rgb + 1, rgb]  # the bytes 0RGB as one number
    return points, np.stack([data[..., place] for place in places], axis=-1)


def finite_cloud(message: PointCloud2) -> tuple[np.ndarray, np.ndarray]:
    """The points (N, 3) that have a value, and their colors (N, 3)."""
    points, colors = (array.reshape(-1, 3) for array in cloud_arrays(message))
    finite = np.isfinite(points).all(axis=1)
    return (points, colors) if finite.all() else (points[finite], colors[finite])


def picture_of_cloud(message: PointCloud2) -> Thumbnail | None:
    """What a keyframe's camera saw, out of its organised cloud; None when that is not organised."""
    points, colors = cloud_arrays(message)
    return picture(colors, focal_of_points(points)) if min(points.shape[:2]) > 1 else None


def path_poses(message: Path) -> SE3:
    """The poses (N,) of a path."""
    return _poses([item.pose for item in message.poses])


def stamps(message: Path) -> list[int]:
    """The stamps of a path, nanoseconds."""
    return [item.header.stamp.sec * NANOSECONDS + item.header.stamp.nanosec for item in message.poses]


def keyframe_views(message: KeyframeGraph, picture_at: Callable[[int], Thumbnail | None]) -> list[KeyframeView]:
    """The keyframes of a graph; picture_at: a keyframe's picture by its stamp, nanoseconds."""
    poses = _poses([keyframe.pose for keyframe in message.keyframes])
    views = []
    for index, keyframe in enumerate(message.keyframes):
        stamp_ns = keyframe.stamp.sec * NANOSECONDS + keyframe.stamp.nanosec
        views.append(KeyframeView(keyframe.id, stamp_ns, poses[index], picture_at(stamp_ns)))
    return views


def edge_arrays(message: KeyframeGraph) -> tuple[np.ndarray, np.ndarray]:
    """Ids (M, 2) of the keyframes that edges tie, and (M,) bool, whether they are loops; without edges of unknown keyframes."""
    known = {keyframe.id for keyframe in message.keyframes}
    edges = [edge for edge in message.edges if edge.i in known and edge.j in known]
    ids = np.array([(edge.i, edge.j) for edge in edges], np.int64).reshape(-1, 2)
    return ids, np.array([edge.kind == KeyframeEdge.LOOP for edge in edges], bool)


def pose_of(message: Pose) -> SE3:
    """The transform of a pose.

    Raises:
        GeometryError: its quaternion is zero or a number is not finite.
    """
    return _poses([message])[0]


def camera_in_frame(path: SE3, path_stamps: list[int], keyframes: list[KeyframeView]) -> SE3 | None:
    """`T_frame_cam`: the camera in the frame whose path it is, told by the newest keyframe on the path, without TF.

    None when no keyframe is on the path.
    """
    row_at = {stamp_ns: row for row, stamp_ns in enumerate(path_stamps)}
    for keyframe in reversed(keyframes):
        if keyframe.stamp_ns in row_at:
            return path[row_at[keyframe.stamp_ns]].inverse() @ keyframe.T_map_cam
    return None


def facts(status: MappingStatus | None, points: int) -> Mapping[str, str]:
    """What the page says about the mapping node; nothing before there is a status."""
    if status is None:
        return {}
    latency = dict(zip(status.stage_names, status.stage_median_ms, strict=False)).get("total")
    metric = status.scale_source not in ("", "none")
    return {
        "State": _STATES.get(status.state, str(status.state)),
        "Images": f"{status.frames_tracked:,} tracked of {status.frames_processed:,}, {status.frames_dropped:,} dropped",
        "Speed": f"{status.fps:.1f} images/s" + (f", {latency:.0f} ms each" if latency is not None else ""),
        "Keyframes": f"{status.keyframes:,}, {status.loops:,} loops",
        "Points": f"{points:,}",
        "Unit": f"metre (from {status.scale_source})" if metric else "arbitrary",
    }


def nobody(topic: str) -> str:
    """The page text without a publisher of the status, before the mapping node starts and after it ends."""
    return f"There is no mapping node: {topic} has no publisher in ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}."


def _poses(poses: list[Pose]) -> SE3:
    rows = [
        (p.position.x, p.position.y, p.position.z, p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w)
        for p in poses
    ]
    values = np.array(rows, np.float64).reshape(-1, 7)
    return SE3.from_quaternion_xyzw(values[:, 3:], values[:, :3])
