# SPDX-License-Identifier: Apache-2.0
"""The mapping node, with or without RViz."""

from pathlib import Path

from launch import LaunchDescription
from launch.launch_description_sources import load_python_launch_file_as_module

from st3r_ros.config import MappingNodeConfig

st3r_node = load_python_launch_file_as_module(str(Path(__file__).with_name("st3r_node.py")))


def generate_launch_description() -> LaunchDescription:
    return st3r_node.describe("mapping", MappingNodeConfig)
