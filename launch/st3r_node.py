# SPDX-License-Identifier: Apache-2.0
"""Common parts of the launch files: the settings of a node as launch arguments, and the node itself, with or without RViz."""

from __future__ import annotations

import dataclasses
import difflib
import re
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch.utilities.type_utils import coerce_to_type
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from st3r_ros.config import Validated
from st3r_ros.pair.mast3r.config import MASt3RPairConfig

SHARE = Path(get_package_share_directory("st3r_ros"))
FROM_FILE = "as in params_file"
QUOTED_EMPTY = ("''", '""')
"""The empty string on the command line: ros2 launch refuses `name:=` without a value."""
Texts = dict[str, tuple[str, str]]
"""Arguments that are not parameters: {name: (default, description)}."""
COMMON: Texts = {
    "namespace": ("", "Namespace of the node and its topics."),
    "use_sim_time": ("false", "Follow /clock."),
    "image_topic": ("image", "Topic of the images, without /compressed."),
    "camera_info_topic": ("camera_info", "Topic of the calibration; by default next to image_topic."),
    "rviz": ("false", "Start RViz."),
    "rviz_config": (str(SHARE / "config" / "st3r.rviz"), "RViz configuration file."),
}
LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"]
SAVING_S = "120"
"""Seconds that a node has to write its map at shutdown before launch kills it."""

Settings = dict[str, dataclasses.Field]
"""Parameters by name. The launch argument has the last part of the name: mast3r.device is `device`."""


def settings(config: type[Validated]) -> Settings:
    """The parameters of a configuration dataclass."""
    return {item.name: item for item in dataclasses.fields(config)}


def declare_texts(texts: Texts) -> list[DeclareLaunchArgument]:
    """The arguments that are not parameters."""
    return [DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in texts.items()]


def declare(items: Settings, default: str | None = None) -> list[DeclareLaunchArgument]:
    """An argument for each parameter, with defaults that differ from those of the parameters."""
    return [_declare(_argument(name), item, str(item.default) if default is None else default) for name, item in items.items()]


def given(context: LaunchContext, items: Settings) -> dict[str, Any]:
    """Values of the parameters whose arguments are not `FROM_FILE`.

    Raises:
        RuntimeError: a value does not have the parameter's type.
    """
    texts = {name: LaunchConfiguration(_argument(name)).perform(context) for name in items}
    kinds = {name: type(item.default) for name, item in items.items()}
    return {name: _typed(_argument(name), text, kinds[name]) for name, text in texts.items() if text != FROM_FILE}


def sim_time(context: LaunchContext) -> bool:
    """Whether `use_sim_time` is set.

    Raises:
        RuntimeError: it is neither true nor false.
    """
    use: bool = _typed("use_sim_time", LaunchConfiguration("use_sim_time").perform(context), bool)
    return use


def camera_topics(context: LaunchContext) -> list[tuple[str, str]]:
    """Remappings of a camera node that publishes for `image_topic` and `camera_info_topic`."""
    image, info = (LaunchConfiguration(name).perform(context) for name in ("image_topic", "camera_info_topic"))
    if info == COMMON["camera_info_topic"][0]:
        folder, slash, _ = image.rpartition("/")
        info = f"{folder}{slash}camera_info"
    return [("image", image), ("image/compressed", f"{image}/compressed"), ("camera_info", info)]


def describe(
    node: str, config: type[Validated], more: Texts | None = None, *others: LaunchDescriptionEntity
) -> LaunchDescription:
    """A lifecycle node that subscribes to images. node: its name without st3r_. config: its parameters.

    more: the arguments of `others`, which are started with it.
    """
    items = settings(config) | {"mast3r.device": settings(MASt3RPairConfig)["device"]}
    file = str(SHARE / "config" / f"{node}.yaml")
    arguments = [
        *declare_texts(COMMON | (more or {})),
        DeclareLaunchArgument("log_level", default_value="info", description="What is logged.", choices=LOG_LEVELS),
        DeclareLaunchArgument(
            "params_file", default_value=file, description="Parameter file of the node; arguments override it."
        ),
        *declare(items, FROM_FILE),
    ]
    start = OpaqueFunction(function=_start, args=[node, items, [argument.name for argument in arguments]])
    return LaunchDescription([*arguments, start, *others])


def _start(context: LaunchContext, node: str, items: Settings, names: list[str]) -> list[LaunchDescriptionEntity]:
    file = Path(LaunchConfiguration("params_file").perform(context))
    if not file.is_file():  # launch would only warn and use the defaults
        raise RuntimeError(f"params_file is '{file}', which is not a file.")
    clock = {"use_sim_time": sim_time(context)}
    managed = Node(
        package="st3r_ros",
        executable=f"{node}_node",
        name=f"st3r_{node}",
        namespace=LaunchConfiguration("namespace"),
        parameters=[str(file), given(context, items), clock],
        remappings=[(topic, LaunchConfiguration(f"{topic}_topic")) for topic in ("image", "camera_info")],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        sigkill_timeout=SAVING_S,
        output="screen",
    )
    wanted = IfCondition(LaunchConfiguration("rviz")).evaluate(context)
    return [*_misspelt(context, names), managed, *([_rviz(context, clock)] if wanted else [])]


def _rviz(context: LaunchContext, clock: dict[str, bool]) -> Node:
    """RViz with the topics of its configuration moved to the node's namespace."""
    config = Path(LaunchConfiguration("rviz_config").perform(context))
    if not config.is_file():  # RViz would show an empty window
        raise RuntimeError(f"rviz_config is '{config}', which is not a file.")
    try:
        get_package_share_directory("rviz2")
    except PackageNotFoundError as error:
        raise RuntimeError("rviz is true, but rviz2 is not installed: sudo apt install ros-$ROS_DISTRO-rviz2.") from error
    ours = sorted(set(re.findall(r"^ *Value: /((?:st3r_\w+/\w+)|initialpose)$", config.read_text(), re.MULTILINE)))
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(config)],
        parameters=[clock],
        remappings=[("/image", LaunchConfiguration("image_topic")), *((f"/{topic}", topic) for topic in ours)],
    )


def _argument(parameter: str) -> str:
    return parameter.rpartition(".")[2]


def _declare(name: str, item: dataclasses.Field, default: str) -> DeclareLaunchArgument:
    choices = [*item.metadata["choices"], default] if item.metadata["choices"] else None
    return DeclareLaunchArgument(name, default_value=default, description=item.metadata["description"], choices=choices)


def _typed(name: str, text: str, kind: type) -> Any:
    if kind is str:
        return ParameterValue("" if text in QUOTED_EMPTY else text, value_type=str)
    try:
        return coerce_to_type(text, kind)
    except ValueError as error:
        raise RuntimeError(f"{name} is '{text}'; it must be a {kind.__name__}.") from error


def _misspelt(context: LaunchContext, names: list[str]) -> list[LogInfo]:
    """Warnings about misspelt arguments, which launch accepts silently."""
    unknown = {word.partition(":=")[0] for word in context.argv if ":=" in word} - set(names)
    meant = {name: difflib.get_close_matches(name, names, n=1, cutoff=0.8) for name in sorted(unknown)}
    return [LogInfo(msg=f"There is no argument {name}; did you mean {close[0]}?") for name, close in meant.items() if close]
