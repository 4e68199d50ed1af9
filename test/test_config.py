# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import pytest

from st3r_ros import config
from st3r_ros.commands.settings import Settings, list_settings, parse_settings
from st3r_ros.errors import ConfigError
from st3r_ros.pair import PAIR_MODELS

CONFIGS = [
    kind
    for kind in vars(config).values()
    if isinstance(kind, type) and issubclass(kind, config.Validated) and kind is not config.Validated
]
CONFIGS += [kind.config for kind in PAIR_MODELS.values()]
FIELDS = [pytest.param(kind, item, id=f"{kind.__name__}.{item.name}") for kind in CONFIGS for item in dataclasses.fields(kind)]
WRONG_TYPES = {int: (1.5, "1", True, None), float: ("1", True, None), bool: (1, "true", None), str: (1, None)}


@pytest.mark.parametrize(("kind", "item"), FIELDS)
def test_every_field_describes_itself_and_its_default_is_allowed(kind, item):
    assert item.metadata["description"].endswith(".")
    assert getattr(kind(), item.name) == item.default


@pytest.mark.parametrize(("kind", "item"), FIELDS)
def test_wrong_types_are_refused_by_name(kind, item):
    for value in WRONG_TYPES[type(item.default)]:
        with pytest.raises(ConfigError, match=f"{item.name} is "):
            kind(**{item.name: value})


@pytest.mark.parametrize(("kind", "item"), FIELDS)
def test_the_ends_of_the_range_are_allowed_and_nothing_beyond(kind, item):
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    number = type(item.default)
    for end, outwards in ((low, -1), (high, 1)):
        if end is not None:
            assert getattr(kind(**{item.name: number(end)}), item.name) == end
            with pytest.raises(ConfigError, match=rf"{item.name} is .*; it must be .*{end}"):
                kind(**{item.name: number(end) + outwards})
    if number is float:
        for value in (math.nan, math.inf):
            with pytest.raises(ConfigError, match="finite"):
                kind(**{item.name: value})
    if choices:
        assert all(getattr(kind(**{item.name: choice}), item.name) == choice for choice in choices)
        with pytest.raises(ConfigError, match=f"one of {choices[0]}"):
            kind(**{item.name: "no such choice"})


@pytest.mark.parametrize("name", PAIR_MODELS)
def test_the_settings_of_a_pair_model_are_read_when_it_is_loaded(name):
    assert not any(item.metadata["live"] for item in dataclasses.fields(PAIR_MODELS[name].config))


def test_configurations_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.CloudConfig().voxel_size = 1.0


def test_every_listed_setting_can_be_set_to_its_default():
    listed = list_settings()
    groups = [Settings().mapper, Settings().cloud, Settings().relocalizer, *Settings().pair.values()]
    assert len(listed) == sum(len(dataclasses.fields(group)) for group in groups)
    assert parse_settings([f"{setting.name}={setting.default}" for setting in listed]) == Settings()


def test_the_last_of_two_values_counts_and_the_rest_stays():
    settings = parse_settings(["cloud.voxel_size=0.5", "mapper.min_inliers=20", " cloud.voxel_size = 0.25 "])
    assert settings.cloud == config.CloudConfig(voxel_size=0.25)
    assert settings.mapper == config.MapperConfig(min_inliers=20)
    assert settings.pair == {name: kind.config() for name, kind in PAIR_MODELS.items()}


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("cloud.voxel_size", "'cloud.voxel_size' is not a setting; write group.name=value"),
        ("cloud.voxelsize=1", "no setting 'cloud.voxelsize'; did you mean cloud.voxel_size"),
        ("zzz=1", "no setting 'zzz'; `st3r settings` lists them"),
        ("mapper.min_inliers=many", "mapper.min_inliers is 'many'; it must be a whole number"),
        ("mapper.min_inliers=2.5", "mapper.min_inliers is '2.5'; it must be a whole number"),
        ("cloud.voxel_size=-1", "cloud.voxel_size is -1.0; it must be between 0.0 and 100.0"),
        ("cloud.voxel_size=nan", "cloud.voxel_size is nan; it must be a finite number"),
    ],
)
def test_a_wrong_assignment_is_explained(assignment, sentence):
    with pytest.raises(ConfigError) as caught:
        parse_settings([assignment])
    assert sentence in str(caught.value)
