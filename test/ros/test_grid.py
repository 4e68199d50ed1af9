# SPDX-License-Identifier: Apache-2.0
"""The occupancy grid as a message, and on ~/grid of a mapping node."""

import numpy as np
import torch
from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message, serialize_message
from ros_harness import Ros, wait_until
from sensor_msgs.msg import PointCloud2

from st3r_ros.config import GridConfig
from st3r_ros.geometry.axes import OPTICAL
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.products.occupancy import Occupancy
from st3r_ros.products.steps import finish
from st3r_ros.ros.conversions import header
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.outputs.map_messages import MapGrid, grid_message
from st3r_ros.ros.qos import latched
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe

CAMERA = Camera.from_fov(96, 72, 90.0)


def wall() -> Keyframe:
    """A wall two metres before a camera that stands half a metre above the ground."""
    rays = CAMERA.unproject(np.stack(np.meshgrid(np.arange(96), np.arange(72)), axis=-1))
    X = torch.from_numpy((2.02 * rays).astype(np.float32))
    return Keyframe(0, 0, 0, Sim3.identity(), X, torch.full((72, 96), 2.0), np.zeros((72, 96, 3), np.uint8), CAMERA.K)


def place(keyframe_map: KeyframeMap) -> None:
    """Gives the map its wall, and says where it is."""
    keyframe_map.T_map_world = SE3(OPTICAL.rotation, np.array([0.0, 0.0, 0.5]))
    keyframe_map.add_keyframe(wall())


def cell(message: OccupancyGrid, x: float, y: float) -> int:
    """What the message says of a place, by the definition of nav_msgs/OccupancyGrid."""
    info = message.info
    column = int((x - info.origin.position.x) // info.resolution)
    row = int((y - info.origin.position.y) // info.resolution)
    return message.data[row * info.width + column]


def test_cells_come_row_after_row_from_the_origin_on() -> None:
    cells = np.array([[100, 0, -1], [-1, 0, 0]], np.int8)
    message = grid_message(header(1_500_000_000, "map"), Occupancy(cells, np.array([-0.5, 1.0]), 0.25))
    message = deserialize_message(serialize_message(message), OccupancyGrid)
    assert list(message.data) == [100, 0, -1, -1, 0, 0]
    assert (message.info.width, message.info.height, message.info.resolution) == (3, 2, 0.25)
    origin = message.info.origin
    assert (origin.position.x, origin.position.y, origin.position.z) == (-0.5, 1.0, 0.0)
    assert (origin.orientation.x, origin.orientation.y, origin.orientation.z, origin.orientation.w) == (0.0, 0.0, 0.0, 1.0)
    assert (message.header.frame_id, message.header.stamp.sec) == ("map", 1)
    assert message.info.map_load_time == message.header.stamp


def test_no_grid_where_it_is_not_enabled_or_the_map_too_large() -> None:
    told: list[str] = []
    grid, m = MapGrid(told.append), KeyframeMap()
    place(m)
    assert finish(grid.steps(header(0, "map"), m, GridConfig())) is None
    assert told == []
    assert finish(grid.steps(header(0, "map"), m, GridConfig(enabled=True, max_cells=10))) is None
    assert "max_cells is 10" in told[0]
    assert finish(grid.steps(header(0, "map"), m, GridConfig(enabled=True))).info.width > 10


def test_the_node_publishes_a_latched_grid_once_it_is_enabled(ros: Ros) -> None:
    ros.init("-p", "map_publish_period:=0.0", "-p", "cloud.min_conf:=0.5")
    node, listener = MappingNode(Stop()), Node("listener")
    grids: list[OccupancyGrid] = []
    clouds: list[PointCloud2] = []
    listener.create_subscription(OccupancyGrid, "/st3r_mapping/grid", grids.append, latched())
    listener.create_subscription(PointCloud2, "/st3r_mapping/map_cloud", clouds.append, latched())
    node.start()
    ros.spin(node)
    ros.spin(listener)
    wait_until(lambda: node.session is not None and clouds, "the empty cloud")
    assert node.session is not None
    keyframe_map = node.session.mapper.map

    node.worker.run(lambda: (place(keyframe_map), node.session.outputs.mark_changed())).result()
    wait_until(lambda: clouds[-1].width > 1000, "the cloud of the wall")
    z = np.frombuffer(clouds[-1].data, "<f4").reshape(-1, 5)[:, 2]
    assert z.min() < 0.0 and z.max() > 0.5
    assert grids == []  # which is off by default

    def change(**values: object) -> None:
        named = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        assert node.set_parameters_atomically(named).successful

    change(grid__enabled=True)
    wait_until(lambda: grids, "a grid")
    message = grids[-1]
    assert message.header.frame_id == "map"
    assert (cell(message, 2.02, 0.0), cell(message, 1.0, 0.0)) == (100, 0)
    late: list[OccupancyGrid] = []
    listener.create_subscription(OccupancyGrid, "/st3r_mapping/grid", late.append, latched())
    wait_until(lambda: late, "the latched grid")
    assert late[0] == message

    change(grid__resolution=0.1)
    wait_until(lambda: abs(grids[-1].info.resolution - 0.1) < 1e-6, "a coarser grid")
    change(cloud__min_height=0.25)
    wait_until(lambda: np.frombuffer(clouds[-1].data, "<f4").reshape(-1, 5)[:, 2].min() > 0.2, "a cloud without the ground")
    change(cloud__max_points=100)
    wait_until(lambda: clouds[-1].width <= 100, "a cloud of few points")
