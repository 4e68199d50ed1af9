# SPDX-License-Identifier: Apache-2.0
import pytest

from st3r_ros import config
from st3r_ros.errors import ConfigError
from st3r_ros.frame_names import frame_name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("camera", "camera"),
        ("/camera", "camera"),
        ("//camera", "camera"),
        (" /camera ", "camera"),
        ("/ camera", "camera"),
        ("robot1/camera", "robot1/camera"),
        ("/robot1/camera", "robot1/camera"),
        ("left camera", "left camera"),
        ("/", ""),
        (" // ", ""),
        ("", ""),
    ],
)
def test_a_slash_before_a_name_and_spaces_around_it_are_no_part_of_it(given: str, name: str) -> None:
    assert frame_name(given) == name


def test_settings_hold_names_without_the_slash() -> None:
    mapping = config.MappingNodeConfig(map_frame="/map", base_frame="/base_link", odom_frame="/odom")
    assert (mapping.map_frame, mapping.base_frame, mapping.odom_frame) == ("map", "base_link", "odom")
    assert config.MappingNodeConfig(base_frame="/").base_frame == ""
    relocalization = config.RelocalizationNodeConfig(reference_frame="/dock", child_frame="/base_link")
    assert (relocalization.reference_frame, relocalization.child_frame) == ("dock", "base_link")
    assert config.CameraNodeConfig(frame_id="/camera").frame_id == "camera"


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ({"map_frame": "/"}, "map_frame is ''"),
        ({"map_frame": "map", "base_frame": "/map"}, "map_frame and base_frame are both 'map'"),
        ({"odom_frame": "map"}, "map_frame and odom_frame are both 'map'"),
        ({"odom_frame": "/base_link"}, "odom_frame and base_frame are both 'base_link'"),
    ],
)
def test_frames_that_would_be_their_own_parents_are_refused(frames: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.MappingNodeConfig(**frames)


def test_so_they_are_for_relocalization() -> None:
    with pytest.raises(ConfigError, match="reference_frame and child_frame are both 'dock'"):
        config.RelocalizationNodeConfig(reference_frame="/dock", child_frame="dock")
