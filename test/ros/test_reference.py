# SPDX-License-Identifier: Apache-2.0
"""docs/reference.md is what tools/reference.py writes."""

import difflib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import launch_arguments
import reference

LAUNCH_FILES = sorted(launch_arguments.FOLDER.glob("*.launch.py"))
# What ros_interface.md asks of every launch file of a node, besides the arguments that only the mapping node has.
ASKED = {"namespace", "use_sim_time", "params_file", "image_topic", "camera_info_topic", "image_transport", "pair_model"}
ASKED |= {"checkpoint", "device", "map_path", "autostart", "rviz", "rviz_config", "log_level"}
ASKED_OF_MAPPING = ASKED | {"map_frame", "odom_frame", "base_frame", "mode"}


def test_the_page_is_what_the_code_says() -> None:
    pytest.importorskip("viser", reason="the viewer node runs for its page")
    written, now = reference.PAGE.read_text(encoding="utf-8"), reference.page()
    changes = list(
        difflib.unified_diff(written.splitlines(), now.splitlines(), "docs/reference.md", "the code", lineterm="", n=0)
    )
    assert not changes, "docs/reference.md is out of date; run: make docs\n" + "\n".join(changes)


def test_a_topic_that_nobody_has_described_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = dict(reference.CONTENT["st3r_mapping"])
    del content["~/path"]
    monkeypatch.setitem(reference.CONTENT, "st3r_mapping", content)
    nodes = reference.running(reference.ARGUMENTS)
    with pytest.raises(SystemExit, match=r"~/path of st3r_mapping is only in the node"):
        reference.topic_table(next(nodes)[1])
    nodes.close()


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0, 5, "0 to 5"), (1, 2**63 - 1, ">= 1"), (-sys.float_info.max, 0.5, "<= 0.5"), (0.001, sys.float_info.max, ">= 0.001")],
)
def test_a_range_without_an_end_has_none(low: float, high: float, text: str) -> None:
    assert reference.range_text(low, high) == text


def test_text_in_a_table_stays_text() -> None:
    assert reference.plain("a|b <c> `<d>`") == r"a\|b &lt;c> `<d>`"


@pytest.mark.parametrize(("file", "asked"), [("mapping", ASKED_OF_MAPPING), ("relocalization", ASKED)])
def test_a_launch_file_has_the_arguments_of_the_interface(file: str, asked: set[str]) -> None:
    arguments = {
        item.name: item for item in launch_arguments.launch_arguments(launch_arguments.FOLDER / f"st3r_{file}.launch.py")
    }
    assert asked <= set(arguments)
    assert all(item.description.endswith(".") for item in arguments.values())
    assert (arguments["use_sim_time"].default, arguments["rviz"].default) == ("false", "false")


@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda file: file.name)
def test_the_stand_ins_find_what_launch_finds(file: Path) -> None:
    sources = pytest.importorskip(
        "launch.launch_description_sources", reason="launch comes with an installed ROS 2; there is no wheel of it"
    )
    from launch import LaunchContext
    from launch.utilities import perform_substitutions

    found = {item.name: item for item in launch_arguments.launch_arguments(file)}
    real = {item.name: item for item in sources.get_launch_description_from_python_launch_file(str(file)).get_launch_arguments()}
    fixed = {"image_topic", "camera_info_topic"} if file.name == "st3r_demo.launch.py" else set()  # given to what it includes
    assert set(found) == set(real) - fixed
    for name, item in ((name, real[name]) for name in found):
        assert perform_substitutions(LaunchContext(), item.default_value) == found[name].default_value
        assert item.choices == found[name].choices
        assert item.description.startswith(found[name].description)  # launch adds the choices
