# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 1: by their index with the library rosbags, or record by record where it is missing or damaged."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from st3r_ros.errors import FrameError, InputError
from st3r_ros.io.bag_ros1_records import CHUNK, CONNECTION, MAGIC, MESSAGE, Ros1Record, read, read_fields, records, unpacked
from st3r_ros.io.bag_storage import Channel, Contents, Message, Storage, kind_of, places_written
from st3r_ros.io.stamps import NANOSECONDS

if TYPE_CHECKING:
    from rosbags.rosbag1 import Reader


def open_ros1(path: Path, name: str, stack: ExitStack) -> Storage:
    """A bag of ROS 1, which is closed with the stack."""
    from rosbags.rosbag1 import Reader

    try:
        return _IndexedBag(stack.enter_context(Reader(path)), path, name)
    except OSError:
        raise
    except Exception:  # rosbags reports a damaged index by many types of error
        return _UnindexedBag(stack.enter_context(path.open("rb")), name)


class _IndexedBag(Storage):
    def __init__(self, reader: Reader, path: Path, name: str) -> None:
        self._reader, self._path, self._name = reader, path, name
        self._channels = {c.id: Channel(c.topic, c.msgtype, "ros1") for c in reader.connections}

    def contents(self) -> Contents:
        counts: Counter[Channel] = Counter()
        for connection in self._reader.connections:
            counts[self._channels[connection.id]] += connection.msgcount
        return Contents(counts, self._reader.start_time if self._reader.connections else 0)

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        last_ns = -1
        try:
            for connection, recorded_ns, data in self._reader.messages(connections) if connections else ():
                last_ns = recorded_ns
                yield Message(self._channels[connection.id], recorded_ns, data)
        except Exception as error:  # the libraries that unpack have errors of their own
            yield from self._later(topics, last_ns)
            raise FrameError(f"'{self._name}' is damaged: a part of it cannot be unpacked.") from error

    def _later(self, topics: Collection[str], last_ns: int) -> Iterator[Message]:
        """The messages after damage, which ends the reading by the index."""
        with self._path.open("rb") as file, suppress(FrameError):
            for message in _UnindexedBag(file, self._name).messages(topics):
                if message.recorded_ns > last_ns:
                    yield message


class _Found(NamedTuple):
    """A message, whose data is not yet read from the file or the chunk that it is in."""

    channel: Channel
    recorded_ns: int
    stream: BinaryIO
    record: Ros1Record


class _UnindexedBag(Storage):
    """In the order of the file, as far as it goes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._size = file.seek(0, SEEK_END)

    def contents(self) -> Contents:
        channels: dict[int, Channel] = {}
        counts: Counter[Channel] = Counter()
        start_ns, problem = 0, ""
        try:
            for found in self._scan(channels):
                counts[found.channel] += 1
                start_ns = start_ns or found.recorded_ns
        except FrameError as error:
            problem = str(error)
        counts.update(dict.fromkeys(channels.values(), 0))
        return Contents(counts, start_ns, problem)

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        for found in self._scan({}):
            if found.channel.topic in topics:
                yield Message(found.channel, found.recorded_ns, read(found.stream, found.record))

    def _scan(self, channels: dict[int, Channel]) -> Iterator[_Found]:
        """All messages. A chunk that was being written has no length yet: what follows it is in it."""
        record = Ros1Record({}, len(MAGIC), self._size, False)
        damaged = 0
        is_there = places_written(self._file)
        for record in records(self._file, len(MAGIC), self._size, is_there):
            if record.kind != CHUNK:
                if record.whole:
                    yield from _taken(channels, self._file, record)
                continue
            packing = record.fields.get(b"compression", b"").decode(errors="replace")
            open_ended = record.begin == record.end and packing != "none"
            if packing == "none" and not record.whole:
                stream, begin, end, written = self._file, record.begin, record.end, is_there
            else:
                data, whole = self._chunk(record, packing, self._size if open_ended else record.end)
                damaged += record.whole and not open_ended and not whole
                stream, begin, end, written = BytesIO(data), 0, len(data), lambda after: True
            for part in records(stream, begin, end, written):
                if part.whole:
                    yield from _taken(channels, stream, part)
            if open_ended:
                break
        left = "" if record.whole else f"; its last {self._size - record.begin} bytes are not a whole record"
        lost = f"; {damaged} of its chunks are damaged" if damaged else ""
        raise FrameError(
            f"'{self._name}' has no complete index: its recording was cut off, or it is damaged{left}{lost}. It is read from the "
            f"beginning as far as it goes (repair: rosbag reindex '{self._name}')."
        )

    def _chunk(self, record: Ros1Record, packing: str, end: int) -> tuple[bytes, bool]:
        try:
            return unpacked(packing, read(self._file, record._replace(end=end)))
        except KeyError as error:
            raise InputError(f"'{self._name}' is compressed with {packing!r}; ROS 1 knows none, bz2 and lz4.") from error


def _taken(channels: dict[int, Channel], stream: BinaryIO, record: Ros1Record) -> Iterator[_Found]:
    """Learns a connection, or gives the message that the record is. One that is damaged is left out."""
    try:
        if record.kind == CONNECTION:
            about = {**record.fields, **read_fields(read(stream, record))}
            topic = record.fields[b"topic"].decode(errors="replace")
            name = "/" * topic.startswith("/") + "/".join(part for part in topic.split("/") if part)
            channels[record.number(b"conn")] = Channel(name, kind_of(about[b"type"].decode(errors="replace")), "ros1")
        elif record.kind == MESSAGE and record.number(b"conn") in channels:
            seconds, nanoseconds = struct.unpack("<LL", record.fields[b"time"])
            yield _Found(channels[record.number(b"conn")], seconds * NANOSECONDS + nanoseconds, stream, record)
    except (KeyError, struct.error):
        return
