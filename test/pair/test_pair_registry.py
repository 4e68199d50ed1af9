# SPDX-License-Identifier: Apache-2.0
"""A pair model is its folder and a line in the registry: commands, settings and files follow without another edit."""

import json

import pytest
import toy_pair

from st3r_ros.commands.settings import list_settings, parse_settings


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_pair.register(monkeypatch)


def test_a_registered_model_maps_the_simulator_by_its_name(st3r, tmp_path):
    source = "sim:room?frames=12&fps=5&width=320&height=240"
    outcome = st3r("map", source, "--pair-model", "toy", "--set", "toy.white=250", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["pair_model"] == "toy" and summary["tracked"] >= 8
    assert toy_pair.LOADED[-1].white == 250


def test_its_settings_are_listed_parsed_and_checked(st3r, tmp_path):
    (listed,) = (setting for setting in list_settings() if setting.name.startswith("toy."))
    assert (listed.name, listed.default, listed.allowed) == ("toy.white", "255", "128 to 255")
    assert parse_settings(["toy.white=200"]).pair["toy"] == toy_pair.ToyConfig(200)
    outcome = st3r("map", "sim:room", "--pair-model", "toy", "--set", "toy.white=7", "--out", tmp_path)
    assert outcome.code == 2 and "toy.white is 7; it must be between 128 and 255." in outcome.err


def test_a_wrong_name_is_answered_with_every_registered_one(st3r, tmp_path):
    outcome = st3r("map", "sim:room", "--pair-model", "tov", "--out", tmp_path)
    assert outcome.code == 2 and "it must be one of: opencv, mast3r, toy." in outcome.err
