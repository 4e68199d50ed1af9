# SPDX-License-Identifier: Apache-2.0
"""The records of a bag of ROS 1 without its index (http://wiki.ros.org/Bags/Format/2.0), those before a cut too."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

MAGIC = b"#ROSBAG V2.0\n"
MESSAGE, CHUNK, CONNECTION = 2, 5, 7
_LENGTH = struct.Struct("<L")
_LONGEST_HEADER = 1 << 20
_PIECE = 1 << 16


class Ros1Record(NamedTuple):
    """fields: of the header; begin, end: where the data is. whole: it is not cut off."""

    fields: dict[bytes, bytes]
    begin: int
    end: int
    whole: bool

    @property
    def kind(self) -> int:
        return self.fields.get(b"op", b"\0")[0]

    def number(self, name: bytes) -> int:
        """A field with a whole number. Raises KeyError or struct.error where there is none."""
        return int(_LENGTH.unpack(self.fields[name])[0])


def records(stream: BinaryIO, begin: int, end: int, is_there: Callable[[int], bool] = lambda after: True) -> Iterator[Ros1Record]:
    """The records between two places; the last one may be cut off, and then takes what is left.

    is_there: whether a record that ends at a place was written.
    """
    while begin < end:
        stream.seek(begin)
        header = _sized(stream, end)
        length = stream.read(_LENGTH.size)
        fields = {} if header is None else read_fields(header)
        if not fields.get(b"op") or len(length) < _LENGTH.size or stream.tell() > end:
            yield Ros1Record({}, begin, end, False)
            return
        data = stream.tell()
        after = data + int(_LENGTH.unpack(length)[0])
        whole = after <= end and is_there(after)
        yield Ros1Record(fields, data, min(after, end), whole)
        if not whole:
            return
        begin = after


def read(stream: BinaryIO, record: Ros1Record) -> bytes:
    """The data of a record."""
    stream.seek(record.begin)
    return stream.read(record.end - record.begin)


def read_fields(header: bytes) -> dict[bytes, bytes]:
    """The fields of a header; those before damage only."""
    fields = {}
    begin = 0
    while begin + _LENGTH.size <= len(header):
        (length,) = _LENGTH.unpack_from(header, begin)
        begin += _LENGTH.size
        name, equals, value = header[begin : begin + length].partition(b"=")
        if not equals or begin + length > len(header):
            break
        fields[name] = value
        begin += length
    return fields


def unpacked(packing: str, data: bytes) -> tuple[bytes, bool]:
    """What can be unpacked of a chunk, and whether that is all of it. Raises KeyError where the packing is not known."""
    if packing == "none":
        return data, True
    unpacker = _unpacker(packing)
    pieces = []
    with suppress(Exception):  # the libraries that unpack have errors of their own
        for begin in range(0, len(data), _PIECE):
            if unpacker.eof:
                break
            pieces.append(unpacker.decompress(data[begin : begin + _PIECE]))
    return b"".join(pieces), bool(unpacker.eof)


def _unpacker(packing: str) -> Any:
    import bz2

    from lz4.frame import LZ4FrameDecompressor

    return {"bz2": bz2.BZ2Decompressor, "lz4": LZ4FrameDecompressor}[packing]()


def _sized(stream: BinaryIO, end: int) -> bytes | None:
    """Bytes after their number; None where they are not there."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    return stream.read(length) if length <= min(_LONGEST_HEADER, end - stream.tell()) else None
