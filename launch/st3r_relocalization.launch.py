# SPDX-License-Identifier: Apache-2.0
"""The relocalization node, configured and activated, with or without RViz."""

from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

SHARE = Path(get_package_share_directory("st3r_ros"))
FROM_FILE = "as in params_file"
OVERRIDES = {
    "image_transport": "raw or compressed",
    "reference": "image file that poses are relative to",
    "reference_camera": "calibration file of that image",
    "reference_dir": "folder that keeps references for the next start",
    "map_path": "folder of a saved map",
    "reference_frame": "TF frame of the reference, or of the map",
    "child_frame": "TF frame whose pose is published; '' for the camera",
    "pair_model": "the two-view model",
    "checkpoint": "weights file of the pair model",
}
NUMBERS = {"rate": "live images localized per second; 0: on ~/relocalize only"}
ARGUMENTS = {
    "namespace": ("", "namespace of the node and its topics"),
    "use_sim_time": ("false", "follow /clock"),
    "params_file": (str(SHARE / "config" / "relocalization.yaml"), "parameters of the node"),
    "image_topic": ("image", "topic of the images, without /compressed"),
    "camera_info_topic": ("camera_info", "topic of the calibration; by default the sibling of image_topic"),
    "autostart": ("true", "configure and activate the node"),
    "rviz": ("false", "start RViz"),
    "rviz_config": (str(SHARE / "config" / "st3r.rviz"), "configuration of RViz"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}


def make_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    types = {**dict.fromkeys(OVERRIDES, str), **dict.fromkeys(NUMBERS, float)}
    given = {name: LaunchConfiguration(name).perform(context) for name in types}
    overrides = {name: ParameterValue(value, value_type=types[name]) for name, value in given.items() if value != FROM_FILE}
    sim_time = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    relocalization = LifecycleNode(
        package="st3r_ros",
        executable="relocalization_node",
        name="st3r_relocalization",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), overrides, sim_time, {"autostart": False}],
        remappings=[
            ("image", LaunchConfiguration("image_topic")),
            ("camera_info", LaunchConfiguration("camera_info_topic")),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    autostart = IfCondition(LaunchConfiguration("autostart"))
    configure = _transition(relocalization, Transition.TRANSITION_CONFIGURE, condition=autostart)
    activate = _transition(relocalization, Transition.TRANSITION_ACTIVATE)
    when_configured = OnStateTransition(
        target_lifecycle_node=relocalization, start_state="configuring", goal_state="inactive", entities=[activate]
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", LaunchConfiguration("rviz_config")],
        parameters=[sim_time],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return [RegisterEventHandler(when_configured, condition=autostart), relocalization, configure, rviz]


def _transition(node: LifecycleNode, transition: int, **options: Any) -> EmitEvent:
    event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
    return EmitEvent(event=event, **options)


def generate_launch_description() -> LaunchDescription:
    arguments = [DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in ARGUMENTS.items()]
    overrides = [
        DeclareLaunchArgument(name, default_value=FROM_FILE, description=text) for name, text in (OVERRIDES | NUMBERS).items()
    ]
    return LaunchDescription([*arguments, *overrides, OpaqueFunction(function=make_nodes)])
