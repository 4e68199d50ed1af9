# SPDX-License-Identifier: Apache-2.0
"""What is sent to the browsers: what is new, and no more."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from viser.infra import WebsockMessageHandler

from st3r_ros.config import ViewerConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.viewer.frusta import KeyframeView
from st3r_ros.viewer.pictures import picture
from st3r_ros.viewer.scene import MapScene
from st3r_ros.viewer.server import close_server, open_server
from st3r_ros.viewer.viewpoint import Viewpoint

NO_EDGES = np.zeros((0, 2), np.int64), np.zeros(0, bool)


class Sent:
    """The messages that a scene sends, by the name of the node they are about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[Any] = []
        queue = WebsockMessageHandler.queue_message
        monkeypatch.setattr(
            WebsockMessageHandler, "queue_message", lambda to, message: self.messages.append(message) or queue(to, message)
        )

    def about(self, part: str) -> list[Any]:
        """Takes the messages about nodes with this in their name."""
        found = [message for message in self.messages if part in str(getattr(message, "name", ""))]
        self.messages.clear()
        return found


class Browser:
    """A client of viser that has just opened the page."""

    client_id = 0
    atomic = nullcontext

    def __init__(self, view: Viewpoint | None = None) -> None:
        self.on_move: list[Any] = []
        position, look_at = (view.position, view.look_at) if view else (np.zeros(3), np.ones(3))
        self.camera = SimpleNamespace(position=position, look_at=look_at, on_update=self.on_move.append)

    def turn(self) -> None:
        """The view has changed."""
        for callback in self.on_move:
            callback(self.camera)


class Page:
    """A server, its controls by their labels, and what is called when one of them is used or a browser opens the page."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = open_server(ViewerConfig(port=0))
        self.controls: dict[str, Any] = {}
        self.on_use: dict[str, Any] = {}
        self.on_open: list[Any] = []
        monkeypatch.setattr(self.server, "on_client_connect", self.on_open.append)
        for kind in ("add_slider", "add_checkbox", "add_html"):
            monkeypatch.setattr(self.server.gui, kind, partial(self._noted, getattr(self.server.gui, kind)))

    def _noted(self, add: Any, label: str, *arguments: Any) -> Any:
        control = self.controls[label] = add(label, *arguments)
        if hasattr(control, "on_update"):
            on_update = control.on_update
            control.on_update = lambda callback: (self.on_use.update({label: callback}), on_update(callback))
        return control

    @property
    def text(self) -> str:
        """What the page says beside the controls."""
        return self.controls[""].content

    def open(self, browser: Browser) -> None:
        """A browser opens the page."""
        for callback in self.on_open:
            callback(browser)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    page = Page(monkeypatch)
    yield page
    close_server(page.server)


@pytest.fixture
def shown(page: Page, monkeypatch: pytest.MonkeyPatch) -> tuple[MapScene, Sent]:
    scene = MapScene(page.server, 5000)
    return scene, Sent(monkeypatch)


def cloud(count: int) -> tuple[np.ndarray, np.ndarray]:
    points = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    return points, np.full((count, 3), 90, np.uint8)


def keyframe(number: int, x: float = 0.0, image: Any = None) -> KeyframeView:
    return KeyframeView(number, 1000 + number, SE3(np.eye(3), np.array([x, 0.0, 0.0])), image)


def clouds(messages: list[Any]) -> list[Any]:
    """The messages that bring points."""
    return [m.props for m in messages if hasattr(getattr(m, "props", None), "points")]


def test_a_cloud_is_sent_once_with_as_many_points_as_allowed(shown: tuple[MapScene, Sent]) -> None:
    scene, sent = shown
    scene.show_cloud(*cloud(20_000))
    brought = clouds(sent.about("/cloud/"))
    assert sum(len(props.points) for props in brought) == scene.cloud.points <= 5000
    assert all(len(props.points) == len(props.colors) for props in brought)
    assert scene.points == 20_000
    scene.settle()
    assert not sent.about("")


def test_while_the_view_turns_fewer_points_are_drawn_and_none_sent(
    page: Page, shown: tuple[MapScene, Sent], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, sent = shown
    browser = Browser()
    page.open(browser)
    page.controls["Thousand points"].value = 1000
    scene.show_cloud(*cloud(300_000))
    at_rest = scene.cloud.drawn
    assert 60_000 < at_rest < scene.cloud.points == 300_000
    sent.about("")
    now = 1e6
    monkeypatch.setattr(time, "monotonic", lambda: now)
    browser.turn()
    now += 0.3
    browser.turn()
    assert 15_000 < scene.cloud.drawn < 25_000
    assert sent.messages and not clouds(sent.messages)
    now += 3.0
    scene.settle()
    assert scene.cloud.drawn == at_rest
    assert not clouds(sent.messages)
    page.controls["Fewer where the browser is slow"].value = False
    assert scene.cloud.drawn == 300_000
    assert "300,000 of 300,000 points" in page.text
    scene.show_cloud(*cloud(100))
    assert scene.cloud.drawn == 100


def test_the_slider_changes_how_many_points_are_shown(page: Page, shown: tuple[MapScene, Sent]) -> None:
    scene, sent = shown
    scene.show_cloud(*cloud(20_000))
    page.controls["Thousand points"].value = 2
    assert 1500 < scene.cloud.points <= 2000
    assert "of 20,000 points" in page.text
    sent.messages.clear()
    page.on_use["Thousand points"](None)  # overtaken
    assert not sent.about("/cloud/")


def test_only_keyframes_that_have_changed_are_sent(shown: tuple[MapScene, Sent]) -> None:
    scene, sent = shown
    scene.show_keyframes([keyframe(0), keyframe(1, 1.0)], *NO_EDGES)
    assert len({m.name for m in sent.about("keyframes/")}) == 2
    scene.show_keyframes([keyframe(0), keyframe(1, 1.0)], *NO_EDGES)
    assert not sent.about("keyframes/")
    scene.show_keyframes([keyframe(0), keyframe(1, 1.5)], *NO_EDGES)
    assert {m.name for m in sent.about("keyframes/")} == {"/map/keyframes/1_1001"}
    seen = picture(np.zeros((30, 40, 3), np.uint8), 40.0)
    scene.show_keyframes([keyframe(0, image=seen), keyframe(1, 1.5)], *NO_EDGES)
    assert {m.name for m in sent.about("keyframes/")} == {"/map/keyframes/0_1000"}
    scene.show_keyframes([keyframe(1, 1.5)], *NO_EDGES)
    assert {m.name for m in sent.about("keyframes/")} == {"/map/keyframes/0_1000"}


def test_edges_join_the_keyframes_they_name(shown: tuple[MapScene, Sent]) -> None:
    scene, sent = shown
    scene.show_keyframes([keyframe(0), keyframe(3, 2.0)], np.array([[0, 3]]), np.array([True]))
    (message,) = [m for m in sent.about("edges/lines") if hasattr(getattr(m, "props", None), "points")]
    assert message.props.points.tolist() == [[[0, 0, 0], [2, 0, 0]]]


def test_a_path_is_sent_when_it_is_new_and_not_without_end(shown: tuple[MapScene, Sent]) -> None:
    scene, sent = shown
    positions = np.linspace((0, 0, 0), (1, 0, 0), 50_000)
    scene.show_path(positions)
    (message,) = [m for m in sent.about("path/lines") if hasattr(getattr(m, "props", None), "points")]
    assert len(message.props.points) < 20_000
    assert message.props.points[-1, 1].tolist() == [1, 0, 0]
    scene.show_path(positions)
    assert not sent.about("path/lines")


def test_the_camera_comes_and_goes(shown: tuple[MapScene, Sent]) -> None:
    scene, sent = shown
    scene.show_camera(SE3.identity())
    assert sent.about("camera/now")
    scene.show_camera(SE3.identity())
    assert not sent.about("camera/now")
    scene.show_camera(None)
    assert sent.about("camera/now")
    scene.show_camera(None)
    assert not sent.about("camera/now")


def test_a_page_that_has_missed_its_view_is_given_it_again(
    page: Page, shown: tuple[MapScene, Sent], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, _ = shown
    initial = page.server.initial_camera
    first = Viewpoint(initial.position, initial.look_at)
    scene.show_cloud(*cloud(1000))
    assert not np.allclose(initial.position, first.position)
    late, turned = Browser(first), Browser(Viewpoint(np.ones(3), np.zeros(3)))
    monkeypatch.setattr(page.server, "get_clients", lambda: {0: late, 1: turned})
    now = time.monotonic() + 10.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    scene.settle()
    assert np.array_equal(late.camera.position, initial.position)
    assert np.array_equal(late.camera.look_at, initial.look_at)
    assert np.array_equal(turned.camera.position, np.ones(3))  # somebody has turned it
