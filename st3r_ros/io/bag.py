# SPDX-License-Identifier: Apache-2.0
"""The images of a bag (ROS 2 in mcap or SQLite, or ROS 1); no ROS is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.bag_camera import BagCameras, size_of_first_images
from st3r_ros.io.bag_messages import COMPRESSED, IMAGE, IMAGE_KINDS, can_be_read, read_message
from st3r_ros.io.bag_recording import BagRecording, is_bag
from st3r_ros.io.bag_storage import Channel, Message
from st3r_ros.io.calibration import Calibration, Size, with_rectified
from st3r_ros.io.image_encoding import decode_compressed, decode_image
from st3r_ros.io.picture import Picture
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, SkippedFrame, StampedImage
from st3r_ros.io.stamp_order import StampOrder, Verdict, stray
from st3r_ros.io.stamps import NANOSECONDS
from st3r_ros.io.video_decoder import VideoDecoder, VideoFrame, check_decoder
from st3r_ros.io.video_messages import is_video, stamp_of, video_packet

__all__ = ["BagSequence", "is_bag"]

_FIRST_PACKETS = 100


class BagSequence(ImageSequence):
    """The images of one topic of a bag, raw, compressed or as packets of a video, in the order they were recorded.

    Stamps are those of the headers; a header without one is given the time of recording. The camera of an image is that of the
    newest `camera_info` beside its topic that fits it, unless one is given; without any the images are uncalibrated, and `notes`
    says why. A bag whose recording crashed (no metadata.yaml, no index) is read
    as far as it goes; what is damaged or missing is noted in `skipped`. Other topics, whatever they hold, do not matter.

    topic: may be left out where the bag has one image topic only. rectified: whether the images are: auto (by the name of the
    topic), yes or no. camera_info: the topic of the calibration, where it does not lie beside the images.

    Raises:
        InputError: no bag, a damaged one, no image topic, no such topic, or several topics to choose from.
        CalibrationError: the camera given cannot be used.
        MissingDependencyError: a library that reads bags, or the one that decodes videos, is not installed.
    """

    kind = "bag"

    def __init__(
        self,
        path: Path | str,
        camera: Camera | Calibration | None = None,
        selection: Selection | None = None,
        topic: str | None = None,
        rectified: str = "auto",
        camera_info: str = "",
    ) -> None:
        path = Path(path)
        self._recording = BagRecording(path)
        counts = self._recording.counts
        cut = "".join(f" {problem}" for problem in self._recording.problems)
        self.topic = _choose_topic(path, list(counts), topic, cut)
        self._channels = {channel for channel in counts if channel.topic == self.topic and channel.kind in IMAGE_KINDS}
        total = sum(counts[channel] for channel in self._channels)
        if not total:
            raise InputError(f"The topic {self.topic} of the bag '{path}' holds no messages.{cut}")
        for kind in sorted({channel.kind for channel in self._channels} - {IMAGE, COMPRESSED}):
            check_decoder(f"The topic {self.topic} ({kind}) is a video. Decoding it")
        self._recorded: BagCameras | None = None
        size = size_of_first_images(self._recording, self.topic, camera)
        if camera is None:
            size = size or self._decoded_size()
            self._recorded = BagCameras(self._recording, self.topic, camera_info, rectified, size)
        super().__init__(
            path.resolve().name,
            camera=with_rectified(camera, rectified),
            selection=selection or Selection(),
            total=total,
            images=self.topic,
            size=size,
        )
        self.source = f"{path.resolve()}?topic={self.topic}"
        if self._recorded is not None:
            self.camera, self.notes = self._recorded.first, self._recorded.notes
        self.notes = (*self._recording.notes, *self.notes)

    def _settle_camera(self, source: str, image: np.ndarray) -> None:
        if self._recorded is None:  # the camera was given
            super()._settle_camera(source, image)

    def _camera_of(self, entry: Entry, image: np.ndarray) -> Camera | None:
        camera = super()._camera_of(entry, image)
        fits = camera is not None and (camera.height, camera.width) == image.shape[:2]
        return camera if fits or self._recorded is None else None

    def _decoded_size(self) -> Size | None:
        """The size of the first image of a video, None where none can be decoded."""
        with suppress(FrameError):  # where the bag breaks off
            for entry in islice(self._images(lambda damage, index: None), _FIRST_PACKETS):
                with suppress(FrameError):
                    height, width = entry.load().image.values.shape[:2]
                    return width, height
        return None

    def _entries(self) -> Iterator[Entry]:
        return self._images(self._note_damage)

    def _note_damage(self, damage: FrameError, index: int) -> None:
        """Says once what the recording has lost before message `index`. It is no image: it counts neither as one nor as a step
        of the selection, which must not leave it out."""
        self.skipped.append(SkippedFrame(len(self._selection.indices(index)), self.name, str(damage), is_frame=False))

    def _images(self, note_damage: Callable[[FrameError, int], None]) -> Iterator[Entry]:
        """The images; what is damaged between them is passed on with the number of messages before it."""
        decoder, order = VideoDecoder(), _InOrder()
        index = 0
        cameras = None if self._recorded is None else self._recorded.begin()
        info_topics = () if self._recorded is None else self._recorded.topics
        for item in self._recording.messages([self.topic, *info_topics]):
            if isinstance(item, FrameError):
                note_damage(item, index)
            elif item.channel in self._channels:
                camera = None if cameras is None else cameras.camera_if_usable()
                source = f"{self.topic} message {index}"
                for entry in _entries_of(item, source, decoder):
                    yield from order.put(replace(entry, camera=camera), item.recorded_ns)
                index += 1
            elif cameras is not None:
                cameras.hear_recorded(item)
        yield from map(_video_entry, decoder.flush())
        yield from order.flush()
        if index == 0:
            raise FrameError(f"The bag's index lists messages on {self.topic}, but there are none; the index is damaged.")


def _entries_of(recorded: Message, source: str, decoder: VideoDecoder) -> Iterator[Entry]:
    """One image, or what a packet of a video completes: every packet is decoded, also where its image is left out."""
    try:
        message = read_message(recorded)
    except FrameError as error:
        yield Entry(source, partial(_fail, error))
        return
    if recorded.channel.kind != IMAGE and is_video(message):
        packet = video_packet(message, tag=(source, _stamp_ns(message) or recorded.recorded_ns))
        yield from map(_video_entry, decoder.decode(packet))
    else:
        yield Entry(source, partial(_load, recorded, message), stamp_ns=_stamp_ns(message) or recorded.recorded_ns)


def _video_entry(frame: VideoFrame) -> Entry:
    source, stamp_ns = frame.tag
    return Entry(source, lambda: StampedImage(stamp_ns, Picture(frame.image())), stamp_ns=stamp_ns)


class _InOrder:
    """Holds an image back whose stamp is in doubt until the next one confirms it or not, as the nodes do."""

    def __init__(self) -> None:
        self._order = StampOrder()
        self._held: Entry | None = None

    def put(self, entry: Entry, recorded_ns: int) -> list[Entry]:
        """The images to pass on after another one; a stray one raises when it is loaded."""
        if entry.stamp_ns is None:
            return [entry]
        last_ns, held, self._held = self._order.last_ns, self._held, None
        fits = abs(entry.stamp_ns - recorded_ns) < NANOSECONDS
        verdict = self._order.check(entry.stamp_ns, recorded_ns * 1e-9, fits_clock=fits)
        if held is not None and held.stamp_ns is not None and verdict is not Verdict.CONFIRMS:
            far = (entry.stamp_ns, "next") if last_ns is None else (last_ns, "last")
            held = replace(held, load=partial(_fail, stray(held.stamp_ns, *far)))
        passed = [] if held is None else [held]
        if verdict is Verdict.DOUBTFUL:
            self._held = entry
            return passed
        return [*passed, entry]

    def flush(self) -> list[Entry]:
        """The last image, where it was held back."""
        held, last_ns = self._held, self._order.last_ns
        if held is not None and held.stamp_ns is not None and last_ns is not None:
            return [replace(held, load=partial(_fail, stray(held.stamp_ns, last_ns, "last")))]
        return [] if held is None else [held]


def _fail(error: FrameError) -> NoReturn:
    raise error


def _load(recorded: Message, message: Any) -> StampedImage:
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


def _choose_topic(path: Path, channels: list[Channel], wanted: str | None, problems: str) -> str:
    images = sorted({channel.topic for channel in channels if channel.kind in IMAGE_KINDS and can_be_read(channel)})
    listed = ", ".join(images)
    others = ", ".join(sorted(_described(channel) for channel in channels)) or "none at all"
    if not images:
        raise InputError(
            f"The bag '{path}' holds no images (sensor_msgs Image or CompressedImage, or video); its topics: {others}.{problems}"
        )
    if wanted is None and len(images) > 1:
        raise InputError(f"The bag '{path}' holds several image topics: {listed}; choose one with '{path}?topic={images[0]}'.")
    if wanted is not None and wanted not in images:
        other = ", ".join(_described(channel) for channel in channels if channel.topic == wanted)
        what = f"holds no images on {other}" if other else f"has no image topic {wanted}"
        raise InputError(f"The bag '{path}' {what}; it has {listed}.{problems}")
    return wanted or images[0]


def _described(channel: Channel) -> str:
    """A topic with its type, and how it is serialized where that is not the usual way."""
    serialized = "" if can_be_read(channel) else f" in {channel.encoding or 'an unknown encoding'}"
    return f"{channel.topic} ({channel.kind or 'no type'}{serialized})"
