# SPDX-License-Identifier: Apache-2.0
"""Whether the file of an image is all there."""

from __future__ import annotations

import struct
import zlib

from st3r_ros.errors import FrameError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CUT_SHORT = "the {} data end too early; the file was cut short."


def check_whole(data: bytes) -> None:
    """Nothing, if a JPEG or PNG is whole; other formats are left to their decoders, which refuse what was cut short.

    The decoders of JPEG and PNG are lenient: depending on the version of OpenCV they fill the missing rows with grey.

    Raises:
        FrameError: the JPEG or PNG was cut short, or a PNG chunk does not match its checksum.
    """
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data)
    elif data.startswith(b"\xff\xd8\xff"):
        _check_jpeg(data)


def _check_png(data: bytes) -> None:
    at = len(_PNG_SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise FrameError(_CUT_SHORT.format("PNG"))
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise FrameError(_CUT_SHORT.format("PNG"))
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise FrameError(f"a PNG chunk at byte {at} does not match its checksum.")
        if kind == b"IEND":
            return
        at = end


def _check_jpeg(data: bytes) -> None:
    """Walk the header's segments to the first scan; a whole image has an end marker after it (thumbnails lie before it)."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise FrameError(f"the JPEG header is broken at byte {at}.")
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2 + length
        if marker == 0xDA:  # start of scan: inside it 0xFFD9 can only be the end of the image
            if data.find(b"\xff\xd9", at) >= 0:
                return
            break
    raise FrameError(_CUT_SHORT.format("JPEG"))
