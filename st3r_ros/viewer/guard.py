# SPDX-License-Identifier: Apache-2.0
"""Which requests the viewer answers: those of its own page, opened under a name that leads to this machine and to no other.

Any page open in the same browser can send requests to the viewer, also to 127.0.0.1. Three rules keep such pages out:

- A WebSocket is opened only for the viewer's own page: the header Origin must name the same host and port as Host.
- Host must be a name of this machine. A page of evil.example, a name rebound to this machine, has evil.example in both.
- No other page frames the viewer, and its page talks to no other server, whatever its address asks for (viser's page takes a
  server to obey from the parameter `websocket`).
"""

from __future__ import annotations

import contextlib
import http
import inspect
import ipaddress
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from st3r_ros.config import ViewerConfig
from st3r_ros.errors import ViewerError

if TYPE_CHECKING:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

_NAME = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9_.-]*?)\.?(?::(\d{1,5}))?")
_PRIVATE_SUFFIXES = (".local", ".lan", ".internal", ".home.arpa")
"""Top-level names that cannot be registered on the internet."""
_PORTS = {"http": 80, "https": 443}
_SAID_AT_MOST = 20

logger = logging.getLogger(__name__)
_opening = threading.Lock()


@dataclass(frozen=True)
class HostPort:
    """A host, in lower case and without brackets, and a port, None where none is named."""

    host: str
    port: int | None

    @staticmethod
    def parse(text: str) -> HostPort | None:
        """Of `host`, `host:port` or `[address]:port`; None where the text is none of these."""
        found = _NAME.fullmatch(text.strip().lower())
        return None if found is None else HostPort(found[1].strip("[]"), int(found[2]) if found[2] else None)


@dataclass(frozen=True)
class Guard:
    """Tells which requests are answered.

    own: names of this machine besides the loopback's. public: whether others than this machine can reach the viewer.
    allowed: further places. As Host, one without a port stands for all ports; as the origin of a page, for the usual one.
    """

    own: frozenset[str]
    public: bool
    allowed: frozenset[HostPort]
    _said: set[str] = field(default_factory=set, compare=False)

    @staticmethod
    def of(config: ViewerConfig) -> Guard:
        """Raises ViewerError where `allowed_hosts` cannot be understood."""
        allowed = set()
        for entry in filter(None, re.split(r"[\s,]+", config.allowed_hosts)):
            place = HostPort.parse(entry)
            if place is None:
                raise ViewerError(
                    f"allowed_hosts has '{entry}', which is no name of a host; give names such as 'robot.example.org' or "
                    "'robot.example.org:8443', separated by commas."
                )
            allowed.add(place)
        public = not is_loopback(config.host)
        own = {config.host, socket.gethostname(), socket.getfqdn()} if public else {config.host}
        return Guard(frozenset(name.lower() for name in own if name), public, frozenset(allowed))

    def refusal(self, hosts: Sequence[str], origins: Sequence[str]) -> str:
        """Why a request with these headers Host and Origin is not answered, a sentence; "" where it is."""
        host = HostPort.parse(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            return "The viewer needs the header Host, once, with the name of a host."
        if not self._is_own(host):
            return (
                f"The viewer did not answer a request for '{_shown(hosts[0])}', which may be the name of another machine. "
                "To open the viewer under this name, add it to allowed_hosts."
            )
        if origins and not (len(origins) == 1 and self._is_own_page(origins[0], host)):
            return (
                f"The viewer did not answer a page of '{_shown(origins[0])}', which is not its own. "
                "If a proxy serves the viewer there, add that host to allowed_hosts."
            )
        return ""

    def before(self, answer: Callable | None) -> Callable[[Any, Any], Any]:
        """A `process_request` of websockets: what `answer` says, for the requests that may have an answer."""

        async def process_request(connection: Any, request: Any) -> Response | None:
            headers = request.headers
            why = self.refusal(headers.get_all("Host"), headers.get_all("Origin"))
            if why:
                self._say(why)
                return _response(http.HTTPStatus.FORBIDDEN, why)
            upgrade = "websocket" in ",".join(headers.get_all("Upgrade")).lower()
            if "?" in request.path and not upgrade:
                return _response(http.HTTPStatus.SEE_OTHER, "The page takes no parameters.", Location=".")
            response = answer(connection, request) if answer else None
            if inspect.isawaitable(response):
                response = await response
            if response is not None:
                self._seal(response.headers, headers["Host"])
            return response

        return process_request

    def _is_own(self, host: HostPort) -> bool:
        if is_loopback(host.host) or host.host in self.own or self.allowed & {host, HostPort(host.host, None)}:
            return True
        return self.public and ("." not in host.host or host.host.endswith(_PRIVATE_SUFFIXES) or _is_address(host.host))

    def _is_own_page(self, origin: str, host: HostPort) -> bool:
        """Whether a page of this origin is the one that the host serves."""
        parts = urlsplit(origin)
        place = HostPort.parse(parts.netloc)
        if place is None or parts.scheme not in _PORTS:  # such as the origin "null" of a file
            return False
        default = _PORTS[parts.scheme]
        origin_port = place.port or default
        if place.host == host.host and origin_port == (host.port or default):
            return True
        named = {HostPort(place.host, None)} if origin_port == default else set()
        return bool(self.allowed & (named | {HostPort(place.host, origin_port)}))

    def _seal(self, headers: Headers, host: str) -> None:
        """The browser keeps the page out of other pages' frames, and from talking to other servers."""
        frames = " ".join(["'self'", *sorted(map(_written, self.allowed))])
        headers["Content-Security-Policy"] = f"frame-ancestors {frames}; connect-src 'self' ws://{host} wss://{host} blob: data:"

    def _say(self, why: str) -> None:
        """Logs each refusal once, because a refused page retries."""
        if why not in self._said and len(self._said) < _SAID_AT_MOST:
            self._said.add(why)
            logger.warning(why)


@contextlib.contextmanager
def guarded(guard: Guard) -> Iterator[None]:
    """Servers that websockets opens meanwhile answer what the guard lets pass: viser has no hook for it.

    Raises:
        ViewerError: none was opened, so that the server of this viser is not guarded.
    """
    import websockets.asyncio.server as library

    opened = 0

    def serve(*arguments: Any, process_request: Callable | None = None, **options: Any) -> Any:
        nonlocal opened
        opened += 1
        return original(*arguments, process_request=guard.before(process_request), **options)

    with _opening:
        original = library.serve
        library.serve = serve  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            library.serve = original  # type: ignore[misc]
    if not opened:
        raise ViewerError(
            "The installed viser cannot be kept from answering other pages; get another one: pip install viser==1.1.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for every client that uses its name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _response(status: http.HTTPStatus, text: str, **headers: str) -> Response:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    body = f"{text}\n".encode()
    fields = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), "Connection": "close"}
    return Response(status.value, status.phrase, Headers({**fields, **headers}), body)


def _written(place: HostPort) -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    return host if place.port is None else f"{host}:{place.port}"


def _shown(text: str) -> str:
    """Untrusted text, made safe to print."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])
