# SPDX-License-Identifier: Apache-2.0
"""The records of an mcap file (https://mcap.dev/spec), those before a cut too."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from st3r_ros.errors import FrameError

if TYPE_CHECKING:
    from mcap.records import Channel, Schema

MAGIC = b"\x89MCAP0\r\n"
PACKINGS = ("", "lz4", "zstd")
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 2, 3, 4, 5, 6, 15
_HEADER = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQLL")
_LENGTH = struct.Struct("<Q")
_PIECE = 1 << 16


class McapRecord(NamedTuple):
    """Where the content of a record is. whole: it is not cut off."""

    kind: int
    begin: int
    end: int
    whole: bool


class MessageHead(NamedTuple):
    """The beginning of a message; `begin` and `end` are those of its data."""

    channel: int
    recorded_ns: int
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk, still packed. size: when unpacked; data: what is there of its records, from `begin` in the file."""

    size: int
    checksum: int
    packing: str
    data: bytes
    begin: int

    def unpack(self) -> bytes:
        """Its records. Raises ValueError or an error of the library that unpacks where it is damaged."""
        data = _unpacked(self.packing, self.data, self.size)
        if len(data) != self.size or (self.checksum and zlib.crc32(data) != self.checksum):
            raise ValueError("the content is not what was recorded")
        return data

    def unpack_beginning(self) -> bytes:
        """What can be unpacked of a chunk that was cut off."""
        unpacker, pieces = _unpacker(self.packing), []
        with suppress(Exception):  # the libraries that unpack have errors of their own
            for begin in range(0, len(self.data), _PIECE):
                pieces.append(unpacker.decompress(self.data[begin : begin + _PIECE]))
        return b"".join(pieces)


def records(stream: BinaryIO, begin: int, end: int, is_there: Callable[[int], bool] = lambda after: True) -> Iterator[McapRecord]:
    """The records between two places; the last one may be cut off, and then takes what is left.

    is_there: whether a record that ends at a place was written.
    """
    while begin < end:
        stream.seek(begin)
        head = stream.read(_HEADER.size)
        if begin + _HEADER.size > end or not head[0]:
            yield McapRecord(0, begin, end, False)
            return
        kind, length = _HEADER.unpack(head)
        begin += _HEADER.size
        after = begin + length
        whole = after <= end and is_there(after)
        yield McapRecord(kind, begin, min(after, end), whole)
        if not whole:
            return
        begin = after


def read(stream: BinaryIO, record: McapRecord) -> bytes:
    """The content of a record."""
    stream.seek(record.begin)
    return stream.read(record.end - record.begin)


def message_head(stream: BinaryIO, record: McapRecord) -> MessageHead:
    """The beginning of a message. Raises struct.error where it is too short."""
    stream.seek(record.begin)
    channel, _, recorded_ns, _ = _MESSAGE.unpack(stream.read(min(_MESSAGE.size, record.end - record.begin)))
    return MessageHead(channel, recorded_ns, record.begin + _MESSAGE.size, record.end)


def read_chunk(stream: BinaryIO, record: McapRecord) -> Chunk:
    """A chunk, or its beginning. Raises struct.error or UnicodeDecodeError where that is damaged or cut off."""
    stream.seek(record.begin)
    _, _, size, checksum, name_length = _CHUNK.unpack(stream.read(_CHUNK.size))
    packing = stream.read(min(name_length, record.end - record.begin)).decode()
    (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
    begin = stream.tell()
    if begin > record.end:
        raise struct.error("the chunk ends in its header")
    return Chunk(size, checksum, packing, stream.read(min(length, record.end - begin)), begin)


def read_schema(content: bytes) -> Schema:
    """A schema. Raises an error of many types where it is damaged."""
    from mcap.data_stream import ReadDataStream
    from mcap.records import Schema

    return Schema.read(ReadDataStream(BytesIO(content)))


def read_channel(content: bytes) -> Channel:
    """A channel. Raises an error of many types where it is damaged."""
    from mcap.data_stream import ReadDataStream
    from mcap.records import Channel

    return Channel.read(ReadDataStream(BytesIO(content)))


def check_packing(packing: str, name: str) -> None:
    """Raises FrameError where a chunk is packed in a way that is not known."""
    if packing not in PACKINGS:
        raise FrameError(
            f"'{name}' is compressed with {packing!r}, which is not supported; recompress it with: mcap compress '{name}'"
        )


def _unpacked(packing: str, data: bytes, size: int) -> bytes:
    if packing == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    if packing == "lz4":
        import lz4.frame

        unpacked: bytes = lz4.frame.decompress(data)
        return unpacked
    return data


def _unpacker(packing: str) -> Any:
    if packing == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj()
    from lz4.frame import LZ4FrameDecompressor

    return LZ4FrameDecompressor()
