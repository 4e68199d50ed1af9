# SPDX-License-Identifier: Apache-2.0
"""The units of H.264 and H.265 streams (Annex B), and the frame numbers of H.264 (ITU-T H.264, 7.3 and 7.4.3): a decoder conceals
a lost frame with wrong pixels, the numbers tell that it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_HEADER_BYTES = 512  # of a unit, in which what is read here lies
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_SLICES, _IDR, _SPS, _PPS = (1, 5), 5, 7, 8


def units(data: bytes) -> Iterator[bytes]:
    """The first bytes of each unit, without the start code; none where the data are no Annex B."""
    start = data.find(b"\0\0\1")
    while start >= 0:
        yield data[start + 3 : start + 3 + _HEADER_BYTES]
        start = data.find(b"\0\0\1", start + 3)


def is_annex_b(data: bytes) -> bool:
    """Whether data begin with a start code, two zeros or more and a one."""
    begin = data.lstrip(b"\0")
    return len(data) - len(begin) >= 2 and begin.startswith(b"\1")


def has_picture(data: bytes, codec: str) -> bool:
    """Whether a packet of h264 or hevc holds a part of a picture, not parameters alone."""
    if codec == "hevc":
        return any(unit and (unit[0] >> 1) & 63 < 32 for unit in units(data))
    return any(unit and 1 <= unit[0] & 31 <= 5 for unit in units(data))


@dataclass(frozen=True)
class _Sequence:
    """Of a sequence parameter set. frame_num_bits: the length of a frame number; gaps: whether numbers may be left out."""

    frame_num_bits: int
    colour_planes: bool
    gaps: bool


class FrameNumbers:
    """Follows the frame numbers of an H.264 stream."""

    def __init__(self) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of: dict[int, int] = {}
        self._last: int | None = None

    def restart(self) -> None:
        """What comes next has nothing before it."""
        self._last = None

    def continues(self, data: bytes) -> bool:
        """Whether no reference frame is missing between the last packet and this one, as far as the numbers tell."""
        whole = True
        for unit in units(data):
            try:
                whole = self._read(unit) and whole
            except IndexError:  # cut short: the decoder will say so
                continue
        return whole

    def _read(self, unit: bytes) -> bool:
        kind = unit[0] & 31
        bits = _Bits(unit[1:])
        if kind == _SPS:
            number, sequence = _read_sequence(bits)
            self._sequences[number] = sequence
        elif kind == _PPS:
            number = bits.unsigned()
            self._sequence_of[number] = bits.unsigned()
        elif kind in _SLICES:
            return self._read_slice(bits, idr=kind == _IDR, is_reference=bool(unit[0] & 0x60))
        return True

    def _read_slice(self, bits: _Bits, *, idr: bool, is_reference: bool) -> bool:
        bits.unsigned(), bits.unsigned()  # first macroblock, type
        sequence = self._sequences.get(self._sequence_of.get(bits.unsigned(), -1))  # type: ignore[arg-type]
        if sequence is None:
            return True
        if sequence.colour_planes:
            bits.take(2)
        number = bits.take(sequence.frame_num_bits)
        expected = (self._last, None if self._last is None else (self._last + 1) % (1 << sequence.frame_num_bits))
        whole = idr or sequence.gaps or self._last is None or number in expected
        if is_reference:
            self._last = number
        return whole


def _read_sequence(bits: _Bits) -> tuple[int, _Sequence]:
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    number = bits.unsigned()
    colour_planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.unsigned()
        colour_planes = chroma == 3 and bits.take(1) == 1
        bits.unsigned(), bits.unsigned(), bits.take(1)  # bit depths, lossless
        if bits.take(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits = bits.unsigned() + 4
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.take(1), bits.unsigned(), bits.unsigned()
        for _ in range(bits.unsigned()):
            bits.unsigned()
    bits.unsigned()  # reference frames
    return number, _Sequence(frame_num_bits, colour_planes, bits.take(1) == 1)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


class _Bits:
    """Reads bits and Exp-Golomb numbers. Raises IndexError behind the end."""

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")  # the third byte keeps start codes out of a unit
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._position = 0

    def take(self, count: int) -> int:
        end = self._position + count
        if end > len(self._bits):
            raise IndexError
        value = int(self._bits[self._position : end], 2)
        self._position = end
        return value

    def unsigned(self) -> int:
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
        return (1 << zeros) - 1 + (self.take(zeros) if zeros else 0)

    def signed(self) -> int:
        value = self.unsigned()
        return (value + 1) // 2 if value % 2 else -(value // 2)
