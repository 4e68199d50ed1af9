# SPDX-License-Identifier: Apache-2.0
"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from st3r_ros.errors import OutputError


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary sibling of `path`, of the same suffix, to write to; it takes the place of `path` when the block ends well.

    Missing folders are made. When the block fails, nothing is left behind and an older `path` stays whole.

    Raises:
        OutputError: the folder cannot be made or written to, or a folder stands where the file should go.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        if path.is_dir():
            raise OutputError(f"'{path}' cannot be written: it is a folder; give the name of a file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
        temporary.touch()
        yield temporary
        _to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {_reason(error)}; choose another place or make room.") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def write_file(path: Path | str, *parts: bytes | memoryview) -> None:
    """Write the parts, one after the other, to a new `path` or over an old one.

    Raises:
        OutputError: as `atomic_path`.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            file.write(part)


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _reason(error: OSError) -> str:
    where = f" ('{error.filename}')" if error.filename else ""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"a file stands where a folder is needed{where}"
    return f"{error.strerror or error}{where}"
