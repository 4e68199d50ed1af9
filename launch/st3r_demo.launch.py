# SPDX-License-Identifier: Apache-2.0
"""Plays a recording, a webcam or the simulated room into the mapping node."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource, load_python_launch_file_as_module
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from st3r_ros.config import CameraNodeConfig

FOLDER = Path(__file__).parent
st3r_node = load_python_launch_file_as_module(str(FOLDER / "st3r_node.py"))
CAMERA = {name: item for name, item in st3r_node.settings(CameraNodeConfig).items() if name != "publish_clock"}


def start_camera(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    clock = {"publish_clock": st3r_node.sim_time(context)}
    camera = Node(
        package="st3r_ros",
        executable="camera_node",
        name="st3r_camera",
        namespace=LaunchConfiguration("namespace"),
        parameters=[st3r_node.given(context, CAMERA), clock],
        remappings=st3r_node.camera_topics(context),
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return [camera]


def end_all_when_one_fails(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    return Shutdown(reason=f"{event.process_name} failed") if event.returncode else None


def generate_launch_description() -> LaunchDescription:
    """Has the arguments of the mapping node; the camera node publishes on its topics."""
    arguments = [
        DeclareLaunchArgument("source", default_value="sim:room", description=CAMERA["source"].metadata["description"]),
        DeclareLaunchArgument(
            "base_frame", default_value="", description="The robot's base frame; '' for the camera itself (default)."
        ),
        *st3r_node.declare({name: item for name, item in CAMERA.items() if name != "source"}),
    ]
    mapping = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(FOLDER / "st3r_mapping.launch.py")))
    watch = RegisterEventHandler(OnProcessExit(on_exit=end_all_when_one_fails))
    return LaunchDescription([*arguments, watch, mapping, OpaqueFunction(function=start_camera)])
