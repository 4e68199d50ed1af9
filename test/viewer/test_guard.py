# SPDX-License-Identifier: Apache-2.0
"""Pages from elsewhere in the same browser, and names that are rebound to this machine, get no answer from the viewer."""

import http.server
import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import viser
from browser import open_page
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from st3r_ros.config import ViewerConfig
from st3r_ros.errors import ViewerError
from st3r_ros.viewer.guard import Guard, guarded
from st3r_ros.viewer.server import close_server, open_server

LOOPBACK, PUBLIC = "127.0.0.1", "0.0.0.0"


@pytest.fixture(scope="module")
def server() -> Iterator[viser.ViserServer]:
    running = open_server(ViewerConfig(port=0, allowed_hosts="viewer.lab"))
    yield running
    close_server(running)


def talk(port: int, host: str | None = None, origin: str | None = None) -> int:
    """The status of a plain client's WebSocket: 101 when it is opened and the viewer sends what it shows."""
    try:
        with socket.create_connection((LOOPBACK, port)) as channel:
            address = f"ws://{host or f'{LOOPBACK}:{port}'}"
            protocols = [f"viser-v{viser.__version__}"]
            with connect(address, sock=channel, origin=origin, subprotocols=protocols) as client:  # type: ignore[arg-type]
                assert client.recv(timeout=20)
                return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize(
    ("bound", "host", "origin", "answered"),
    [
        # the page itself, also through a tunnel from another port
        (LOOPBACK, "127.0.0.1:8080", "http://127.0.0.1:8080", True),
        (LOOPBACK, "localhost:9000", "http://localhost:9000", True),
        (LOOPBACK, "[::1]:8080", "http://[::1]:8080", True),
        (LOOPBACK, "LocalHost.:80", "http://localhost", True),
        (LOOPBACK, "127.0.0.1:8080", None, True),  # no browser sends a WebSocket without an origin
        # pages from elsewhere
        (LOOPBACK, "127.0.0.1:8080", "http://evil.example", False),
        (LOOPBACK, "127.0.0.1:8080", "https://127.0.0.1", False),
        (LOOPBACK, "127.0.0.1:8080", "http://127.0.0.1:3000", False),
        (LOOPBACK, "127.0.0.1:8080", "http://localhost:8080", False),
        (LOOPBACK, "127.0.0.1:8080", "http://127.0.0.1:8080.evil.example", False),
        (LOOPBACK, "127.0.0.1:8080", "http://127.0.0.1:8080@evil.example", False),
        (LOOPBACK, "127.0.0.1:8080", "null", False),
        (LOOPBACK, "127.0.0.1:8080", "", False),
        (LOOPBACK, "127.0.0.1:8080", "chrome-extension://127.0.0.1:8080", False),
        # names that somebody else can let lead here
        (LOOPBACK, "evil.example:8080", "http://evil.example:8080", False),
        (LOOPBACK, "localhost.evil.example", "http://localhost.evil.example", False),
        (LOOPBACK, "127.0.0.1.nip.example:8080", None, False),
        (LOOPBACK, "robot:8080", "http://robot:8080", False),
        (PUBLIC, "evil.example:8080", "http://evil.example:8080", False),
        (LOOPBACK, "", None, False),
        (LOOPBACK, "a b", None, False),
        # names of this machine, once it is reached by others
        (PUBLIC, "192.168.7.5:8080", "http://192.168.7.5:8080", True),
        (PUBLIC, "[fd00::5]:8080", "http://[fd00::5]:8080", True),
        (PUBLIC, "robot:8080", "http://robot:8080", True),
        (PUBLIC, "robot.local:8080", "http://robot.local:8080", True),
        (PUBLIC, "localhost:8080", "http://localhost:8080", True),
        (PUBLIC, f"{socket.gethostname()}:8080", f"http://{socket.gethostname()}:8080", True),
        (PUBLIC, "192.168.7.5:8080", "http://robot.local:8080", False),
        ("robot.example.org", "robot.example.org:8080", "http://robot.example.org:8080", True),
        # names that are allowed
        (LOOPBACK, "viewer.lab", "https://viewer.lab", True),
        (LOOPBACK, "viewer.lab:9000", "http://viewer.lab:9000", True),
        (LOOPBACK, "127.0.0.1:8080", "https://viewer.lab", True),  # a proxy that names its own target
        (LOOPBACK, "127.0.0.1:8080", "https://viewer.lab:3000", False),
        (LOOPBACK, "127.0.0.1:8080", "https://gate.lab:8443", True),
        (LOOPBACK, "gate.lab", "https://gate.lab", False),
    ],
)
def test_only_the_own_page_is_answered(bound: str, host: str, origin: str | None, answered: bool) -> None:
    guard = Guard.of(ViewerConfig(host=bound, allowed_hosts="viewer.lab, Gate.Lab:8443"))
    assert (guard.refusal([host], [] if origin is None else [origin]) == "") is answered


def test_headers_that_come_twice_or_not_at_all_are_refused() -> None:
    guard = Guard.of(ViewerConfig())
    own = "http://127.0.0.1:8080"
    assert guard.refusal([], [])
    assert guard.refusal(["127.0.0.1:8080", "evil.example"], [])
    assert guard.refusal(["127.0.0.1:8080"], [own, "http://evil.example"])


@pytest.mark.parametrize("wrong", ["http://viewer.lab", "*", "viewer.lab/map", "[::1"])
def test_a_name_that_is_none_is_a_clear_error(wrong: str) -> None:
    with pytest.raises(ViewerError, match=r"allowed_hosts has '.*such as 'robot\.example\.org'"):
        Guard.of(ViewerConfig(allowed_hosts=f"viewer.lab,{wrong}"))


def test_a_websocket_is_opened_for_the_own_page_only(server: viser.ViserServer, caplog: pytest.LogCaptureFixture) -> None:
    port = server.get_port()
    assert talk(port) == 101
    assert talk(port, f"localhost:{port}", f"http://localhost:{port}") == 101
    with caplog.at_level(logging.WARNING):
        assert talk(port, origin="http://stranger.example") == 403
        assert talk(port, origin="http://stranger.example") == 403
        assert talk(port, f"stranger.example:{port}", f"http://stranger.example:{port}") == 403
    said = [record.getMessage() for record in caplog.records]
    assert [("'http://stranger.example'" in text, "allowed_hosts" in text) for text in said] == [(True, True), (False, True)]


def test_the_page_obeys_no_other_server_and_stands_in_no_frame(server: viser.ViserServer) -> None:
    url = f"http://127.0.0.1:{server.get_port()}/"
    with urllib.request.urlopen(f"{url}?websocket=ws://evil.example", timeout=20) as answer:
        assert answer.url == url  # without the parameter
        policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'self' viewer.lab;" in policy
    assert "connect-src 'self' " in policy
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "evil.example"}), timeout=20)
    assert "allowed_hosts" in refused.value.read().decode()


def test_a_viser_that_cannot_be_guarded_is_not_used() -> None:
    with pytest.raises(ViewerError, match="cannot be kept from answering other pages"), guarded(Guard.of(ViewerConfig())):
        pass


@contextmanager
def foreign_site() -> Iterator[int]:
    """A web server on another port of this machine; its page is empty."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html><body>elsewhere</body></html>")

        def log_message(self, *arguments: Any) -> None:
            pass

    site = http.server.ThreadingHTTPServer((LOOPBACK, 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    try:
        yield site.server_address[1]
    finally:
        site.shutdown()
        site.server_close()


def test_in_a_browser_another_page_can_neither_talk_to_the_viewer_nor_frame_it(
    chromium: str, server: viser.ViserServer, tmp_path: Path
) -> None:
    port = server.get_port()
    own = f"http://127.0.0.1:{port}/"
    opened = f"""new Promise(done => {{
        const socket = new WebSocket("ws://127.0.0.1:{port}", "viser-v{viser.__version__}");
        socket.onopen = () => done(true); socket.onerror = () => done(false); }})"""
    framed = f"""new Promise(done => {{
        const frame = document.createElement("iframe");
        frame.onload = () => done(true); frame.src = "{own}"; document.body.append(frame); }})"""
    rebound = ("--host-resolver-rules=MAP evil.example 127.0.0.1",)
    with foreign_site() as elsewhere, open_page(own, tmp_path, options=rebound) as page:

        def go(url: str, words: str) -> None:
            page.call("Page.navigate", url=url)
            page.wait_for_text(words)

        page.wait_for(lambda: len(server.get_clients()) == 1, "the own page's connection")
        assert page.evaluate(opened) is True

        go(f"http://127.0.0.1:{elsewhere}", "elsewhere")
        page.wait_for(lambda: not server.get_clients(), "the end of the own page's connections")
        assert page.evaluate(opened) is False
        assert page.evaluate(framed) is True
        assert page.evaluate(opened) is False  # which takes as long as the frame would have taken to connect
        assert not server.get_clients()

        go(f"http://evil.example:{port}", "allowed_hosts")  # the name leads here: DNS rebinding

        page.call("Page.navigate", url=f"{own}?websocket=ws://127.0.0.1:{elsewhere}")
        page.wait_for(lambda: len(server.get_clients()) == 1, "the own page's connection")
        assert page.evaluate("location.href") == own
