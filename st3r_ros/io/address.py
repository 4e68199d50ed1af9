# SPDX-License-Identifier: Apache-2.0
"""Addresses of streams, and why one cannot be opened. Messages never contain users, passwords or queries."""

from __future__ import annotations

import base64
import http.client
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from st3r_ros.errors import InputError

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp", "srt")
PATIENCE_S = 30.0

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}
_LOOKS_LIKE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Address:
    """The address of a stream. url: with all that it takes to open it. shown: for messages. patience: seconds."""

    url: str = field(repr=False)
    shown: str
    patience: float = PATIENCE_S

    def why_closed(self, timeout_s: float) -> str:
        """Half a sentence on why the stream does not open; asks the server once more."""
        parts = urlsplit(self.url)
        port = parts.port or _PORTS.get(parts.scheme)
        if parts.scheme in ("udp", "srt") or parts.hostname is None or port is None:
            return "it cannot be opened"
        try:
            with socket.create_connection((parts.hostname, port), timeout_s):
                pass
            return _http_answer(parts, timeout_s) if parts.scheme == "http" else "the server answers, but not with a video"
        except socket.gaierror:
            return f"there is no host '{parts.hostname}'"
        except TimeoutError:
            return "the server does not answer"
        except OSError as error:
            return f"the server cannot be reached: {error.strerror or error}"


def is_address(source: str) -> bool:
    """Whether a source is written like an address (scheme://...)."""
    return bool(_LOOKS_LIKE.match(source))


def parse_address(source: str) -> Address:
    """The address of a stream. `#patience=60` at its end says how long to wait for an image; it is not sent.

    Raises:
        InputError: a scheme that is not known, no host, or a patience that is no number.
    """
    try:
        parts = urlsplit(source)
        port = parts.port
    except ValueError as error:
        raise InputError(f"The address {source.partition('://')[0]}://... is not valid: its host or port is wrong.") from error
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    shown = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
    if parts.scheme not in SCHEMES:
        raise InputError(f"'{shown}' has the scheme '{parts.scheme}'; supported are {', '.join(SCHEMES)}, and files without one.")
    if not parts.hostname and parts.scheme != "udp":
        raise InputError(f"'{shown}' has no host; an address is {parts.scheme}://host/path.")
    url, shown = urlunsplit(parts._replace(fragment="")), shown + ("?..." if parts.query else "")
    if not parts.fragment:
        return Address(url, shown)
    key, _, text = parts.fragment.partition("=")
    try:
        patience = float(text)
    except ValueError:
        patience = -1.0
    if key != "patience" or not 0.0 <= patience < 1e9:
        raise InputError(f"The option after # of '{shown}' must be patience=SECONDS.")
    return Address(url, shown, patience)


def _http_answer(parts: SplitResult, timeout_s: float) -> str:
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    headers = {}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers=headers)
        answer = connection.getresponse()
        if answer.status == 200:
            return f"what the server sends ({answer.headers.get_content_type()}) is no video"
        return f"the server answers {answer.status} {answer.reason}"
    except http.client.HTTPException:
        return "the server does not speak HTTP"
    finally:
        connection.close()
