# SPDX-License-Identifier: Apache-2.0
"""Base of the readers of storage files. Only topics and data of the messages are read; type definitions, hashes and QoS in the
bag are ignored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from io import SEEK_END
from typing import BinaryIO

_PIECE = 1 << 16


@dataclass(frozen=True)
class Channel:
    """A recorded topic. kind: the type of its messages as ROS 2 writes it; encoding: how they are serialized (cdr in ROS 2)."""

    topic: str
    kind: str
    encoding: str


@dataclass(frozen=True, eq=False)
class Message:
    """A recorded message, still serialized, and the time of recording in nanoseconds."""

    channel: Channel
    recorded_ns: int
    data: bytes


@dataclass(frozen=True, eq=False)
class Contents:
    """What a storage file holds. start_ns: the time of recording of the first message, 0 without any. problem: a sentence on what
    is damaged or missing, "" where nothing is known of it."""

    counts: Counter[Channel]
    start_ns: int
    problem: str = ""


class Storage(ABC):
    """An open storage file."""

    @abstractmethod
    def contents(self) -> Contents:
        """Looks through a file without an index."""

    @abstractmethod
    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """The messages of some topics in the order of recording. Raises FrameError after all that can be read, if some cannot."""


def kind_of(name: str) -> str:
    """A type's name as ROS 2 writes it: sensor_msgs/msg/Image for sensor_msgs/Image of ROS 1 and for the names of IDL,
    sensor_msgs::msg::Image and sensor_msgs::msg::dds_::Image_; others stay as they are."""
    parts = name.replace("::", "/").split("/")
    if "dds_" in parts:
        parts = [part.removesuffix("_") for part in parts if part != "dds_"]
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else "/".join(parts)


def places_written(file: BinaryIO) -> Callable[[int], bool]:
    """Whether a record that ends at a place in a file was written. A loss of power leaves zeros at the end; a record that ends in
    them was not, unless it ends the file."""
    size = end = file.seek(0, SEEK_END)
    written = 0
    while end > 0 and written == 0:
        begin = max(0, end - _PIECE)
        file.seek(begin)
        piece = file.read(end - begin).rstrip(b"\0")
        written, end = begin + len(piece) if piece else 0, begin
    return lambda after: after <= written or after == size
