# SPDX-License-Identifier: Apache-2.0
"""The images of a bag (ROS 2 in mcap or SQLite, or ROS 1); no ROS is needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.bag_messages import COMPRESSED, IMAGE, INFO, can_be_read, read_message
from st3r_ros.io.bag_recording import Recording, is_bag
from st3r_ros.io.bag_storage import Channel, Message
from st3r_ros.io.calibration import camera_from_info
from st3r_ros.io.image_encoding import decode_compressed, decode_image
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage
from st3r_ros.io.stamps import NANOSECONDS

__all__ = ["BagSequence", "is_bag"]

_IMAGE_KINDS = (IMAGE, COMPRESSED)


class BagSequence(ImageSequence):
    """The images of one topic of a bag, raw or compressed, in the order they were recorded.

    Stamps are those of the headers; a header without one is given the time of recording. The camera is the first message of the
    image topic's sibling `camera_info`, unless one is given. A bag whose recording crashed (no metadata.yaml, no index) is read
    as far as it goes; what is damaged or missing is noted in `skipped`. Other topics, whatever they hold, do not matter.

    topic: may be left out where the bag has one image topic only.

    Raises:
        InputError: no bag, a damaged one, no image topic, no such topic, or several topics to choose from.
        CalibrationError: the camera_info of the topic contradicts itself.
        MissingDependencyError: a library that reads bags is not installed.
    """

    kind = "bag"

    def __init__(
        self,
        path: Path | str,
        camera: Camera | None = None,
        selection: Selection | None = None,
        topic: str | None = None,
    ) -> None:
        path = Path(path)
        self._recording = Recording(path)
        counts = self._recording.counts
        self.topic = _choose_topic(path, list(counts), topic)
        self._channels = {channel for channel in counts if channel.topic == self.topic and channel.kind in _IMAGE_KINDS}
        total = sum(counts[channel] for channel in self._channels)
        if not total:
            raise InputError(f"The topic {self.topic} of the bag '{path}' holds no messages.")
        if camera is None and (info := _first_info(self._recording, self.topic)) is not None:
            camera = camera_from_info(info)
        super().__init__(path.resolve().name, camera=camera, selection=selection or Selection(), total=total)

    def _entries(self) -> Iterator[Entry]:
        index = 0
        for item in self._recording.messages([self.topic]):
            if isinstance(item, FrameError):
                yield Entry(self.name, partial(_fail, item))
            elif item.channel in self._channels:
                yield Entry(f"{self.topic} message {index}", partial(_load, item))
                index += 1


def _fail(error: FrameError) -> NoReturn:
    raise error


def _load(recorded: Message) -> StampedImage:
    message = read_message(recorded)
    stamp_ns = message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec
    if recorded.channel.kind == COMPRESSED:
        image = decode_compressed(message.data, message.format)
    else:
        image = decode_image(
            message.data,
            height=message.height,
            width=message.width,
            encoding=message.encoding,
            step=message.step,
            is_bigendian=bool(message.is_bigendian),
        )
    return StampedImage(stamp_ns or recorded.recorded_ns, image)


def _choose_topic(path: Path, channels: list[Channel], wanted: str | None) -> str:
    images = sorted({channel.topic for channel in channels if channel.kind in _IMAGE_KINDS and can_be_read(channel)})
    listed = ", ".join(images)
    others = ", ".join(sorted(_described(channel) for channel in channels)) or "none at all"
    if not images:
        raise InputError(f"The bag '{path}' holds no images (sensor_msgs Image or CompressedImage); its topics: {others}.")
    if wanted is None and len(images) > 1:
        raise InputError(f"The bag '{path}' holds several image topics: {listed}; choose one with '{path}?topic={images[0]}'.")
    if wanted is not None and wanted not in images:
        raise InputError(f"The bag '{path}' has no image topic {wanted}; it has {listed}.")
    return wanted or images[0]


def _described(channel: Channel) -> str:
    """A topic with its type, and how it is serialized where that is not the usual way."""
    serialized = "" if can_be_read(channel) else f" in {channel.encoding or 'an unknown encoding'}"
    return f"{channel.topic} ({channel.kind or 'no type'}{serialized})"


def _first_info(recording: Recording, topic: str) -> Any:
    """The first CameraInfo beside an image topic: /x/camera_info for /x/image_raw and for /x/image_raw/compressed."""
    parents = [topic.rsplit("/", 1)[0]]
    if topic.endswith("/compressed"):
        parents.insert(0, parents[0].rsplit("/", 1)[0])
    for parent in parents:
        for item in recording.messages([f"{parent}/camera_info"]):
            if isinstance(item, Message) and item.channel.kind == INFO:
                return read_message(item)
    return None
