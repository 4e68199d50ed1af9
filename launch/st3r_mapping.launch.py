# SPDX-License-Identifier: Apache-2.0
"""The mapping node, with or without RViz and the viewer in the browser."""

from pathlib import Path

from launch import LaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import load_python_launch_file_as_module
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from st3r_ros.config import MappingNodeConfig

st3r_node = load_python_launch_file_as_module(str(Path(__file__).with_name("st3r_node.py")))
VIEWER = {
    "viewer": ("false", "Start the viewer in the browser; the log has its address."),
    "viewer_config": (str(st3r_node.SHARE / "config" / "viewer.yaml"), "Parameter file of the viewer."),
}


def generate_launch_description() -> LaunchDescription:
    viewer = Node(
        package="st3r_ros",
        executable="viewer_node",
        name="st3r_viewer",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("viewer_config")],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        condition=IfCondition(LaunchConfiguration("viewer")),
        output="screen",
    )
    return st3r_node.describe("mapping", MappingNodeConfig, VIEWER, viewer)
