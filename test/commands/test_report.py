# SPDX-License-Identifier: Apache-2.0
from st3r_ros.commands.report import shown_skips, skip_line
from st3r_ros.recorder import Skip


def frames(*reasons: str) -> list[int]:
    return [skip.frame for skip in shown_skips(tuple(Skip(i, "", reason) for i, reason in enumerate(reasons)))]


def test_every_reason_for_a_skipped_frame_has_an_example():
    assert frames(*"aaaaaaa") == [0, 1, 2]
    assert frames(*"aaaabaac") == [0, 4, 7]
    assert frames(*"aaaab") == [0, 1, 4]
    assert frames(*"abcdefgh") == [0, 1, 2, 3, 4, 5]
    assert frames() == []


def test_a_source_is_not_named_twice():
    assert skip_line(Skip(3, "a.png", "'in/a.png' is no image.")) == "'in/a.png' is no image."
    assert skip_line(Skip(3, "drive frame 3", "It is too small.")) == "drive frame 3: It is too small."
