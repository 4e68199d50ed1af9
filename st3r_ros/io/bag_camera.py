# SPDX-License-Identifier: Apache-2.0
"""The camera of the images in a bag, from the recorded camera_info."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from st3r_ros.errors import CalibrationError, FrameError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.bag_messages import INFO, read_message
from st3r_ros.io.bag_recording import BagRecording
from st3r_ros.io.bag_storage import Message
from st3r_ros.io.calibration import Calibration, CameraChoice, Size, calibration_from_info, is_named_rectified, without_transport
from st3r_ros.io.image_size import calibrated_sizes, commonest_size, size_of_message

_LOOK_AHEAD = 200
"""Messages of camera_info among which one that can be used is looked for, for the images before it."""
_FIRST_IMAGES = 10
logger = logging.getLogger(__name__)
_WAY_OUT = "give another calibration with --camera"


class CameraFollower:
    """The camera of the next image while the messages of a bag go by, as a node would have it.

    size: of the images, None where it is not known. notes: what is to be said of the choice.
    """

    def __init__(self, image_topic: str, info_topic: str, rectified: str, size: Size | None) -> None:
        self._choice = CameraChoice(image_topic, rectified)
        self._info_topic, self._size = info_topic, size
        self.notes = self._choice.notes
        self._announced: int | None = None

    def announce_from(self, number: int) -> None:
        """Log the notes after the first ones, which were told already."""
        self._announced = number

    def hear(self, info: Any) -> None:
        """A CameraInfo comes."""
        try:
            self._choice.add(calibration_from_info(info, self._info_topic))
        except CalibrationError as error:
            self._choice.refuse(error)

    def hear_recorded(self, message: Message) -> None:
        """A CameraInfo comes, still serialized. One that cannot be read is left out."""
        try:
            self.hear(read_message(message))
        except FrameError:
            return

    def camera(self) -> Camera | None:
        """The camera of the next image, None where it is not calibrated.

        Raises:
            CalibrationError: no calibration so far can be used for it.
        """
        camera = self._choice.expected() if self._size is None else self._choice.camera(*self._size)
        if self._announced is not None:
            for note in self.notes[self._announced :]:
                logger.warning(note)
            self._announced = len(self.notes)
        return camera

    def camera_if_usable(self) -> Camera | None:
        """The camera of the next image, None where there is none that can be used."""
        try:
            return self.camera()
        except CalibrationError:
            return None


class BagCameras:
    """The camera of an image topic in a bag.

    A calibration that cannot be used is no reason to refuse a bag: its images are then uncalibrated, and `notes` says why.

    size: of the images, None where it is not known.
    topics: of camera_info, none where nothing lies beside the images. first: the camera of the first image.
    """

    def __init__(self, recording: BagRecording, image_topic: str, info_topic: str, rectified: str, size: Size | None) -> None:
        recorded = {channel.topic for channel in recording.counts if channel.kind == INFO}
        candidates = [topic for topic in ([info_topic] if info_topic else _beside(image_topic)) if topic in recorded]
        self.topics = tuple(candidates[:1])
        self.first: Camera | None = None
        self.notes: tuple[str, ...] = ()
        self._new = partial(CameraFollower, image_topic, "".join(self.topics), rectified, size)
        self._before: list[Any] = []
        if self.topics:
            self.notes = tuple(self._look_ahead(recording, f"the images of {image_topic} are uncalibrated; {_WAY_OUT}"))
        elif recorded or info_topic:
            absent = f"{info_topic} in the bag" if info_topic else f"beside {image_topic}"
            others = f"name one with ?camera_info=<topic> (there are {', '.join(sorted(recorded))}), or " if recorded else ""
            self.notes = (
                f"There is no camera_info {absent}, so the images of {image_topic} are uncalibrated; {others}{_WAY_OUT}.",
            )

    def begin(self) -> CameraFollower:
        """As it is before the first image, which may come before its calibration."""
        follower = self._new()
        for info in self._before:
            follower.hear(info)
        follower.camera_if_usable()
        follower.announce_from(len(follower.notes))
        return follower

    def _look_ahead(self, recording: BagRecording, uncalibrated: str) -> list[str]:
        """Finds the first message that can be used; returns what is to be said of it, or of there being none."""
        follower = self._new()
        heard = 0
        for heard, info in enumerate(islice(_infos(recording, self.topics[0]), _LOOK_AHEAD), start=1):  # noqa: B007
            follower.hear(info)
            self.first = follower.camera_if_usable()
            if self.first is not None:
                self._before = [info]
                return follower.notes
        try:
            follower.camera()
        except CalibrationError as error:
            return [f"The calibration in {self.topics[0]} cannot be used: {error} So {uncalibrated}."]
        reason = "has K = 0" if heard else "has no readable message"
        return [f"{self.topics[0]} {reason}: {uncalibrated}."]


def _beside(image_topic: str) -> list[str]:
    """Where the camera_info of an image topic may be: beside it, beside the topic that it carries compressed, or below it."""
    raw = without_transport(image_topic)
    folders = dict.fromkeys([raw.rsplit("/", 1)[0], image_topic.rsplit("/", 1)[0], raw])
    names = ("camera_info_rect", "camera_info") if is_named_rectified(raw) else ("camera_info",)
    return [f"{folder}/{name}" for name in names for folder in folders]


def _infos(recording: BagRecording, topic: str) -> Iterator[Any]:
    for item in recording.messages([topic]):
        if isinstance(item, Message) and item.channel.kind == INFO:
            try:
                yield read_message(item)
            except FrameError:
                continue


def size_of_first_images(recording: BagRecording, topic: str, camera: Camera | Calibration | None = None) -> Size | None:
    """The size that most of the first images have, None where they do not tell it. camera: given, decides between several."""
    first = islice(recording.messages([topic]), _FIRST_IMAGES)
    return commonest_size(map(_size_of, first), calibrated_sizes(camera, topic))


def _size_of(item: Message | FrameError) -> Size | None:
    try:
        return size_of_message(read_message(item)) if isinstance(item, Message) else None
    except FrameError:
        return None
