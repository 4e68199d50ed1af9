# SPDX-License-Identifier: Apache-2.0
"""Where the viewer listens, and what it says when it cannot."""

import socket
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from st3r_ros.config import ViewerConfig
from st3r_ros.errors import MissingDependencyError, ViewerError
from st3r_ros.viewer import server as servers


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_page_is_served_on_this_machine_and_ends(capfd: pytest.CaptureFixture[str]) -> None:
    config = ViewerConfig(port=0)
    server = servers.open_server(config)
    try:
        url = servers.address(config, server)
        assert url == f"http://127.0.0.1:{server.get_port()}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert b"<html" in answer.read()
        assert server.request_share_url() is None  # nothing is made public
    finally:
        servers.close_server(server)
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=5)
    assert capfd.readouterr().out == ""


def test_a_port_in_use_is_a_clear_error_and_no_other_is_taken(taken_port: int) -> None:
    with pytest.raises(ViewerError, match=f"Port {taken_port} of 127.0.0.1 is in use.*choose another"):
        servers.open_server(ViewerConfig(port=taken_port))


def test_a_free_port_is_found(taken_port: int) -> None:
    assert servers.free_port("127.0.0.1", taken_port) == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert servers.free_port("127.0.0.1", free) == free


def test_a_port_taken_after_the_check_is_noticed(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "check_free", lambda host, port: None)
    with pytest.raises(ViewerError, match=f"Port {taken_port}"):
        servers.open_server(ViewerConfig(port=taken_port))


@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid"])
def test_a_foreign_address_is_a_clear_error(host: str) -> None:
    with pytest.raises(ViewerError, match=f"cannot listen on host '{host}'"):
        servers.open_server(ViewerConfig(host=host, port=0))


def test_without_viser_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MissingDependencyError, match="pip install viser"):
        servers.open_server(ViewerConfig(port=0))


@pytest.mark.parametrize(
    ("host", "open_to_others"),
    [
        ("127.0.0.1", False),
        ("127.0.0.9", False),
        ("localhost", False),
        ("::1", False),
        ("0.0.0.0", True),
        ("robot", True),
        ("", True),
    ],
)
def test_other_addresses_than_loopback_come_with_a_warning(host: str, open_to_others: bool) -> None:
    assert bool(servers.exposure(host)) is open_to_others


def test_no_browser_is_opened_without_a_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(servers.webbrowser, "open", lambda url: opened.append(url) or True)
    monkeypatch.setattr(servers.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not servers.open_browser("http://127.0.0.1:1")
    monkeypatch.setenv("DISPLAY", ":0")
    assert servers.open_browser("http://127.0.0.1:1")
    assert opened == ["http://127.0.0.1:1"]
