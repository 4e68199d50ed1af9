# SPDX-License-Identifier: Apache-2.0
"""The mapping node, configured and activated, with or without RViz."""

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
    "map_frame": "TF frame of the map",
    "base_frame": "TF frame of the robot; '' when there is only a camera",
    "odom_frame": "TF frame of odometry; '' when there is none",
    "pair_model": "the two-view model",
    "checkpoint": "weights file of the pair model",
    "output_dir": "folder for map and trajectory at the end",
}
ARGUMENTS = {
    "namespace": ("", "namespace of the node and its topics"),
    "use_sim_time": ("false", "follow /clock"),
    "params_file": (str(SHARE / "config" / "mapping.yaml"), "parameters of the node"),
    "image_topic": ("image", "topic of the images, without /compressed"),
    "camera_info_topic": ("camera_info", "topic of the calibration; by default the sibling of image_topic"),
    "autostart": ("true", "configure and activate the node"),
    "rviz": ("false", "start RViz"),
    "rviz_config": (str(SHARE / "config" / "st3r.rviz"), "configuration of RViz"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}


def make_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    overrides = {name: ParameterValue(value, value_type=str) for name, value in given.items() if value != FROM_FILE}
    sim_time = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    mapping = LifecycleNode(
        package="st3r_ros",
        executable="mapping_node",
        name="st3r_mapping",
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
    configure = _transition(mapping, Transition.TRANSITION_CONFIGURE, condition=autostart)
    activate = _transition(mapping, Transition.TRANSITION_ACTIVATE)
    when_configured = OnStateTransition(
        target_lifecycle_node=mapping, start_state="configuring", goal_state="inactive", entities=[activate]
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", LaunchConfiguration("rviz_config")],
        parameters=[sim_time],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return [RegisterEventHandler(when_configured, condition=autostart), mapping, configure, rviz]


def _transition(node: LifecycleNode, transition: int, **options: Any) -> EmitEvent:
    event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
    return EmitEvent(event=event, **options)


def generate_launch_description() -> LaunchDescription:
    arguments = [DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in ARGUMENTS.items()]
    overrides = [DeclareLaunchArgument(name, default_value=FROM_FILE, description=text) for name, text in OVERRIDES.items()]
    return LaunchDescription([*arguments, *overrides, OpaqueFunction(function=make_nodes)])
