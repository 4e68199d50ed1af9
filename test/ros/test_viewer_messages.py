# SPDX-License-Identifier: Apache-2.0
"""Clouds, paths and graphs as the viewer reads them."""

import math

import numpy as np
import pytest
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from nav_msgs.msg import Path
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from st3r_ros.errors import EncodingError, GeometryError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import Keyframe, KeyframeEdge, KeyframeGraph, MappingStatus
from st3r_ros.ros.conversions import header, pose_message, stamp_from_ns
from st3r_ros.ros.outputs.map_messages import cloud_message
from st3r_ros.ros.viewer import messages as viewer_messages


def random_cloud(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(*shape, 3)).astype(np.float32), rng.integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (0,)])
def test_our_own_clouds_come_back(shape: tuple[int, ...]) -> None:
    points, colors = random_cloud(*shape)
    read_points, read_colors = viewer_messages.cloud_arrays(cloud_message(Header(), points, colors, np.ones(shape, np.float32)))
    assert np.array_equal(read_points.reshape(points.shape), points)
    assert np.array_equal(read_colors.reshape(colors.shape), colors)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("color_type", [PointField.FLOAT32, PointField.UINT32])
def test_other_layouts_are_read(big_endian: bool, color_type: int) -> None:
    """Fields in another order, with gaps, rows that are padded, the other byte order."""
    points, colors = random_cloud(2, 3)
    order = ">" if big_endian else "<"
    record = np.dtype({"names": ["rgb", "z", "x", "y"], "formats": [f"{order}{k}" for k in ("u4", "f4", "f4", "f4")],
                       "offsets": [2, 8, 12, 16], "itemsize": 25})  # fmt: skip
    table = np.zeros((2, 3), record)
    for axis, name in enumerate("xyz"):
        table[name] = points[..., axis]
    table["rgb"] = (colors.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(-1)
    rows = np.zeros((2, 80), np.uint8)
    rows[:, :75] = np.frombuffer(table.tobytes(), np.uint8).reshape(2, 75)
    fields = [PointField(name=name, offset=offset, datatype=kind, count=1) for name, offset, kind in
              (("rgb", 2, color_type), ("z", 8, 7), ("x", 12, 7), ("y", 16, 7))]  # fmt: skip
    message = PointCloud2(
        height=2, width=3, fields=fields, is_bigendian=big_endian, point_step=25, row_step=80, data=rows.tobytes()
    )
    read_points, read_colors = viewer_messages.cloud_arrays(message)
    assert np.array_equal(read_points, points)
    assert np.array_equal(read_colors, colors)


def test_points_without_a_value_are_left_out() -> None:
    points, colors = random_cloud(4)
    points[1, 2], points[3, 0] = math.nan, math.inf
    read_points, read_colors = viewer_messages.finite_cloud(cloud_message(Header(), points, colors, np.ones(4, np.float32)))
    assert np.array_equal(read_points, points[[0, 2]])
    assert np.array_equal(read_colors, colors[[0, 2]])


def test_a_cloud_without_colors_is_grey() -> None:
    points, colors = random_cloud(4)
    message = cloud_message(Header(), points, colors, np.ones(4, np.float32))
    message.fields = [field for field in message.fields if field.name != "rgb"]
    assert len(np.unique(viewer_messages.finite_cloud(message)[1])) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"data": b"\0" * 19},
        {"width": 5},
        {"fields": []},
        {"point_step": 8},
        {"row_step": 10},
        {"fields": [PointField(name=name, offset=100 * i, datatype=7, count=1) for i, name in enumerate("xyz")]},
        {"fields": [PointField(name=name, offset=8 * i, datatype=PointField.FLOAT64, count=1) for i, name in enumerate("xyz")]},
    ],
)
def test_a_cloud_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    message = cloud_message(Header(), *random_cloud(4), np.ones(4, np.float32))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(EncodingError, match="The cloud"):
        viewer_messages.cloud_arrays(message)


def test_a_keyframe_gives_a_small_picture_with_its_field_of_view() -> None:
    v, u = np.mgrid[:240, :320].astype(np.float32)
    points = np.stack([(u - 159.5) / 250, (v - 119.5) / 250, np.ones_like(u)], axis=-1) * np.float32(2.0)
    points[:50] = np.nan
    colors = np.stack([u / 2, v, np.full_like(u, 7)], axis=-1).astype(np.uint8)
    picture = viewer_messages.picture_of_cloud(cloud_message(Header(), points, colors, np.ones((240, 320), np.float32)))
    assert picture is not None
    assert picture.fov == pytest.approx(2 * math.atan(120 / 250), rel=1e-3)
    assert picture.image.shape == (80, 107, 3)
    assert np.abs(picture.image.mean(axis=(0, 1)) - colors.mean(axis=(0, 1))).max() < 2
    assert viewer_messages.picture_of_cloud(cloud_message(Header(), *random_cloud(9), np.ones(9, np.float32))) is None


def graph(poses: SE3, stamps_ns: list[int], edges: list[KeyframeEdge]) -> KeyframeGraph:
    keyframes = [
        Keyframe(id=3 + i, stamp=stamp_from_ns(s), pose=pose_message(poses[i]), scale=1.0) for i, s in enumerate(stamps_ns)
    ]
    return KeyframeGraph(header=header(0, "map"), keyframes=keyframes, edges=edges)


def test_edges_of_keyframes_that_are_not_there_are_left_out() -> None:
    kinds = [KeyframeEdge(i=3, j=4, kind=KeyframeEdge.LOOP), KeyframeEdge(i=3, j=9), KeyframeEdge(i=4, j=3)]
    ids, is_loop = viewer_messages.edge_arrays(graph(SE3.identity((2,)), [0, 1], kinds))
    assert ids.tolist() == [[3, 4], [4, 3]]
    assert is_loop.tolist() == [True, False]
    assert viewer_messages.edge_arrays(graph(SE3.identity((0,)), [], []))[0].shape == (0, 2)


def test_the_camera_on_the_robot_is_told_by_a_keyframe_on_the_path() -> None:
    rng = np.random.default_rng(0)
    T_base_cam = SE3.exp(rng.normal(size=6))
    stamps_ns = [10, 1_500_000_020, 30]
    T_map_base = SE3.exp(rng.normal(size=(3, 6)))
    path = Path(poses=[PoseStamped(header=header(s, "map"), pose=pose_message(T_map_base[i])) for i, s in enumerate(stamps_ns)])
    views = viewer_messages.keyframe_views(graph((T_map_base @ T_base_cam_batch(T_base_cam))[:2], stamps_ns[:2], []), {}.get)
    at = viewer_messages.stamps(path)
    assert at == stamps_ns
    found = viewer_messages.camera_in_frame(viewer_messages.path_poses(path), at, views)
    assert found is not None
    assert np.allclose(found.as_matrix(), T_base_cam.as_matrix(), atol=1e-9)
    assert viewer_messages.camera_in_frame(SE3.identity((0,)), [], views) is None


def T_base_cam_batch(T: SE3) -> SE3:
    return SE3(np.broadcast_to(T.rotation, (3, 3, 3)), np.broadcast_to(T.translation, (3, 3)))


def test_a_pose_that_is_none_is_refused() -> None:
    with pytest.raises(GeometryError):
        viewer_messages.pose_of(Pose(position=Point(x=math.nan), orientation=Quaternion(w=1.0)))


def test_facts_are_for_people() -> None:
    status = MappingStatus(state=MappingStatus.LOST, frames_processed=1200, frames_tracked=1100, scale_source="odometry")
    status.stage_names, status.stage_median_ms = ["track", "total"], [1.0, 82.4]
    facts = viewer_messages.facts(status, 2_000_000)
    assert facts["State"] == "lost"
    assert facts["Images"].startswith("1,100 tracked of 1,200")
    assert facts["Speed"].endswith("82 ms each")
    assert facts["Points"] == "2,000,000"
    assert facts["Unit"] == "metre (from odometry)"
    assert viewer_messages.facts(MappingStatus(scale_source="none"), 0)["Unit"] == "arbitrary"
    assert viewer_messages.facts(None, 0) == {}
