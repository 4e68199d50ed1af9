# SPDX-License-Identifier: Apache-2.0
"""The map as messages: cloud, occupancy grid, path, keyframe graph, and the graph as RViz draws it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from nav_msgs.msg import MapMetaData, OccupancyGrid, Path
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from st3r_ros.config import CloudConfig, GridConfig
from st3r_ros.geometry.pixels import rays
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import Keyframe, KeyframeEdge, KeyframeGraph
from st3r_ros.products.cloud import CloudBuilder
from st3r_ros.products.occupancy import GridBuilder, Occupancy
from st3r_ros.products.steps import Steps, finish
from st3r_ros.ros.conversions import pose_message, stamp_from_ns
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import PointCloud

POINT_STEP = 20
"""Bytes of a point: x, y, z, rgb, conf, four each."""
AT_ONCE = 20_000
"""Number of points packed at once, small enough for the cache."""
FRUSTUM_DEPTH = 0.06
"""Depth of a frustum, as a share of the median depth that its keyframe sees."""
_EDGE_KINDS = {"sequential": KeyframeEdge.SEQUENTIAL, "loop": KeyframeEdge.LOOP}
COLORS = {"keyframes": (0.1, 0.6, 0.9), "sequential": (0.6, 0.6, 0.6), "loop": (1.0, 0.4, 0.1)}
_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
_LINES = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])

# Cloud ----------------------------------------------------------------------------------------------------------------


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


# Grid -----------------------------------------------------------------------------------------------------------------


def grid_message(header: Header, grid: Occupancy) -> OccupancyGrid:
    """An OccupancyGrid: cell (0, 0) at the origin, x along the rows, row after row; 100 occupied, 0 free, -1 unknown."""
    h, w = grid.cells.shape
    x, y = grid.origin.tolist()
    info = MapMetaData(map_load_time=header.stamp, resolution=grid.resolution, width=w, height=h)
    info.origin = Pose(position=Point(x=x, y=y))
    message = OccupancyGrid(header=header, info=info)
    message.data.frombytes(grid.cells.tobytes())
    return message


class MapGrid:
    """The grid of a whole map as messages; unchanged keyframes are not processed again.

    warn: called with the reason why there is no grid.
    """

    def __init__(self, warn: Callable[[str], object]) -> None:
        self._builder = GridBuilder()
        self._warn = warn

    @property
    def nbytes(self) -> int:
        """Memory kept for the next message, bytes."""
        return self._builder.nbytes

    def steps(self, header: Header, keyframe_map: KeyframeMap, config: GridConfig) -> Steps[OccupancyGrid | None]:
        """The grid of the current map; None when it is disabled or the map is too large."""
        if not config.enabled:
            self._builder = GridBuilder()
            return None
        grid = yield from self._builder.steps(keyframe_map, config)
        if grid.refusal:
            self._warn(grid.refusal)
            return None
        return grid_message(header, grid)


# Path -----------------------------------------------------------------------------------------------------------------


class PathMessage:
    """Updates only new or changed poses; rebuilding 10,000 would take a second."""

    def __init__(self) -> None:
        self._message = Path()
        self._stamps_ns = np.zeros(0, np.int64)
        self._rows = np.zeros((0, 7))

    def update(self, stamps_ns: np.ndarray, poses: SE3, frame_id: str) -> Path:
        """The message for a batch (N,) of poses at their stamps; it is valid until the next update."""
        rows = np.hstack([poses.translation, poses.quaternion_xyzw])
        common = min(len(rows), len(self._rows))
        changed = (rows[:common] != self._rows[:common]).any(axis=1) | (stamps_ns[:common] != self._stamps_ns[:common])
        items = self._message.poses
        del items[common:]
        indices = [*np.flatnonzero(changed).tolist(), *range(common, len(rows))]
        for index, stamp_ns, row in zip(indices, stamps_ns[indices].tolist(), rows[indices].tolist(), strict=True):
            items[index : index + 1] = [_pose_stamped(stamp_ns, row, frame_id)]
        self._stamps_ns, self._rows = stamps_ns, rows
        self._message.header = Header(stamp=stamp_from_ns(stamps_ns[-1] if len(stamps_ns) else 0), frame_id=frame_id)
        return self._message


def _pose_stamped(stamp_ns: int, row: list[float], frame_id: str) -> PoseStamped:
    x, y, z, qx, qy, qz, qw = row
    pose = Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
    return PoseStamped(header=Header(stamp=stamp_from_ns(stamp_ns), frame_id=frame_id), pose=pose)


# Keyframe graph -------------------------------------------------------------------------------------------------------


def graph_message(header: Header, keyframe_map: KeyframeMap, T_map_world: SE3) -> KeyframeGraph:
    """Poses and scales of the keyframes, and the edges between them."""
    keyframes = [
        Keyframe(
            id=keyframe.id,
            stamp=stamp_from_ns(keyframe.stamp_ns),
            pose=pose_message(T_map_world @ keyframe.T_world_cam.se3()),
            scale=float(keyframe.T_world_cam.scale),
        )
        for keyframe in keyframe_map.keyframes.values()
    ]
    edges = [KeyframeEdge(i=edge.i, j=edge.j, kind=_EDGE_KINDS[edge.kind], matches=len(edge)) for edge in keyframe_map.edges]
    return KeyframeGraph(header=header, keyframes=keyframes, edges=edges)


def marker_array(header: Header, keyframe_map: KeyframeMap, T_map_world: SE3) -> MarkerArray:
    """Three line lists, one per namespace; an empty one deletes what it showed before."""
    keyframes = list(keyframe_map.keyframes.values())
    depths = {k.id: k.median_depth() for k in keyframes}
    typical = float(np.median([d for d in depths.values() if d > 0])) if any(depths.values()) else 1.0
    lines: dict[str, list[np.ndarray]] = {name: [] for name in COLORS}
    for k in keyframes:
        depth = FRUSTUM_DEPTH * (depths[k.id] or typical)
        h, w = k.image.shape[:2]
        in_camera = np.vstack([np.zeros(3), rays(_CORNERS * (w - 1, h - 1), k.K) * depth])
        lines["keyframes"].append((T_map_world @ k.T_world_cam.se3() @ in_camera)[_LINES].reshape(-1, 3))
    for edge in keyframe_map.edges:
        ends = [keyframe_map.keyframes[n].T_world_cam.translation for n in (edge.i, edge.j)]
        lines[edge.kind].append(T_map_world @ np.stack(ends))
    width = 0.1 * FRUSTUM_DEPTH * typical
    return MarkerArray(markers=[_lines(name, parts, header, width) for name, parts in lines.items()])


def _lines(name: str, parts: list[np.ndarray], header: Header, width: float) -> Marker:
    marker = Marker(header=header, ns=name, id=0, type=Marker.LINE_LIST)
    marker.action = Marker.ADD if parts else Marker.DELETE
    marker.pose.orientation.w = 1.0
    marker.scale.x = width
    red, green, blue = COLORS[name]
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    if parts:
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in np.concatenate(parts).tolist()]
    return marker
