# SPDX-License-Identifier: Apache-2.0
"""One HTTP request for a file, or for the rest of it."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Any

from st3r_ros import __version__
from st3r_ros.errors import DownloadError

TIMEOUT_S = 30.0
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
_BUSY = (408, 425, 429, 500, 502, 503, 504)
# A store behind a redirect has the file; the one that sent there knows what it should be (the Hub does).
_LINKED_SIZE, _LINKED_TAG = "X-Linked-Size", "X-Linked-Etag"


class BrokenConnectionError(DownloadError):
    """The server or the way to it failed for now; trying again may help."""


class UnreachableError(BrokenConnectionError):
    """No connection came about at all."""


@dataclass(frozen=True, eq=False)
class Body:
    """What the server sends: the bytes from `start` on.

    total: bytes of the whole file, None if not told. validator: names this version of the file, "" if the server has no such
    name. sha256: of the whole file where the server tells it, else "".
    """

    stream: IO[bytes]
    start: int
    total: int | None
    validator: str
    sha256: str

    def read(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end. Raises BrokenConnectionError."""
        try:
            return self.stream.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenConnectionError(f"the connection broke ({_reason(error)})") from error


@contextmanager
def open_url(url: str, start: int = 0, validator: str = "") -> Iterator[Body]:
    """Asks for a file from byte `start` on, if it is still the version called `validator`; the whole file comes otherwise.

    Raises:
        UnreachableError, BrokenConnectionError: for now; the text is part of a sentence.
        DownloadError: for good; the text is part of a sentence.
    """
    headers = {"User-Agent": f"st3r_ros/{__version__}", "Accept-Encoding": "identity"}
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    redirects = _Redirects()
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:
            with open_url(url) as body:
                yield body
            return
        raise _refusal(error) from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"the server cannot be reached ({_reason(error)})") from error
    except ValueError as error:
        raise DownloadError(f"it is no address ({error})") from error
    with closing(response):
        yield _body(response, start, redirects.told)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the file information of the redirecting server."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.told |= {name: headers[name] for name in (_LINKED_SIZE, _LINKED_TAG) if headers[name]}
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and req.type == "https" and following.type != "https":
            raise urllib.error.URLError(f"it sends to {newurl}, which is not encrypted")
        return following


def _body(response: Any, start: int, told: dict[str, str]) -> Body:
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise DownloadError("the server sent a web page instead of the file; check the link, it may need a login")
    length = headers["Content-Length"]
    total = int(length) if length and length.isdecimal() else None
    came_from = 0
    match = _RANGE.match(headers["Content-Range"] or "")
    if response.status == 206:
        if match is None or int(match[1]) != start:
            raise DownloadError(f"the server sent another part of the file than asked for ({headers['Content-Range']!r})")
        came_from, total = start, None if match[2] == "*" else int(match[2])
    if told.get(_LINKED_SIZE, "").isdecimal():
        total = int(told[_LINKED_SIZE])
    tag = headers["ETag"] or ""
    validator = tag if tag and not tag.startswith("W/") else headers["Last-Modified"] or ""
    sha256 = _SHA256.fullmatch(told.get(_LINKED_TAG) or headers[_LINKED_TAG] or "")
    return Body(response, came_from, total, validator, sha256[1] if sha256 else "")


def _refusal(error: urllib.error.HTTPError) -> DownloadError:
    said = f"the server answers {error.code} {error.reason}"
    if error.code in _BUSY:
        return BrokenConnectionError(said)
    if error.code in (404, 410):
        return DownloadError(f"{said}: there is no such file; check the link")
    if error.code in (401, 403):
        return DownloadError(f"{said}: the file is not open to everybody; fetch it with a browser and give its path")
    return DownloadError(said)


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return str(inner) or type(inner).__name__
