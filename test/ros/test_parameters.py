# SPDX-License-Identifier: Apache-2.0
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_harness import Ros

from st3r_ros.config import (
    NODE_SETTINGS,
    CloudConfig,
    MapperConfig,
    MappingNodeConfig,
    MappingSettings,
    Validated,
    setting,
)
from st3r_ros.errors import ConfigError
from st3r_ros.pair import with_pair_models
from st3r_ros.ros.nodes import parameters

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import parameter_files

CONFIG = Path(__file__).parents[2] / "config"
MAPPING_YAML = CONFIG / "mapping.yaml"
FILES = {name: with_pair_models(groups) if name != "viewer" else groups for name, groups in NODE_SETTINGS.items()}


@dataclass(frozen=True)
class Example(Validated):
    count: int = setting(3, "How many.", low=1, high=5)
    size: float = setting(0.5, "How large.", low=0.0, live=True)
    mode: str = setting("slow", "How.", choices=("slow", "fast"), live=True)
    wild: bool = setting(False, "Whether.", live=True)


GROUPS: dict[str, type[Validated]] = {"": MappingNodeConfig, "example": Example}


def make_node(ros: Ros, *arguments: str) -> Node:
    ros.init(*arguments)
    node = Node("parameters")
    parameters.declare(node, GROUPS)
    return node


def test_every_field_is_a_described_parameter_with_its_default(ros: Ros) -> None:
    node = make_node(ros)
    for group, kind in GROUPS.items():
        assert parameters.read(node, group, kind) == kind()
        for item in dataclasses.fields(kind):
            descriptor = node.describe_parameter(f"{group}.{item.name}".lstrip("."))
            assert descriptor.description == item.metadata["description"]
            assert descriptor.read_only is not item.metadata["live"]
    count, size = node.describe_parameter("example.count"), node.describe_parameter("example.size")
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (1, 5)
    assert size.floating_point_range[0].from_value == 0.0
    assert node.describe_parameter("example.mode").additional_constraints == "One of: slow, fast."


def test_values_from_outside_are_read_back(ros: Ros) -> None:
    node = make_node(
        ros, "-p", "example.count:=5", "-p", "example.size:=2.25", "-p", "example.mode:=fast", "-p", "example.wild:=true"
    )
    assert parameters.read(node, "example", Example) == Example(5, 2.25, "fast", True)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("example.count:=9", ("example.count", "9", "5")),
        ("example.size:=-0.1", ("example.size", "-0.1")),
        ("example.size:=large", ("example.size", "large", "DOUBLE")),
        ("example.wild:=3", ("example.wild", "BOOL")),
    ],
)
def test_a_bad_value_from_outside_is_a_clear_error(ros: Ros, argument: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_node(ros, "-p", argument)
    assert all(word in str(caught.value) for word in words)


def test_a_bad_choice_from_outside_is_a_clear_error(ros: Ros) -> None:
    node = make_node(ros, "-p", "example.mode:=medium")
    with pytest.raises(ConfigError, match="one of slow, fast"):
        parameters.read(node, "example", Example)


def test_live_changes_are_checked_and_applied_together(ros: Ros) -> None:
    node = make_node(ros)
    applied: list[dict[str, Validated]] = []
    parameters.watch(node, GROUPS, applied.append)

    def change(**values: object) -> str:
        result = node.set_parameters_atomically([Parameter(f"example.{name}", value=value) for name, value in values.items()])
        assert result.successful is not bool(result.reason)
        return result.reason

    assert change(size=1.5, wild=True) == ""
    assert applied == [{"example": Example(size=1.5, wild=True)}]
    assert change(mode="fast") == ""
    assert applied[1:] == [{"example": Example(size=1.5, wild=True, mode="fast")}]
    assert change(mode="medium", size=9.0) == "mode is 'medium'; it must be one of slow, fast."
    assert "read-only" in change(count=4)
    assert "out of range" in change(size=-1.0)
    assert len(applied) == 2
    assert parameters.read(node, "example", Example) == Example(size=1.5, wild=True, mode="fast")


def test_settings_are_replaced_as_a_whole(ros: Ros) -> None:
    ros.init("-p", "mapper.min_inliers:=30", "-p", "odom_frame:=odom")
    node = Node("parameters")
    parameters.declare(node, NODE_SETTINGS["mapping"])
    before = parameters.read_settings(node, MappingSettings)
    assert before.mapper == MapperConfig(min_inliers=30) and before.node == MappingNodeConfig(odom_frame="odom")
    coarse = CloudConfig(voxel_size=0.5)
    after = parameters.changed(before, {"cloud": coarse, "example": Example()})
    assert after == dataclasses.replace(before, cloud=coarse) and before.cloud == CloudConfig()
    assert parameters.changed(before, {"": MappingNodeConfig()}).node == MappingNodeConfig()


@pytest.mark.parametrize("node", FILES)
def test_the_parameter_file_holds_every_parameter_at_its_default(node: str) -> None:
    text = (CONFIG / f"{node}.yaml").read_text()
    content = yaml.safe_load(text)["/**"]["ros__parameters"]
    defaults = {name: dataclasses.asdict(kind()) for name, kind in FILES[node].items()}
    assert content == {**defaults.pop(""), **defaults}
    assert text == parameter_files.parameter_file(node), f"config/{node}.yaml is out of date; run: make docs"


def test_what_is_live_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NODE_SETTINGS, "viewer", {"": Example})
    lines = [line.strip() for line in parameter_files.parameter_file("viewer").splitlines()]
    assert lines[-8:-2] == ["# How many.", "count: 3", "# [live] How large.", "size: 0.5", "# [live] How.", "mode: slow"]


def test_the_parameter_file_is_read_by_ros(ros: Ros) -> None:
    node = make_node(ros, "--params-file", str(MAPPING_YAML))
    assert parameters.read(node, "", MappingNodeConfig) == MappingNodeConfig()
