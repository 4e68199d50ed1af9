# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from st3r_ros.ros.clouds import cloud_message


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
