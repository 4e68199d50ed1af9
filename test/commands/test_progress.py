# SPDX-License-Identifier: Apache-2.0
"""Progress lines where there is no terminal."""

import io
from dataclasses import dataclass

from rich.console import Console

from st3r_ros.commands.progress import BarDisplay, PlainDisplay
from st3r_ros.types import MappingState


@dataclass(frozen=True)
class Progressed:
    frames: int
    skipped: int = 0
    recent_fps: float = 7.5
    state: MappingState = MappingState.TRACKING


def test_a_wait_is_said_once_with_its_reason():
    out = io.StringIO()
    display = PlainDisplay(Console(file=out, width=200), "room", 300, clock=lambda: 0.0)
    for what in ["the mapping node is starting"] * 3 + ["Loading the pair model opencv."] * 3:
        display.wait(what)
    display.show(Progressed(12), keyframes=2)
    assert out.getvalue().splitlines() == [
        "room: waiting: the mapping node is starting",
        "room: waiting: Loading the pair model opencv.",
        "room: 12/300 frames, 7.5 frames/s, 2 keyframes, tracking",
    ]


def test_the_bar_shows_the_wait_in_the_place_of_the_counts():
    out = io.StringIO()
    display = BarDisplay(Console(file=out, width=120, force_terminal=True, color_system=None), "room", 300)
    with display:
        display.wait("[0] is loaded")
    waiting = out.getvalue()
    with display:
        display.show(Progressed(12), keyframes=2)
    assert "waiting: [0] is loaded" in waiting and "frames" not in waiting
    assert "12/300 frames  7.5/s  2 keyframes" in out.getvalue()
