# SPDX-License-Identifier: Apache-2.0
"""config/foxglove_layout.json: a tree of panels that exist, and topics, fields and services that the mapping node has."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ros_harness import Ros, wait_until

from st3r_ros.msg import MappingStatus
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop

LAYOUT: dict[str, Any] = json.loads((Path(__file__).parents[2] / "config" / "foxglove_layout.json").read_text())
PANELS: dict[str, dict[str, Any]] = LAYOUT["configById"]
KINDS = {"3D", "Image", "RawMessages", "StateTransitions", "Plot", "DiagnosticSummary", "CallService"}
NODE = "/st3r_mapping/"


def panels_of(tree: str | dict[str, Any]) -> Iterator[str]:
    """The panels of a layout: a panel, or two layouts in a row or a column."""
    if isinstance(tree, str):
        yield tree
        return
    assert set(tree) == {"direction", "first", "second", "splitPercentage"}
    assert tree["direction"] in ("row", "column") and 0 < tree["splitPercentage"] < 100
    yield from panels_of(tree["first"])
    yield from panels_of(tree["second"])


def values_of(panels: Any, key: str) -> list[str]:
    """Every text under a key, however deep."""
    if isinstance(panels, list):
        return [value for item in panels for value in values_of(item, key)]
    if not isinstance(panels, dict):
        return []
    here = [panels[key]] if isinstance(panels.get(key), str) else []
    return here + [value for item in panels.values() for value in values_of(item, key)]


def test_every_panel_is_shown_once_and_has_its_settings() -> None:
    shown = list(panels_of(LAYOUT["layout"]))
    assert sorted(shown) == sorted(PANELS)
    assert {panel.split("!")[0] for panel in shown} == KINDS


@pytest.mark.parametrize("value", values_of(PANELS, "value"))
def test_what_is_plotted_is_a_field_of_the_status(value: str) -> None:
    topic, _, field = value.partition(".")
    assert topic == f"{NODE}status"
    assert field in MappingStatus.get_fields_and_field_types()


def test_topics_and_services_are_those_of_the_mapping_node(ros: Ros) -> None:
    ros.init("-p", "autostart:=true", "-p", "base_frame:=''")
    node = MappingNode(Stop())
    ros.spin(node)
    node.start()
    topics, services = set(PANELS["3D!st3rmap"]["topics"]), set(values_of(PANELS, "serviceName"))
    topics |= set(values_of(PANELS, "topicPath"))
    images = PANELS["Image!st3rimage"]["imageMode"]
    topics |= {images["imageTopic"], images["calibrationTopic"]}

    def missing() -> set[str]:
        known = {name for name, _ in node.get_topic_names_and_types()} | {name for name, _ in node.get_service_names_and_types()}
        return (topics | services) - known

    wait_until(lambda: not missing(), f"the topics and services of the layout, {missing()}")
