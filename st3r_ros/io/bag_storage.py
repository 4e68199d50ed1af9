# SPDX-License-Identifier: Apache-2.0
"""Base of the readers of storage files. Only topics and data of the messages are read; type definitions, hashes and QoS in the
bag are ignored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass


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


class Storage(ABC):
    """An open storage file. counts: the messages of each channel; start_ns: the time of recording of the first, 0 without any."""

    counts: Counter[Channel]
    start_ns: int

    @abstractmethod
    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """The messages of some topics in the order of recording. Raises FrameError where the file breaks off."""


def kind_of(name: str) -> str:
    """A type's name as ROS 2 writes it: sensor_msgs/msg/Image for sensor_msgs/Image of ROS 1 and for the names of IDL,
    sensor_msgs::msg::Image and sensor_msgs::msg::dds_::Image_; others stay as they are."""
    parts = name.replace("::", "/").split("/")
    if "dds_" in parts:
        parts = [part.removesuffix("_") for part in parts if part != "dds_"]
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else "/".join(parts)
