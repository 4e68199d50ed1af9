# SPDX-License-Identifier: Apache-2.0
"""Plays a recording, a webcam or the simulated room into the mapping node."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("st3r_ros"))
ARGUMENTS = {
    "source": ("sim:room", "image folder, video, TUM sequence, bag, webcam index, or sim:room"),
    "camera": ("", "calibration file (ROS yaml); by default the one that comes with the source"),
    "rate": ("1.0", "speed of the playing relative to the stamps"),
    "loop": ("false", "begin again at the end"),
    "base_frame": ("", "TF frame of the robot; by default there is only a camera"),
}


def generate_launch_description() -> LaunchDescription:
    arguments = [DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in ARGUMENTS.items()]
    kinds = {"source": str, "camera": str, "rate": float, "loop": bool}
    parameters = {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind in kinds.items()}
    mapping = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "st3r_mapping.launch.py")),
        launch_arguments={"base_frame": LaunchConfiguration("base_frame")}.items(),
    )
    camera = Node(
        package="st3r_ros",
        executable="camera_node",
        name="st3r_camera",
        namespace=LaunchConfiguration("namespace", default=""),
        parameters=[parameters],
        output="screen",
    )
    return LaunchDescription([*arguments, mapping, camera])
