# SPDX-License-Identifier: Apache-2.0
"""The camera node on a robot: publishes a webcam or a recording for a mapping node elsewhere, also over a lossy link."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import load_python_launch_file_as_module
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from st3r_ros.config import CameraNodeConfig

st3r_node = load_python_launch_file_as_module(str(Path(__file__).with_name("st3r_node.py")))
CAMERA = st3r_node.settings(CameraNodeConfig)
PACED = str(st3r_node.SHARE / "config" / "fastdds_lossy_paced.xml")
"""The profile and the variable it needs: docs/distributed.md."""
LOSSY_LINK = {
    "FASTDDS_DEFAULT_PROFILES_FILE": PACED,
    "FASTRTPS_DEFAULT_PROFILES_FILE": PACED,
    "RMW_FASTRTPS_PUBLICATION_MODE": "ASYNCHRONOUS",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    lossy = IfCondition(LaunchConfiguration("lossy_link")).evaluate(context)
    camera = Node(
        package="st3r_ros",
        executable="camera_node",
        name="st3r_camera",
        namespace=LaunchConfiguration("namespace"),
        parameters=[st3r_node.given(context, CAMERA)],
        remappings=st3r_node.camera_topics(context),
        additional_env=LOSSY_LINK if lossy else {},
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        on_exit=Shutdown(),
        output="screen",
    )
    return [camera]


def generate_launch_description() -> LaunchDescription:
    arguments = {
        "namespace": ("", "Namespace of the node and its topics."),
        "image_topic": ("image", "Topic of the images; JPEG images are on <image_topic>/compressed."),
        "camera_info_topic": st3r_node.COMMON["camera_info_topic"],
        "lossy_link": ("false", "Use config/fastdds_lossy_paced.xml, for a link that loses packets."),
        "log_level": ("info", "What is logged."),
    }
    return LaunchDescription(
        [
            *st3r_node.declare_texts(arguments),
            *st3r_node.declare(CAMERA),
            OpaqueFunction(function=start),
        ]
    )
