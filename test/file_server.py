# SPDX-License-Identifier: Apache-2.0
"""An HTTP server of one file on this machine, which fails in the ways servers do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served and how.

    ranges: whether parts can be asked for. breaks: after how many bytes each of the next answers breaks off. busy: how many
    answers are 503 first. announced: Content-Length, when it is not the true one; None sends none. status: for all but these.
    starts: the first byte that each request asked for, as they came.
    """

    content: bytes
    ranges: bool = True
    etag: str = '"version-1"'
    breaks: list[int] = field(default_factory=list)
    busy: int = 0
    announced: int | None = -1
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)
    base: str = ""

    @contextmanager
    def running(self) -> Iterator[FileServer]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.base = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path in outer.redirects:
                    self.send_response(302)
                    self.send_header("Location", outer.redirects[self.path])
                    for name, value in outer.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    return
                asked = self.headers["Range"]
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                outer.starts.append(start)
                if outer.busy or outer.status != 200:
                    self.send_error(503 if outer.busy else outer.status)
                    outer.busy = max(outer.busy - 1, 0)
                    return
                if not outer.ranges or self.headers["If-Range"] != outer.etag:
                    start = 0
                self._send(start)

            def _send(self, start: int) -> None:
                body, total = outer.content[start:], len(outer.content)
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                if outer.announced is not None:
                    self.send_header("Content-Length", str(len(body) if outer.announced < 0 else outer.announced))
                if outer.etag:
                    self.send_header("ETag", outer.etag)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: outer.breaks.pop(0)] if outer.breaks else body)

        return Handler
