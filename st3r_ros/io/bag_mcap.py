# SPDX-License-Identifier: Apache-2.0
"""Storage files in mcap, read with the library mcap: by their index, or record by record where it is missing or damaged."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from st3r_ros.errors import FrameError
from st3r_ros.io.bag_storage import Channel, Message, Storage, kind_of

if TYPE_CHECKING:
    from mcap.records import Chunk, McapRecord
    from mcap.summary import Summary


_PACKINGS = ("", "lz4", "zstd")


class McapStorage(Storage):
    """By its index where there is a whole one; else record by record, as far as the file goes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._index = _mcap_index(file)
        if self._index is not None and self._index.statistics is not None:
            channels, counts = _channels(self._index), self._index.statistics.channel_message_counts
            self.counts = Counter(dict.fromkeys(channels.values(), 0))
            for number, channel in channels.items():
                self.counts[channel] += counts.get(number, 0)
            self.start_ns = self._index.statistics.message_start_time
        else:
            self.counts, self.start_ns = Counter(), 0
            try:
                for message in self._scan(None):
                    self.start_ns = self.start_ns or message.recorded_ns
            except FrameError:
                pass  # `messages` comes there again

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        return self._scan(topics) if self._index is None else self._indexed(topics)

    def _indexed(self, topics: Collection[str]) -> Iterator[Message]:
        from mcap.reader import SeekingReader

        assert self._index is not None
        channels = _channels(self._index)
        try:
            for _, channel, message in SeekingReader(self._file, validate_crcs=True).iter_messages(list(topics)):
                yield Message(channels[channel.id], message.log_time, message.data)
        except Exception as error:  # the libraries that unpack have errors of their own
            raise self._damaged() from error

    def _scan(self, topics: Collection[str] | None) -> Iterator[Message]:
        """Record by record; without topics, what is met is counted."""
        from mcap.records import Channel as McapChannel
        from mcap.records import Message as McapMessage
        from mcap.records import Schema

        schemas: dict[int, str] = {}
        channels: dict[int, Channel] = {}
        for record in self._records():
            if isinstance(record, Schema):
                schemas[record.id] = record.name
            elif isinstance(record, McapChannel):
                channel = Channel(record.topic, kind_of(schemas.get(record.schema_id, "")), record.message_encoding)
                channels[record.id] = channel
                if topics is None:
                    self.counts[channel] += 0
            elif isinstance(record, McapMessage) and record.channel_id in channels:
                channel = channels[record.channel_id]
                if topics is None:
                    self.counts[channel] += 1
                if topics is None or channel.topic in topics:
                    yield Message(channel, record.log_time, record.data)

    def _records(self) -> Iterator[McapRecord]:
        from mcap.records import Chunk, DataEnd
        from mcap.stream_reader import StreamReader

        self._file.seek(0)
        records = StreamReader(self._file, emit_chunks=True).records
        while True:
            begin = self._file.tell()
            try:
                record = next(records)
            except Exception as error:
                damage = self._damaged()
                yield from self._chunk_cut_off(begin)
                raise damage from error
            if isinstance(record, DataEnd):
                return
            if isinstance(record, Chunk):
                yield from self._chunk_records(record)
            else:
                yield record

    def _chunk_cut_off(self, begin: int) -> Iterator[McapRecord]:
        """The records of the last chunk that are before the end of the file."""
        from mcap.data_stream import ReadDataStream
        from mcap.opcode import Opcode
        from mcap.records import Chunk

        self._file.seek(begin)
        if self._file.read(1) == bytes([Opcode.CHUNK]):
            self._file.seek(begin + 9)
            with suppress(Exception):
                yield from self._chunk_records(Chunk.read(ReadDataStream(self._file)))

    def _chunk_records(self, chunk: Chunk) -> Iterator[McapRecord]:
        from mcap.exceptions import EndOfFile
        from mcap.stream_reader import StreamReader

        if chunk.compression not in _PACKINGS:
            packing = f"'{self._name}' is compressed with {chunk.compression!r}"
            raise FrameError(f"{packing}, which is not supported; recompress it with: mcap compress '{self._name}'")
        try:
            data = _chunk_data(chunk)
            whole = len(data) == chunk.uncompressed_size
            if whole and chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
                raise ValueError("checksum")
            yield from StreamReader(BytesIO(data), skip_magic=True).records
        except EndOfFile as error:
            if not whole:
                raise self._damaged() from error
        except Exception as error:
            raise self._damaged() from error

    def _damaged(self) -> FrameError:
        position = self._file.tell()
        if not self._file.read(1):
            return FrameError(
                f"'{self._name}' was cut off: its end is missing, which happens when a recording is not stopped properly."
            )
        return FrameError(f"'{self._name}' is damaged before byte {position}.")


def _mcap_index(file: BinaryIO) -> Summary | None:
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
    return summary if known and indexed and used <= set(summary.channels) and packed <= set(_PACKINGS) else None


def _channels(summary: Summary) -> dict[int, Channel]:
    names = {number: schema.name for number, schema in summary.schemas.items()}
    return {
        number: Channel(channel.topic, kind_of(names.get(channel.schema_id, "")), channel.message_encoding)
        for number, channel in summary.channels.items()
    }


def _chunk_data(chunk: Chunk) -> bytes:
    """The records of a chunk, those before a cut too."""
    if chunk.compression == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(chunk.data)
    if chunk.compression == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        return LZ4FrameDecompressor().decompress(chunk.data)
    return chunk.data
