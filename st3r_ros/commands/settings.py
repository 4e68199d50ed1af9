# SPDX-License-Identifier: Apache-2.0
"""Settings by name: `mapper.min_inliers=20` on the command line equals the ROS parameter of the same name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from st3r_ros.config import CloudConfig, MapperConfig, RelocalizerConfig, Validated
from st3r_ros.errors import ConfigError
from st3r_ros.pair import PAIR_MODELS, with_pair_models

Config = TypeVar("Config", bound=Validated)

TRUTH_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Settings:
    """The groups of settings of a run; the name of a setting is `group.field`. pair: by the name of the pair model."""

    mapper: MapperConfig = field(default_factory=MapperConfig)
    cloud: CloudConfig = field(default_factory=CloudConfig)
    relocalizer: RelocalizerConfig = field(default_factory=RelocalizerConfig)
    pair: Mapping[str, Validated] = field(default_factory=lambda: {name: kind.config() for name, kind in PAIR_MODELS.items()})


@dataclass(frozen=True)
class SettingInfo:
    """One setting as `st3r settings` shows it."""

    name: str
    default: str
    allowed: str
    description: str


def parse_settings(assignments: Iterable[str]) -> Settings:
    """The defaults with `group.field=value` applied; the last assignment to a name counts.

    Raises:
        ConfigError: unknown setting or invalid value.
    """
    values: dict[str, dict[str, Any]] = {group: {} for group in _groups()}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise ConfigError(f"'{assignment}' is not a setting; write group.name=value, for example cloud.voxel_size=0.05.")
        group, item = _find(name)
        values[group][item.name] = _parse(name, text, type(item.default))
    return Settings(
        mapper=_make("mapper", MapperConfig, values),
        cloud=_make("cloud", CloudConfig, values),
        relocalizer=_make("relocalizer", RelocalizerConfig, values),
        pair={name: _make(name, kind.config, values) for name, kind in PAIR_MODELS.items()},
    )


def list_settings() -> list[SettingInfo]:
    """Every setting, in the order of the groups."""
    return [
        SettingInfo(f"{group}.{item.name}", str(item.default), _allowed(item), item.metadata["description"])
        for group, kind in _groups().items()
        for item in dataclasses.fields(kind)
    ]


def _groups() -> dict[str, type[Validated]]:
    return with_pair_models({"mapper": MapperConfig, "cloud": CloudConfig, "relocalizer": RelocalizerConfig})


def _find(name: str) -> tuple[str, dataclasses.Field]:
    known = {f"{group}.{item.name}": (group, item) for group, kind in _groups().items() for item in dataclasses.fields(kind)}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else "`st3r settings` lists them."
        raise ConfigError(f"There is no setting '{name}'; {hint}")
    return known[name]


def _parse(name: str, text: str, kind: type) -> Any:
    try:
        return TRUTH_WORDS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{name} is '{text}'; it must be {KIND_NAMES[kind]}.") from None


def _make(group: str, kind: type[Config], values: dict[str, dict[str, Any]]) -> Config:
    try:
        return kind(**values[group])
    except ConfigError as error:
        raise ConfigError(f"{group}.{error}") from error


def _allowed(item: dataclasses.Field) -> str:
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    if choices:
        return ", ".join(choices)
    if low is None and high is None:
        return "any"
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"{low} to {high}"
