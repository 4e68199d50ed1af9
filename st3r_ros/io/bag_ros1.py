# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 1, read with the library rosbags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

from st3r_ros.errors import FrameError, InputError
from st3r_ros.io.bag_storage import Channel, Message, Storage


class Ros1Storage(Storage):
    """A bag of ROS 1, by its index."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        from rosbags.rosbag1 import Reader, ReaderError

        self._name = path.name
        try:
            self._reader = stack.enter_context(Reader(path))
        except ReaderError as error:
            raise InputError(
                f"The ROS 1 bag '{path.name}' has no complete index: its recording was cut off, or it is damaged. Repair it "
                f"with: rosbag reindex '{path}'"
            ) from error
        self._channels = {c.id: Channel(c.topic, c.msgtype, "ros1") for c in self._reader.connections}
        self.counts = Counter()
        for connection in self._reader.connections:
            self.counts[self._channels[connection.id]] += connection.msgcount
        self.start_ns = self._reader.start_time if self._reader.connections else 0

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        try:
            for connection, recorded_ns, data in self._reader.messages(connections) if connections else ():
                yield Message(self._channels[connection.id], recorded_ns, data)
        except Exception as error:  # the libraries that unpack have errors of their own
            raise FrameError(f"'{self._name}' is damaged.") from error
