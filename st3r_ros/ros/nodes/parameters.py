# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from the configuration dataclasses: declared, read back and watched by looping over their fields.

A field `voxel_size` of the group `cloud` is the parameter `cloud.voxel_size`; the group `""` has no prefix. Description and range
come from the field's metadata; what is not `live` is read-only.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from st3r_ros.config import MappingSettings, RelocalizationSettings, Validated, groups_of
from st3r_ros.errors import ConfigError

Config = TypeVar("Config", bound=Validated)
Settings = TypeVar("Settings", MappingSettings, RelocalizationSettings)

_INT_LIMIT = 2**63 - 1


def declare(node: Node, groups: Mapping[str, type[Validated]]) -> None:
    """Declare every field of the groups (name -> dataclass) on the node.

    Raises:
        ConfigError: a value from the command line or a parameter file has the wrong type or is out of range.
    """
    for group, kind in groups.items():
        for item in dataclasses.fields(kind):
            try:
                node.declare_parameter(_name(group, item), item.default, _descriptor(item))
            except ParameterException as error:
                raise ConfigError(f"Parameter {_name(group, item)}: {error}") from error


def read(node: Node, group: str, kind: type[Config]) -> Config:
    """The declared parameters of a group as their dataclass.

    Raises:
        ConfigError: a value is not allowed.
    """
    return kind(**{item.name: node.get_parameter(_name(group, item)).value for item in dataclasses.fields(kind)})


def read_settings(node: Node, kind: type[Settings]) -> Settings:
    """The declared parameters of all groups of a class like `MappingSettings`.

    Raises:
        ConfigError: a value is not allowed.
    """
    values: dict[str, Any] = {group or "node": read(node, group, config) for group, config in groups_of(kind).items()}
    return kind(**values)


def changed(settings: Settings, groups: Mapping[str, Validated]) -> Settings:
    """The settings with the changed groups that `watch` passes on; groups of others, as of a pair model, are left out."""
    own = groups_of(type(settings))
    values: dict[str, Any] = {group or "node": config for group, config in groups.items() if group in own}
    return dataclasses.replace(settings, **values)


def watch(node: Node, groups: Mapping[str, type[Validated]], apply: Callable[[dict[str, Validated]], None]) -> None:
    """Check live changes against the dataclasses; `apply` gets the changed groups by name, once all are valid.

    Invalid values are refused with the message of the `ConfigError`.
    """

    def on_set(parameters: list[Parameter]) -> SetParametersResult:
        new = {parameter.name: parameter.value for parameter in parameters}
        try:
            merged = {group: _merged(node, group, kind, new) for group, kind in groups.items()}
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        groups_changed = {group: config for group, config in merged.items() if config is not None}
        if groups_changed:
            apply(groups_changed)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)


def _merged(node: Node, group: str, kind: type[Config], new: dict[str, Any]) -> Config | None:
    """The group's configuration with the new values, None when none of them belongs to it."""
    values = {item.name: new[_name(group, item)] for item in dataclasses.fields(kind) if _name(group, item) in new}
    return dataclasses.replace(read(node, group, kind), **values) if values else None


def _name(group: str, item: dataclasses.Field) -> str:
    return f"{group}.{item.name}" if group else item.name


def _descriptor(item: dataclasses.Field) -> ParameterDescriptor:
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    descriptor = ParameterDescriptor(description=item.metadata["description"], read_only=not item.metadata["live"])
    if choices:
        descriptor.additional_constraints = f"One of: {', '.join(choices)}."
    if low is None and high is None:
        return descriptor
    if isinstance(item.default, int):
        bounds = IntegerRange(
            from_value=-_INT_LIMIT if low is None else int(low), to_value=_INT_LIMIT if high is None else int(high)
        )
        descriptor.integer_range = [bounds]
    else:
        limit = sys.float_info.max
        span = FloatingPointRange(
            from_value=-limit if low is None else float(low), to_value=limit if high is None else float(high)
        )
        descriptor.floating_point_range = [span]
    return descriptor
