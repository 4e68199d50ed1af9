# SPDX-License-Identifier: Apache-2.0
"""Storage files in SQLite (.db3), those of a recording that was killed too."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from st3r_ros.errors import FrameError, InputError
from st3r_ros.io.bag_storage import Channel, Contents, Message, Storage, kind_of

_LAST_ID = 1 << 62
_WAL = "-wal"


class SqliteStorage(Storage):
    """Row by row in the order they were written, so that a database that breaks off gives what is before."""

    def __init__(self, database: sqlite3.Connection, path: Path, name: str) -> None:
        self._database, self._path, self._name = database, path, name
        try:
            rows = database.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        except sqlite3.Error as error:
            lacks = _missing_journal(path, name) or _missing_bytes(path)
            raise InputError(
                f"'{name}' is not a bag, or is damaged at its beginning: it has no table of topics{lacks}."
            ) from error
        self._channels = {
            number: Channel(str(topic), kind_of(str(kind)), str(encoding)) for number, topic, kind, encoding in rows
        }

    def contents(self) -> Contents:
        counts, start_ns = Counter(dict.fromkeys(self._channels.values(), 0)), 0
        problem = str(self._damaged(0)) if _missing_bytes(self._path) else ""
        try:
            found = self._database.execute("SELECT topic_id, COUNT(*), MIN(timestamp) FROM messages GROUP BY topic_id").fetchall()
        except sqlite3.Error:
            rows, _ = self._rows(list(self._channels))
            found, problem = [(number, 1, stamp) for _, number, stamp in rows], str(self._damaged(0))
        for number, count, first_ns in found:
            if number in self._channels and isinstance(first_ns, int):
                counts[self._channels[number]] += count
                start_ns = min(start_ns or first_ns, first_ns)
        return Contents(counts, start_ns, problem)

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        rows, whole = self._rows([number for number, channel in self._channels.items() if channel.topic in topics])
        lost = 0
        for row, number, recorded_ns in sorted(rows, key=lambda row: row[2]):
            data = self._data(row)
            if data is None:
                lost += 1
            else:
                yield Message(self._channels[number], recorded_ns, data)
        if lost or not whole:
            raise self._damaged(lost)

    def _data(self, row: int) -> bytes | None:
        try:
            found: list[tuple[Any]] = self._database.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchall()
        except sqlite3.Error:
            return None
        return found[0][0] if len(found) == 1 and isinstance(found[0][0], bytes) else None

    def _rows(self, numbers: list[int]) -> tuple[list[tuple[int, int, int]], bool]:
        """(id, topic, time of recording) of the messages of some topics, and whether those are all. Ids that cannot be read are
        passed over, in steps that grow."""
        rows: list[tuple[int, int, int]] = []
        whole, after, step = True, -1, 1.0
        wanted = ", ".join("?" * len(numbers))
        query = f"SELECT id, topic_id, timestamp FROM messages NOT INDEXED WHERE id > ? AND topic_id IN ({wanted}) ORDER BY id"
        while after < _LAST_ID:
            try:
                for row in self._database.execute(query, (after, *numbers)):
                    after, step = row[0], 1.0
                    if isinstance(row[2], int):
                        rows.append(row)
                break
            except sqlite3.Error:
                whole = False
                after += int(step)
                step *= 1.1
        return rows, whole

    def _damaged(self, lost: int) -> FrameError:
        lacks = _missing_bytes(self._path)
        what = f"was cut off{lacks}" if lacks else "is damaged: it was modified after the recording, or not written to its end"
        unread = f"; {lost} of the messages that it lists cannot be read" if lost else ""
        return FrameError(f"'{self._name}' {what}{unread}.")


def journals_of(path: Path) -> list[Path]:
    """What SQLite left beside a database that was not closed."""
    files = [path.with_name(path.name + suffix) for suffix in (_WAL, "-journal")]
    return [file for file in files if file.is_file() and file.stat().st_size > 0]


def copy_with_journals(path: Path, journals: list[Path], folder: Path) -> Path:
    """A copy that SQLite may complete from its journal; the original is never written to."""
    for file in (path, *journals):
        shutil.copyfile(file, folder / file.name)
    return folder / path.name


@contextmanager
def open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """A database to read. One with a journal beside it is completed from that."""
    uri = path.absolute().as_uri() + ("" if journals_of(path) else "?immutable=1")
    with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as database:
        database.execute("PRAGMA writable_schema = ON")  # else a file that was cut off is refused; nothing is written to it
        database.text_factory = lambda text: text.decode(errors="replace")
        yield database


def _missing_bytes(path: Path) -> str:
    """What the header says of the size, where the file is smaller; "" else."""
    with path.open("rb") as file:
        head = file.read(100)
    size = path.stat().st_size
    if len(head) < 100:
        return f": it has {size} bytes only"
    page, pages = struct.unpack_from(">H10xL", head, 16)
    expected = (65536 if page == 1 else page) * pages
    return f": it has {size} of {expected} bytes" if size < expected else ""


def _missing_journal(path: Path, name: str) -> str:
    """What to do for a database that was never merged with its write-ahead log, where that is not beside it; "" else."""
    with path.open("rb") as file:
        in_wal_mode = file.read(20)[18:20] == b"\2\2"
    if not in_wal_mode or journals_of(path):
        return ""
    return f"; its recorder wrote to '{name}{_WAL}' first, which is missing beside it: copy that from where it was recorded too"
