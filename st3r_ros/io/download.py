# SPDX-License-Identifier: Apache-2.0
"""Fetching a large file over a bad line: what has arrived is kept, and only whole, verified files get their name.

huggingface_hub (looked at in 2.4.0) does not replace this. It fetches from the Hub only, while the published checkpoints lie on
their publisher's server or a mirror of it; it deletes what an interrupted process has fetched, so that a download of gigabytes
begins anew; and it compares the size of the file, not its SHA-256. Repositories of the Hub are fetched by it: see
`checkpoints.sources`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from st3r_ros.errors import DownloadError, OutputError
from st3r_ros.io.checksum import CHUNK, Progress, file_sha256, record_sha256, recorded_sha256
from st3r_ros.io.http import Body, BrokenConnectionError, UnreachableError, open_url

# Seconds to wait before each new try; a try that brought something new starts the series again.
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
_WEB_PAGE = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Downloaded:
    """A whole file. already_there: it was verified, not fetched. resumed_at: bytes that an earlier run had brought."""

    path: Path
    size: int
    sha256: str
    already_there: bool = False
    resumed_at: int = 0


def download(
    url: str,
    path: Path,
    *,
    sha256: str = "",
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Downloaded:
    """Fetches `url` to `path`, or verifies `path` where it is there already.

    On its way the file is `path.part`; a later call resumes from there if the server still has the same version. Its size
    must be the one announced, its SHA-256 the one given (or told by the server, or recorded earlier in `path.sha256`, which is
    written at the end).
    progress: told the bytes so far and in all. say: told of interruptions. sleep: waits between tries.

    Raises:
        DownloadError: the server, the line or the content; what has arrived is kept when it can be of use.
        OutputError: the disk.
    """
    progress, say = progress or (lambda done, total: None), say or (lambda text: None)
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"'{url}' cannot be downloaded: it does not begin with https:// or http://.")
    try:
        if path.exists():
            return _verify(url, path, sha256, progress)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f"{path.name}.part")) as file:
            transfer = _Transfer(url, file, path.with_name(f"{path.name}.part.json"), progress)
            resumed_at = transfer.resume()
            transfer.fetch(say, sleep)
            transfer.check(sha256)
            os.fsync(file.fileno())
            path.with_name(f"{path.name}.part").replace(path)
        transfer.notes.unlink(missing_ok=True)
    except DownloadError as error:
        raise DownloadError(f"'{url}' cannot be downloaded: {error}.") from error
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; what has arrived is kept.") from error
    digest = transfer.digest.hexdigest()
    record_sha256(path, digest)
    return Downloaded(path, transfer.done, digest, resumed_at=resumed_at)


def _verify(url: str, path: Path, sha256: str, progress: Progress) -> Downloaded:
    if path.is_dir():
        raise OutputError(f"'{path}' cannot be written: it is a folder; give the name of a file.")
    size = path.stat().st_size
    expected = sha256 or recorded_sha256(path)
    if not expected:
        with open_url(url) as body:
            expected = body.sha256
            if body.total not in (None, size):
                raise DownloadError(
                    f"'{path}' is there with {size} bytes, and the server has {body.total}; delete it to begin again"
                )
    found = file_sha256(path, progress)
    if expected and found != expected:
        raise DownloadError(f"'{path}' is there with SHA-256 {found}, expected {expected}; delete it to begin again")
    record_sha256(path, found)
    return Downloaded(path, size, found, already_there=True)


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """The file that grows, for this process alone."""
    with part.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"another process is writing '{part}'; let it end, or stop it") from error
        yield file


class _Transfer:
    """A file on its way. done: bytes that are here. digest: of these."""

    def __init__(self, url: str, file: IO[bytes], notes: Path, progress: Progress) -> None:
        self.notes = notes
        self.done = 0
        self.digest = hashlib.sha256()
        self._url = url
        self._file = file
        self._progress = progress
        self._connected = False
        self._told: dict[str, Any] = {}  # url, and total, validator, sha256 as `Body` has them

    def resume(self) -> int:
        """Continues the partial download of an earlier run; returns its number of bytes."""
        with suppress(OSError, ValueError):
            self._told = json.loads(self.notes.read_text(encoding="utf-8"))
        if not isinstance(self._told, dict) or self._told.get("url") != self._url or not self._told.get("validator"):
            self._restart()
            return 0
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            self.digest.update(chunk)
            self.done += len(chunk)
        return self.done

    def fetch(self, say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
        """Brings the rest, over as many connections as it takes."""
        pauses, best = iter(PAUSES_S), self.done
        while self.done == 0 or self.done != self._told.get("total"):
            try:
                self._receive()
                return
            except BrokenConnectionError as error:
                if self.done > best:
                    pauses, best = iter(PAUSES_S), self.done
                pause = next(pauses, None)
                if pause is None or (isinstance(error, UnreachableError) and not self._connected):
                    raise DownloadError(f"{error}; {self.done} bytes are stored; run the same command to resume") from error
                say(f"At {self.done} bytes {error}; trying again in {pause:g} s.")
                sleep(pause)

    def check(self, sha256: str) -> None:
        """Compares with what is expected; a wrong file is not kept."""
        expected, found = sha256 or self._told.get("sha256"), self.digest.hexdigest()
        if expected and found != expected:
            self._restart()
            raise DownloadError(f"what came has SHA-256 {found}, expected {expected}; it was deleted")

    def _receive(self) -> None:
        """One connection."""
        with open_url(self._url, self.done, self._told.get("validator", "")) as body:
            self._connected = True
            if body.start != self.done or not self.done:
                self._begin(body)
            self._check_room(body.total)
            while chunk := body.read(CHUNK):
                if not self.done and chunk.lstrip()[:20].lower().startswith(_WEB_PAGE):
                    raise DownloadError("the server sent a web page instead of the file; check the link, it may need a login")
                self._file.write(chunk)
                self.digest.update(chunk)
                self.done += len(chunk)
                self._progress(self.done, body.total)
            self._file.flush()
            if body.total is not None and self.done < body.total:
                raise BrokenConnectionError(f"the connection ended before the {body.total} of the file")
            if body.total is not None and self.done > body.total:
                self._restart()
                raise DownloadError(f"more came than the {body.total} bytes announced")

    def _begin(self, body: Body) -> None:
        self._restart()
        self._told = {"url": self._url, "total": body.total, "validator": body.validator, "sha256": body.sha256}
        self.notes.write_text(json.dumps(self._told), encoding="utf-8")

    def _restart(self) -> None:
        self._file.truncate(0)
        self.done, self.digest, self._told = 0, hashlib.sha256(), {}

    def _check_room(self, total: int | None) -> None:
        free = shutil.disk_usage(self.notes.parent).free
        if total is not None and total - self.done > free:
            raise OutputError(
                f"'{self.notes.parent}' has {free / 1e9:.2f} GB free, and {(total - self.done) / 1e9:.2f} GB are to come; "
                "make room, or choose another folder with --out."
            )
