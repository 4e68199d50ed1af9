# SPDX-License-Identifier: Apache-2.0
"""Atomic writing of a folder: a process that is killed leaves the previous folder unchanged.

The new folder is written next to the old one and synced to disk; then the two are exchanged in one step. Where the file system
does not support this, the old folder is renamed for a moment to a name under which `current` still finds it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from st3r_ros.errors import OutputError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def staged_folder(
    folder: Path | str, is_ours: Callable[[str], bool], check_replaceable: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """An empty folder next to `folder` to write to; it replaces `folder` when the block succeeds.

    When the block fails, nothing is left behind and an older `folder` stays unchanged. Remains of killed processes are removed
    first.
    is_ours: whether a file of this name, relative to its folder, is one of those written here; no other is deleted.
    check_replaceable: raises OutputError when a folder that is not empty must not be replaced; without it, none is.

    Raises:
        OutputError: the folder cannot be created or written, or must not be replaced.
    """
    with _begun(resolved(folder), is_ours, check_replaceable) as staging, _in_use(staging):
        yield staging
        for directory, _, _ in os.walk(staging):
            _sync_folder(Path(directory))
        folder = resolved(folder)
        _check(folder, check_replaceable)
        _put_in_place(staging, folder, replace=check_replaceable is not None)
        with suppress(OSError):  # it is in place, but may not survive a power cut
            _sync_folder(folder.parent)


def check_staging(
    folder: Path | str, is_ours: Callable[[str], bool], check_replaceable: Callable[[Path], None] | None = None
) -> None:
    """Raises the errors that `staged_folder` would raise before writing."""
    with _begun(resolved(folder), is_ours, check_replaceable):
        pass


def write_synced(path: Path, data: bytes) -> None:
    """Writes a new file and syncs it to disk. Raises OSError when that fails."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def current(folder: Path | str) -> Path:
    """The folder with the content of `folder`: itself, or the one next to it when a process was killed during the exchange.

    Raises:
        OutputError: it is the root of the file system.
    """
    folder = resolved(folder)
    aside = _aside(folder)
    return aside if not folder.exists() and aside.is_dir() else folder


def resolved(folder: Path | str) -> Path:
    """The folder itself, with links resolved.

    Raises:
        OutputError: it is the root of the file system.
    """
    path = Path(os.path.realpath(Path(folder).expanduser()))
    if not path.name:
        raise OutputError(f"'{folder}' is the root of the file system; give a folder in it.")
    return path


def files_below(folder: Path) -> list[str]:
    """Names of all files below a folder, relative to it, with slashes; links to folders count as files."""
    found = []
    for directory, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(directory) / name).is_symlink()]
        found += [(Path(directory) / name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(found)


def exchange(a: Path, b: Path) -> bool:
    """Exchanges two paths in one step; False when the system does not support it. Raises OSError when it fails."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(b))


@contextmanager
def _begun(folder: Path, is_ours: Callable[[str], bool], check_replaceable: Callable[[Path], None] | None) -> Iterator[Path]:
    """The new folder, removed after the block."""
    staging = folder.with_name(f".{folder.name}.st3r-save-{uuid.uuid4().hex}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _bring_back(folder)
        _check(folder, check_replaceable)
        _clean_up(folder, is_ours)
        staging.mkdir()
        yield staging
    except OSError as error:
        where = f" ('{error.filename}')" if error.filename else ""
        raise OutputError(
            f"'{folder}' cannot be written: {error.strerror or error}{where}; free space or choose another place. What was there "
            "before is unchanged."
        ) from error
    finally:
        _remove(staging, is_ours)


def _check(folder: Path, check_replaceable: Callable[[Path], None] | None) -> None:
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"'{folder}' cannot be written: it is a file; give the name of a folder.")
    if any(folder.iterdir()):
        if check_replaceable is None:
            raise OutputError(f"'{folder}' is not overwritten: it is not empty; give the name of a new folder.")
        check_replaceable(folder)


def _put_in_place(staging: Path, folder: Path, replace: bool) -> None:
    """Moves the new folder to `folder`, and an old one to `staging`."""
    try:
        staging.rename(folder)  # nothing or an empty folder is there
        return
    except OSError as error:
        if not replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if exchange(staging, folder):
        return
    aside = _aside(folder)
    folder.rename(aside)
    try:
        staging.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    aside.rename(staging)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.st3r-old")


def _bring_back(folder: Path) -> None:
    """Restores the old folder when a process was killed before the new one replaced it."""
    aside = _aside(folder)
    if aside.is_dir() and not folder.exists():
        aside.rename(folder)


def _clean_up(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Deletes remains of killed processes next to the folder."""
    leftover = re.compile(rf"\.{re.escape(folder.name)}\.st3r-(old|save-[0-9a-f]{{32}})")
    for path in list(folder.parent.iterdir()):
        if leftover.fullmatch(path.name) and path.is_dir() and not _is_in_use(path):
            _remove(path, is_ours)


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Locks the folder during the block, so that other processes do not delete it. The lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system supports locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_in_use(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _remove(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Deletes our files in a folder, and the folder with its subfolders unless it contains something else."""
    for name in files_below(folder):
        if is_ours(name):
            with suppress(OSError):
                (folder / name).unlink()
    for directory, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(directory).rmdir()


def _sync_folder(folder: Path) -> None:
    """Syncs a folder's list of files to disk, if the file system supports it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)
