# SPDX-License-Identifier: Apache-2.0
"""Storage files in SQLite (.db3), those of a recording that was killed too."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from st3r_ros.errors import FrameError, InputError
from st3r_ros.io.bag_storage import Channel, Message, Storage, kind_of


class SqliteStorage(Storage):
    """Row by row in the order they were written, so that a database that breaks off gives what is before."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._database, self._name = database, name
        try:
            rows = database.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        except sqlite3.Error as error:
            raise InputError(f"'{name}' is not a bag, or is damaged at its beginning: it has no table of topics.") from error
        self._channels = {number: Channel(topic, kind_of(kind), encoding) for number, topic, kind, encoding in rows}
        self.counts = Counter(dict.fromkeys(self._channels.values(), 0))
        self.start_ns = 0
        try:
            counts = database.execute("SELECT topic_id, COUNT(*), MIN(timestamp) FROM messages GROUP BY topic_id").fetchall()
        except sqlite3.Error:
            counts = [(number, 1, stamp) for _, number, stamp in self._rows(list(self._channels))[0]]
        for number, count, start_ns in counts:
            if number in self._channels:
                self.counts[self._channels[number]] += count
                self.start_ns = min(self.start_ns or start_ns, start_ns)

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        rows, problem = self._rows([number for number, channel in self._channels.items() if channel.topic in topics])
        for row, number, recorded_ns in sorted(rows, key=lambda row: row[2]):
            try:
                ((data,),) = self._database.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchall()
            except (sqlite3.Error, ValueError) as error:
                raise self._damaged() from error
            yield Message(self._channels[number], recorded_ns, bytes(data))
        if problem is not None:
            raise self._damaged() from problem

    def _rows(self, numbers: list[int]) -> tuple[list[tuple[int, int, int]], sqlite3.Error | None]:
        """(id, topic, time of recording) of the messages of some topics, and what ended the search before the end."""
        rows: list[tuple[int, int, int]] = []
        try:
            wanted = ", ".join("?" * len(numbers))
            for row in self._database.execute(
                f"SELECT id, topic_id, timestamp FROM messages NOT INDEXED WHERE topic_id IN ({wanted})", numbers
            ):
                rows.append(row)
        except sqlite3.Error as error:
            return rows, error
        return rows, None

    def _damaged(self) -> FrameError:
        return FrameError(f"'{self._name}' is damaged: it was cut off, or modified after the recording.")


@contextmanager
def open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """A database to read. One that was not closed is completed from its journal in a copy; the original is never written to."""
    with ExitStack() as stack:
        journals = _journals_of(path)
        if journals:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="st3r_bag_")))
            for file in (path, *journals):
                shutil.copyfile(file, folder / file.name)
            path = folder / path.name
        uri = path.absolute().as_uri() + ("" if journals else "?immutable=1")
        database = stack.enter_context(closing(sqlite3.connect(uri, uri=True, check_same_thread=False)))
        database.execute("PRAGMA writable_schema = ON")  # else a file that was cut off is refused; nothing is written to it
        database.text_factory = lambda text: text.decode(errors="replace")
        yield database


def _journals_of(path: Path) -> list[Path]:
    """What SQLite left beside a database that was not closed."""
    files = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    return [file for file in files if file.is_file() and file.stat().st_size > 0]
