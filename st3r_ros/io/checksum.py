# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of large files, and the `NAME.sha256` kept beside a file, as `sha256sum -c` reads it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from st3r_ros.io.atomic import write_file

CHUNK = 2**20
_LINE = re.compile(r"([0-9a-fA-F]{64})\b")

# Told how many bytes are done and how many there are, None where that is not known.
Progress = Callable[[int, int | None], None]


def file_sha256(path: Path, progress: Progress | None = None) -> str:
    """The SHA-256 of a file as hexadecimal digits. Raises OSError where it cannot be read."""
    digest, done, size = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, size)
    return digest.hexdigest()


def recorded_sha256(path: Path) -> str | None:
    """What `path.sha256` says of a file, None where there is no such record."""
    try:
        match = _LINE.match(_record(path).read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return None
    return match[1].lower() if match else None


def record_sha256(path: Path, sha256: str) -> None:
    """Writes `path.sha256`. Raises OutputError where it cannot be written."""
    write_file(_record(path), f"{sha256}  {path.name}\n".encode())


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
