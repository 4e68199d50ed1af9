# SPDX-License-Identifier: Apache-2.0
"""The images of a bag (ROS 2 in mcap or SQLite, or ROS 1); no ROS is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.bag_messages import COMPRESSED, IMAGE, IMAGE_KINDS, INFO, can_be_read, read_message
from st3r_ros.io.bag_recording import Recording, is_bag
from st3r_ros.io.bag_storage import Channel, Message
from st3r_ros.io.calibration import camera_from_info
from st3r_ros.io.image_encoding import decode_compressed, decode_image
from st3r_ros.io.picture import Picture
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage
from st3r_ros.io.stamps import NANOSECONDS
from st3r_ros.io.video_decoder import VideoDecoder, VideoFrame, check_decoder
from st3r_ros.io.video_messages import is_video, stamp_of, video_packet

__all__ = ["BagSequence", "is_bag"]

_TRANSPORTS = ("/compressed", "/ffmpeg", "/foxglove", "/h264", "/video")
"""The last parts of the names of topics that carry the images of the topic above them."""


class BagSequence(ImageSequence):
    """The images of one topic of a bag, raw, compressed or as packets of a video, in the order they were recorded.

    Stamps are those of the headers; a header without one is given the time of recording. The camera is the first message of the
    image topic's sibling `camera_info`, unless one is given. A bag whose recording crashed (no metadata.yaml, no index) is read
    as far as it goes; what is damaged or missing is noted in `skipped`. Other topics, whatever they hold, do not matter.

    topic: may be left out where the bag has one image topic only.

    Raises:
        InputError: no bag, a damaged one, no image topic, no such topic, or several topics to choose from.
        CalibrationError: the camera_info of the topic contradicts itself.
        MissingDependencyError: a library that reads bags, or the one that decodes videos, is not installed.
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
        self._channels = {channel for channel in counts if channel.topic == self.topic and channel.kind in IMAGE_KINDS}
        total = sum(counts[channel] for channel in self._channels)
        if not total:
            raise InputError(f"The topic {self.topic} of the bag '{path}' holds no messages.")
        for kind in sorted({channel.kind for channel in self._channels} - {IMAGE, COMPRESSED}):
            check_decoder(f"The topic {self.topic} ({kind}) is a video. Decoding it")
        if camera is None and (info := _first_info(self._recording, self.topic)) is not None:
            camera = camera_from_info(info)
        super().__init__(path.resolve().name, camera=camera, selection=selection or Selection(), total=total)
        self.source = f"{path.resolve()}?topic={self.topic}"

    def _entries(self) -> Iterator[Entry]:
        decoder = VideoDecoder()
        index = 0
        for item in self._recording.messages([self.topic]):
            if isinstance(item, FrameError):
                yield Entry(self.name, partial(_fail, item))
            elif item.channel in self._channels:
                yield from _entries_of(item, f"{self.topic} message {index}", decoder)
                index += 1
        yield from map(_video_entry, decoder.flush())


def _entries_of(recorded: Message, source: str, decoder: VideoDecoder) -> Iterator[Entry]:
    """One image, or what a packet of a video completes: every packet is decoded, also where its image is left out."""
    if recorded.channel.kind == IMAGE:
        yield Entry(source, partial(_load, recorded))
        return
    try:
        message = read_message(recorded)
    except FrameError as error:
        yield Entry(source, partial(_fail, error))
        return
    if is_video(message):
        packet = video_packet(message, tag=(source, _stamp_ns(message) or recorded.recorded_ns))
        yield from map(_video_entry, decoder.decode(packet))
    else:
        yield Entry(source, partial(_load, recorded))


def _video_entry(frame: VideoFrame) -> Entry:
    source, stamp_ns = frame.tag
    return Entry(source, lambda: StampedImage(stamp_ns, Picture(frame.image())))


def _fail(error: FrameError) -> NoReturn:
    raise error


def _load(recorded: Message) -> StampedImage:
    message = read_message(recorded)
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
    return StampedImage(_stamp_ns(message) or recorded.recorded_ns, image)


def _stamp_ns(message: Any) -> int:
    stamp = stamp_of(message)
    return stamp.sec * NANOSECONDS + stamp.nanosec


def _choose_topic(path: Path, channels: list[Channel], wanted: str | None) -> str:
    images = sorted({channel.topic for channel in channels if channel.kind in IMAGE_KINDS and can_be_read(channel)})
    listed = ", ".join(images)
    others = ", ".join(sorted(_described(channel) for channel in channels)) or "none at all"
    if not images:
        raise InputError(
            f"The bag '{path}' holds no images (sensor_msgs Image or CompressedImage, or video); its topics: {others}."
        )
    if wanted is None and len(images) > 1:
        raise InputError(f"The bag '{path}' holds several image topics: {listed}; choose one with '{path}?topic={images[0]}'.")
    if wanted is not None and wanted not in images:
        other = ", ".join(_described(channel) for channel in channels if channel.topic == wanted)
        what = f"holds no images on {other}" if other else f"has no image topic {wanted}"
        raise InputError(f"The bag '{path}' {what}; it has {listed}.")
    return wanted or images[0]


def _described(channel: Channel) -> str:
    """A topic with its type, and how it is serialized where that is not the usual way."""
    serialized = "" if can_be_read(channel) else f" in {channel.encoding or 'an unknown encoding'}"
    return f"{channel.topic} ({channel.kind or 'no type'}{serialized})"


def _first_info(recording: Recording, topic: str) -> Any:
    """The first CameraInfo beside an image topic: /x/camera_info for /x/image_raw and for /x/image_raw/compressed."""
    parents = [topic.rsplit("/", 1)[0]]
    if topic.endswith(_TRANSPORTS):
        parents.insert(0, parents[0].rsplit("/", 1)[0])
    recorded = {channel.topic for channel in recording.counts if channel.kind == INFO}
    for name in (f"{parent}/camera_info" for parent in parents):
        for item in recording.messages([name]) if name in recorded else ():
            if isinstance(item, Message) and item.channel.kind == INFO:
                with suppress(FrameError):
                    return read_message(item)
    return None
