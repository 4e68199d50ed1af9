# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference.md: topics, services, parameters, launch arguments and messages, as the code has them (`make docs`).

Topics, services and parameters are those of nodes that run here; only what a topic carries is said in this file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rclpy
from launch_arguments import launch_arguments
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from st3r_ros.ros import camera_node, mapping_node, relocalization_node, viewer_node
from st3r_ros.ros.isolation import isolated_environment
from st3r_ros.ros.process import Stop

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference.md"
NODES = {
    "mapping_node": (mapping_node, mapping_node.MappingNode),
    "relocalization_node": (relocalization_node, relocalization_node.RelocalizationNode),
    "camera_node": (camera_node, camera_node.CameraNode),
    "viewer_node": (viewer_node, viewer_node.ViewerNode),
}
NAMESPACE = "/somewhere"
"""The nodes run in it, so that relative names tell themselves from absolute ones."""
ARGUMENTS = [
    "-r",
    f"__ns:={NAMESPACE}",
    "-p",
    "publish_clock:=true",
    "-p",
    "port:=0",
    "--log-level",
    "warn",
]
OF_ROS = {"/rosout", "/parameter_events"}
NOT_OURS = {"use_sim_time", "start_type_description_service"}
DIAGNOSTICS = "how the node is, once a second, in every lifecycle state"
INPUTS = {
    "image": "the images; with another `image_transport`: `sensor_msgs/msg/CompressedImage` on `<image topic>/compressed`, "
    "`foxglove_msgs/msg/CompressedVideo` on `<image topic>/foxglove`, `ffmpeg_image_transport_msgs/msg/FFMPEGPacket` on "
    "`<image topic>/ffmpeg`",
    "camera_info": "the calibration; where it is not remapped, the sibling of the image topic",
    "/tf": "where the camera is on the robot, odometry, and who else tells what this node tells",
    "/tf_static": "where the camera is on the robot",
}
CONTENT = {
    "st3r_mapping": {
        **INPUTS,
        "initialpose": "about where the robot is: a lost camera is looked for there first",
        "~/map_cloud": "the map in `map_frame`, thinned by voxels: x, y, z, rgb, conf; when it has changed and somebody listens",
        "~/keyframe_cloud": "the newest keyframe, one point per pixel, in the frame of the images",
        "~/keyframes": "keyframes and the edges between them",
        "~/pose": "of `base_frame` in `map_frame`, at the image's stamp",
        "~/odometry": "the same with the velocity since the last image",
        "~/path": "every tracked frame of this run, corrected",
        "~/markers": "keyframes and the edges between them for RViz, coloured by their kind",
        "~/grid": "the map seen from above, for navigation; with `grid.enabled`",
        "~/status": "state, one sentence about it, counts, latencies, scale, memory",
        "/diagnostics": DIAGNOSTICS,
        "/tf": "out: `map_frame` -> `base_frame` at the image's stamp, or `map_frame` -> `odom_frame`; in: " + INPUTS["/tf"],
    },
    "st3r_relocalization": {
        **INPUTS,
        "~/result": "the outcome of every query, also where the camera was not found",
        "~/pose": "of `child_frame` in `reference_frame`, only where the camera was found",
        "~/matches": "the image beside the reference with their matches drawn; drawn when somebody listens",
        "/diagnostics": DIAGNOSTICS,
        "/tf": "out: `reference_frame` -> `child_frame`, only where the camera was found; in: where the camera is on the robot",
    },
    "st3r_camera": {
        "image": "rgb8, when somebody listens",
        "image/compressed": "JPEG, when somebody listens",
        "camera_info": "the calibration of each image; K = 0 where the source has none",
        "/clock": "the stamp of each image; with `publish_clock`",
    },
    "st3r_viewer": {
        "st3r_mapping/map_cloud": "the map",
        "st3r_mapping/keyframe_cloud": "pictures of the keyframes; with `thumbnails`",
        "st3r_mapping/keyframes": "keyframes and edges",
        "st3r_mapping/path": "the path",
        "st3r_mapping/pose": "where the camera is",
        "st3r_mapping/status": "what is written beside the map",
    },
}
TRIGGERS = {
    "~/reset": "Forgets the map; in `mode: localization`, looks for the camera in it again.",
    "~/pause": "Ignores images until `~/resume`; answers when the one in work is done.",
    "~/resume": "Listens to images again.",
}
HEAD = """# Reference

Written by `make docs` from the code; do not edit. The README says what it is all for.

Names without a slash and with `~/` move with namespaces and remapping: `~/pose` of `st3r_mapping` is `/st3r_mapping/pose`.
QoS: reliability, durability, depth. Each node has ROS's own parameter services, too; `st3r_mapping` and `st3r_relocalization`
those of a lifecycle node, and the parameters `qos_overrides.<topic>.publisher.depth`, `.history`, `.reliability` of their topics
(`.subscription.` for what they listen to; of `image` also `.durability` and `.deadline`).
Parameters marked live can be changed while the node runs; the others are read-only.
"""


def page() -> str:
    """The text of docs/reference.md."""
    os.environ.update(isolated_environment())
    parameters = {executable: parameter_table(node) for executable, node in running([])}
    parts = [HEAD]
    for executable, node in running(ARGUMENTS):
        about = (NODES[executable][0].__doc__ or "").partition(": ")[2].splitlines()[0]
        parts.append(f"## Node `{node.get_name()}`\n\n`ros2 run st3r_ros {executable}`: {about}\n")
        parts += ["### Topics\n", topic_table(node), *service_tables(node), "### Parameters\n", parameters[executable]]
    parts.append("## Launch files\n")
    for file in sorted((ROOT / "launch").glob("*.launch.py")):
        rows = [[f"`{a.name}`", code(a.default), ", ".join(a.choices or ()), a.description] for a in launch_arguments(file)]
        parts += [f"### `{file.name}`\n", table(["argument", "default", "choices", "what it is"], rows)]
    parts.append("## Messages and services\n")
    for interface in [*sorted((ROOT / "msg").glob("*.msg")), *sorted((ROOT / "srv").glob("*.srv"))]:
        parts.append(interface_section(interface))
    return "\n".join(parts)


def running(arguments: list[str]) -> Iterator[tuple[str, Any]]:
    """Each node, without arguments as it is made, with arguments once it has started. It ends when the next one is asked for."""
    for executable, (_, kind) in NODES.items():
        rclpy.init(args=["--ros-args", *arguments] if arguments else None, signal_handler_options=SignalHandlerOptions.NO)
        stop = Stop()
        node = kind(stop)
        try:
            if arguments and executable != "camera_node":  # which has its topics before it plays
                node.start()
            if stop.exit_code:
                raise SystemExit(f"{executable} did not start; its log says why.")
            yield executable, node
        finally:
            node.close() if arguments else node.destroy_node()
            rclpy.try_shutdown()


def topic_table(node: Node) -> str:
    """Every topic of a running node.

    Raises:
        SystemExit: `CONTENT` lacks a topic, or has one that is not there.
    """
    ends = [("out", end) for end in node.publishers] + [("in", end) for end in node.subscriptions]
    found: dict[str, tuple[list[str], Any]] = {}
    for direction, end in ends:
        name = short_name(end.topic_name, node.get_name())
        if name not in OF_ROS and not name.endswith("transition_event"):
            found.setdefault(name, ([], end))[0].append(direction)
    said = CONTENT[node.get_name()]
    for name in sorted(set(said) ^ set(found)):
        raise SystemExit(f"The topic {name} of {node.get_name()} is only in {'CONTENT' if name in said else 'the node'}.")
    rows = [
        [
            f"`{name}`",
            ", ".join(found[name][0]),
            f"`{type_name(found[name][1].msg_type)}`",
            qos_text(found[name][1].qos_profile),
            text,
        ]
        for name, text in sorted(said.items(), key=lambda item: found[item[0]][0][0] == "in")
    ]
    return table(["topic", "", "type", "QoS", "what it carries"], rows)


def service_tables(node: Node) -> list[str]:
    """The services that a node offers, and those it calls."""
    parts = []
    offered = [service for service in node.services if type_name(service.srv_type).startswith(("st3r_ros/", "std_srvs/"))]
    if offered:
        rows = []
        for service in sorted(offered, key=lambda item: item.srv_name):
            file = ROOT / "srv" / f"{service.srv_type.__name__}.srv"
            about = introduction(file)[0] if file.exists() else TRIGGERS[service.srv_name]
            rows.append([f"`{service.srv_name}`", f"`{type_name(service.srv_type)}`", about])
        parts += ["### Services\n", table(["service", "type", "what it does"], rows)]
    calls = sorted({short_name(client.srv_name, node.get_name()) for client in node.clients})
    if calls:
        parts.append(f"It calls {', '.join(f'`{name}`' for name in calls)}.\n")
    return parts


def parameter_table(node: Node) -> str:
    """Every parameter of a node that was started without any."""
    rows = []
    for name, parameter in node.get_parameters_by_prefix("").items():
        if name in NOT_OURS or name.startswith("qos_overrides."):
            continue
        descriptor = node.describe_parameter(name)
        bounds = [*descriptor.integer_range, *descriptor.floating_point_range]
        limits = range_text(bounds[0].from_value, bounds[0].to_value) if bounds else descriptor.additional_constraints
        kind = parameter.type_.name.lower()
        default = (
            str(parameter.value).lower() if kind == "bool" else number_text(parameter.value) if bounds else str(parameter.value)
        )
        live = "" if descriptor.read_only else "live"
        limits = limits.removeprefix("One of: ").removesuffix(".")
        rows.append([f"`{name}`", kind, code(default), limits, live, descriptor.description])
    return table(["parameter", "type", "default", "range", "", "what it is"], rows)


def range_text(low: float, high: float) -> str:
    """A closed range; limits at the end of what the type can hold are none."""
    endless = 1e18
    if high > endless:
        return f">= {number_text(low)}"
    return f"{number_text(low)} to {number_text(high)}" if low > -endless else f"<= {number_text(high)}"


def number_text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.10g}"


def interface_section(file: Path) -> str:
    """The fields of a .msg or .srv file with their comments."""
    about, lines = introduction(file)
    parts = [f"### `st3r_ros/{file.parent.name}/{file.stem}`\n", f"{about}\n"]
    halves = re.split(r"^---$", "\n".join(lines), flags=re.MULTILINE)
    for title, half in zip(("Request", "Response") if len(halves) == 2 else ("Field",), halves, strict=True):
        rows: list[list[str]] = []
        for line in filter(None, map(str.strip, half.splitlines())):
            definition, _, comment = (part.strip() for part in line.partition("#"))
            if definition:
                kind, name = definition.split(maxsplit=1)
                rows.append([f"`{name}`", f"`{kind}`", comment])
            else:  # the comment goes on
                rows[-1][2] += f" {comment}"
        parts.append(table([title.lower(), "type", "what it is"], rows))
    return "\n".join(parts)


def introduction(file: Path) -> tuple[str, list[str]]:
    """What a .msg or .srv file says of itself, and the lines after that."""
    lines = file.read_text(encoding="utf-8").splitlines()[1:]
    end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.lstrip("# ") for line in lines[:end]), lines[end:]


# Text ---------------------------------------------------------------------------------------------------------------------


def short_name(name: str, node: str) -> str:
    """A resolved name as it is before namespaces."""
    relative = name.removeprefix(f"{NAMESPACE}/")
    return f"~/{relative.removeprefix(f'{node}/')}" if relative.startswith(f"{node}/") else relative


def type_name(kind: Any) -> str:
    """`sensor_msgs/msg/Image` of the class."""
    package, folder, _ = kind.__module__.split(".", 2)
    return f"{package}/{folder}/{kind.__name__}"


def qos_text(qos: QoSProfile) -> str:
    return f"{qos.reliability.name}, {qos.durability.name}, {qos.depth}".lower().replace("_", " ")


def code(text: str) -> str:
    return f"`{text}`" if text else "`''`"


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *([plain(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plain(cell: str) -> str:
    """A cell in which nothing is taken for a column or, outside of code, for a tag."""
    parts = cell.replace("|", r"\|").split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}.")
