# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
import torch
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.products.cloud import cloud_of
from st3r_ros.products.steps import finish
from st3r_ros.ros.outputs.map_messages import MapCloud, cloud_message
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe


def unpack(message: PointCloud2) -> np.ndarray:
    """The points as a structured array (height, width), read as any subscriber would: by the message's own fields."""
    assert all(field.datatype == PointField.FLOAT32 and field.count == 1 for field in message.fields)
    layout = np.dtype(
        {
            "names": [field.name for field in message.fields],
            "formats": [(">" if message.is_bigendian else "<") + "f4"] * len(message.fields),
            "offsets": [field.offset for field in message.fields],
            "itemsize": message.point_step,
        }
    )
    assert message.row_step == message.width * message.point_step
    assert len(message.data) == message.height * message.row_step
    return np.frombuffer(message.data, layout).reshape(message.height, message.width)


def colors_of(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 of the packed field, as RViz unpacks it."""
    bits = np.ascontiguousarray(rgb).view(np.uint32)
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("shape", [(0,), (1,), (1000,), (12, 20)])
def test_points_colors_and_confidence_come_back(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(*shape, 3)).astype(np.float32)
    points[rng.random(shape) < 0.2] = np.nan
    colors = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    conf = rng.random(shape, dtype=np.float32)
    message = cloud_message(Header(frame_id="map"), points, colors, conf)
    message = deserialize_message(serialize_message(message), PointCloud2)
    fields = unpack(message)
    assert fields.shape == (shape if len(shape) == 2 else (1, *shape))
    xyz = np.stack([fields["x"], fields["y"], fields["z"]], axis=-1).reshape(points.shape)
    np.testing.assert_array_equal(xyz, points)
    np.testing.assert_array_equal(colors_of(fields["rgb"]).reshape(colors.shape), colors)
    np.testing.assert_array_equal(fields["conf"].reshape(conf.shape), conf)
    assert message.is_dense == (len(shape) == 1)


def test_other_memory_layouts_and_float64_points_are_packed_alike() -> None:
    rng = np.random.default_rng(2)
    points, colors, conf = rng.normal(size=(64, 3)), rng.integers(0, 256, (64, 3), dtype=np.uint8), rng.random(64)
    plain = cloud_message(Header(), points.astype(np.float32), colors, conf.astype(np.float32))
    turned = cloud_message(Header(), np.asfortranarray(points), np.asfortranarray(colors), conf)
    assert plain.data == turned.data


T_MAP_WORLD = SE3.exp(np.array([3.0, -2.0, 1.0, 0.5, 0.2, -1.0]))
CONFIG = CloudConfig(voxel_size=0.1, min_conf=0.0)


def make_map() -> KeyframeMap:
    """Two keyframes of random points."""
    result, rng = KeyframeMap(), np.random.default_rng(3)
    for number in range(2):
        X = torch.from_numpy(rng.uniform((-1, -1, 2), (1, 1, 4), (12, 16, 3)).astype(np.float32))
        conf = torch.from_numpy(rng.uniform(0.5, 4.0, (12, 16)).astype(np.float32))
        image = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        T_world_cam = Sim3.exp(0.3 * rng.normal(size=7))
        result.add_keyframe(Keyframe(number, number, number, T_world_cam, X, conf, image, np.eye(3)))
    return result


def test_a_whole_map_becomes_a_message_in_the_map_frame() -> None:
    m, builder = make_map(), MapCloud()
    message = finish(builder.steps(Header(frame_id="map"), m, CONFIG, T_MAP_WORLD))
    cloud = cloud_of(m, CONFIG)
    expected = cloud_message(Header(frame_id="map"), (T_MAP_WORLD @ cloud.points).astype(np.float32), cloud.colors, cloud.conf)
    assert (message.width, message.height, message.is_dense) == (len(cloud), 1, True)
    for name in ("x", "y", "z"):
        np.testing.assert_allclose(unpack(message)[name], unpack(expected)[name], atol=1e-5)
    np.testing.assert_array_equal(colors_of(unpack(message)["rgb"]), colors_of(unpack(expected)["rgb"]))
    np.testing.assert_array_equal(unpack(message)["conf"], unpack(expected)["conf"])
    assert builder.nbytes > 0


def test_when_the_unit_changes_the_last_cloud_is_there_at_once_in_the_new_one() -> None:
    m, builder, header = make_map(), MapCloud(), Header(frame_id="map")
    before = unpack(finish(builder.steps(header, m, CONFIG, SE3.identity())))
    m.rescale(2.0)
    builder.rescale(2.0)
    at_once = unpack(builder.last(header, m, SE3.identity()))
    np.testing.assert_allclose(at_once["x"], 2.0 * before["x"], rtol=1e-6)
    assert builder.last(header, make_map(), T_MAP_WORLD).width == 0
    whole = finish(builder.steps(header, m, replace(CONFIG, voxel_size=0.2), SE3.identity()))
    np.testing.assert_allclose(np.sort(unpack(whole)["x"]), np.sort(at_once["x"]), rtol=1e-5)


def test_an_empty_map_is_an_empty_message() -> None:
    message = finish(MapCloud().steps(Header(), KeyframeMap(), CONFIG, T_MAP_WORLD))
    assert message.width == len(message.data) == 0
    assert deserialize_message(serialize_message(message), PointCloud2) == message
