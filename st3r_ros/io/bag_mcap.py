# SPDX-License-Identifier: Apache-2.0
"""Storage files in mcap: by their index, or record by record where it is missing or damaged."""

from __future__ import annotations

import heapq
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from st3r_ros.errors import FrameError
from st3r_ros.io.bag_mcap_records import (
    CHANNEL,
    CHUNK,
    DATA_END,
    FOOTER,
    MAGIC,
    MESSAGE,
    PACKINGS,
    SCHEMA,
    McapRecord,
    MessageHead,
    check_packing,
    message_head,
    read,
    read_channel,
    read_chunk,
    read_schema,
    records,
)
from st3r_ros.io.bag_storage import Channel, Contents, Message, Storage, kind_of, places_written

if TYPE_CHECKING:
    from mcap.summary import Summary


class _Found(NamedTuple):
    """A message, whose data is not yet read from the file or the chunk that it is in."""

    channel: Channel
    head: MessageHead
    stream: BinaryIO

    def message(self) -> Message:
        self.stream.seek(self.head.begin)
        return Message(self.channel, self.head.recorded_ns, self.stream.read(self.head.end - self.head.begin))


class McapStorage(Storage):
    """By its index where there is a whole one; else record by record, as far as the file goes. A damaged chunk is left out."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._index = _read_index(file)
        self._size = file.seek(0, SEEK_END)
        self._damaged: list[McapRecord] = []

    def contents(self) -> Contents:
        if self._index is not None and self._index.statistics is not None:
            statistics, channels = self._index.statistics, _channels(self._index)
            counts = Counter(dict.fromkeys(channels.values(), 0))
            for number, channel in channels.items():
                counts[channel] += statistics.channel_message_counts.get(number, 0)
            return Contents(counts, statistics.message_start_time)
        known = _Known()
        counts, start_ns, problem = Counter(), 0, ""
        try:
            for found in self._scan(known):
                counts[found.channel] += 1
                start_ns = start_ns or found.head.recorded_ns
        except FrameError as error:
            problem = str(error)
        counts.update(dict.fromkeys(known.channels.values(), 0))
        return Contents(counts, start_ns, problem)

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        if self._index is not None:
            yield from self._indexed(self._index, topics)
        else:
            for found in self._scan(_Known()):
                if found.channel.topic in topics:
                    yield found.message()

    def _indexed(self, index: Summary, topics: Collection[str]) -> Iterator[Message]:
        """By time: a chunk is read when no earlier message can be in the ones before it."""
        known = _Known(_channels(index))
        wanted = {number for number, channel in known.channels.items() if channel.topic in topics}
        waiting: list[tuple[int, int, int, Message]] = []
        self._damaged = []
        chunks = [chunk for chunk in index.chunk_indexes if wanted & chunk.message_index_offsets.keys()]
        for chunk in sorted(chunks, key=lambda chunk: (chunk.message_start_time, chunk.chunk_start_offset)):
            while waiting and waiting[0][0] < chunk.message_start_time:
                yield heapq.heappop(waiting)[-1]
            begin = chunk.chunk_start_offset
            record = next(records(self._file, begin, self._size), McapRecord(0, begin, self._size, False))
            for number, found in enumerate(self._chunk(record, known)):
                if found.channel.topic in topics:
                    heapq.heappush(waiting, (found.head.recorded_ns, begin, number, found.message()))
        while waiting:
            yield heapq.heappop(waiting)[-1]
        if self._damaged:
            raise FrameError(self._damage())

    def _scan(self, known: _Known) -> Iterator[_Found]:
        """All messages, record by record."""
        self._damaged = []
        is_there = places_written(self._file)
        record = McapRecord(0, len(MAGIC), self._size, False)
        for record in records(self._file, len(MAGIC), self._size, is_there):
            if record.kind == CHUNK:
                yield from self._chunk(record, known, is_there)
            elif record.whole and record.kind in (DATA_END, FOOTER):
                if self._damaged:
                    raise FrameError(self._damage())
                return
            elif record.whole:
                found = known.take(self._file, record)
                if found is not None:
                    yield found
        left = "" if record.whole else f"; its last {self._size - record.begin} bytes are not a whole record"
        damage = f" {self._damage()}" if self._damaged else ""
        raise FrameError(f"'{self._name}' was cut off: its end is missing, as after a recorder that was killed{left}.{damage}")

    def _chunk(self, record: McapRecord, known: _Known, is_there: Callable[[int], bool] = lambda after: True) -> Iterator[_Found]:
        """The messages of a chunk. One that is damaged is noted."""
        stream, begin, end = self._file, record.begin, record.end
        try:
            if record.kind != CHUNK:
                raise ValueError("there is no chunk where the index says so")
            chunk = read_chunk(self._file, record)
            check_packing(chunk.packing, self._name)
            if not record.whole and not chunk.packing:
                begin = chunk.begin
            else:
                data = chunk.unpack() if record.whole else chunk.unpack_beginning()
                stream, begin, end, is_there = BytesIO(data), 0, len(data), lambda after: True
        except FrameError:
            raise
        except Exception:  # the libraries that unpack have errors of their own
            if record.whole or record.kind != CHUNK:
                self._damaged.append(record)
            return
        for part in records(stream, begin, end, is_there):
            if part.whole:
                found = known.take(stream, part)
                if found is not None:
                    yield found
            elif record.whole:
                self._damaged.append(record)

    def _damage(self) -> str:
        size = sum(record.end - record.begin for record in self._damaged)
        return (
            f"'{self._name}' is damaged: {len(self._damaged)} of its chunks, {size} bytes from byte {self._damaged[0].begin} on, "
            "cannot be unpacked; the messages in them are lost."
        )


class _Known:
    """The channels that were met so far."""

    def __init__(self, channels: dict[int, Channel] | None = None) -> None:
        self.channels = channels or {}
        self._types: dict[int, str] = {}

    def take(self, stream: BinaryIO, record: McapRecord) -> _Found | None:
        """The message that a record is, or None: learns from a channel or a schema. One that is damaged is left out."""
        if record.kind == MESSAGE:
            try:
                head = message_head(stream, record)
            except struct.error:
                return None
            channel = self.channels.get(head.channel)
            return None if channel is None else _Found(channel, head, stream)
        with suppress(Exception):  # the library mcap reports damaged records by many types of error
            if record.kind == SCHEMA:
                schema = read_schema(read(stream, record))
                self._types[schema.id] = schema.name
            elif record.kind == CHANNEL:
                channel_record = read_channel(read(stream, record))
                kind = kind_of(self._types.get(channel_record.schema_id, ""))
                self.channels[channel_record.id] = Channel(channel_record.topic, kind, channel_record.message_encoding)
        return None


def _read_index(file: BinaryIO) -> Summary | None:
    """The summary at the end of the file; None where it is missing or lacks what is needed to read the messages by it."""
    from mcap.reader import SeekingReader

    try:
        summary = SeekingReader(file).get_summary()
    except Exception:  # cut off or damaged: read record by record
        return None
    if summary is None or summary.statistics is None or not summary.chunk_indexes:
        return None
    used = {number for chunk in summary.chunk_indexes for number in chunk.message_index_offsets}
    known = all(channel.schema_id in {0, *summary.schemas} for channel in summary.channels.values())
    indexed = all(chunk.message_index_offsets for chunk in summary.chunk_indexes)
    packed = {chunk.compression for chunk in summary.chunk_indexes}
    return summary if known and indexed and used <= set(summary.channels) and packed <= set(PACKINGS) else None


def _channels(summary: Summary) -> dict[int, Channel]:
    names = {number: schema.name for number, schema in summary.schemas.items()}
    return {
        number: Channel(channel.topic, kind_of(names.get(channel.schema_id, "")), channel.message_encoding)
        for number, channel in summary.channels.items()
    }
