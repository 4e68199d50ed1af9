# SPDX-License-Identifier: Apache-2.0
"""Image input: the subscriptions of a node, images with the calibration of their camera and its pose on the robot, decoding."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind
from sensor_msgs.msg import CompressedImage, Image

from st3r_ros.config import InputConfig
from st3r_ros.errors import FrameError, MissingDependencyError, St3rError
from st3r_ros.frame_names import frame_name
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.image_encoding import decode_compressed, decode_image
from st3r_ros.io.picture import Picture, ToneRange
from st3r_ros.io.video_messages import is_video
from st3r_ros.ros.clocks import ImageTime, steady_timer
from st3r_ros.ros.conversions import stamp_to_ns
from st3r_ros.ros.input.calibration_input import CalibrationInput
from st3r_ros.ros.input.image_stamps import HOLD_S, StampedMessage, StampWatch
from st3r_ros.ros.input.topics import VIDEOS, explain_silence, info_topic_of, message_type, topic_of
from st3r_ros.ros.input.video_input import VideoImage, VideoInput
from st3r_ros.ros.qos import OVERRIDABLE_IMAGES, SubscriptionEventCallbacks, images, packets
from st3r_ros.ros.tf.camera_placement import CameraPlacement, Odometry
from st3r_ros.ros.tf.transforms import MapAnchor

SILENCE_S = 3.0
"""Seconds without an image that count as an error."""
_LOOK_S = 0.5
"""Seconds between two checks of whether images arrive and time goes on."""
_ODOMETRY_HINT = "Set odom_frame to the frame of odometry to have map_frame -> odom_frame instead."


@dataclass(frozen=True, eq=False)
class ImageInput:
    """An image message with its camera. error: why it cannot be used, or None.

    odometry: looked up at the stamp of the image. parent: another parent of the anchor's frame in TF. time: of its arrival; None
    for an image of a request. waited: whether it has waited for the next image, which follows at once and must not replace it.
    """

    message: Image | CompressedImage | VideoImage
    camera: Camera | None
    anchor: MapAnchor
    error: St3rError | None = None
    odometry: Odometry | None = None
    parent: str | None = None
    time: ImageTime | None = None
    waited: bool = False

    @property
    def stamp_ns(self) -> int:
        """The stamp of the image, nanoseconds. Raises FrameError for an invalid one."""
        return stamp_to_ns(self.message.header.stamp)

    def picture(self) -> Picture:
        """The decoded image.

        Raises:
            FrameError: it cannot be used; EncodingError as in `picture_from_message`.
        """
        if self.error is not None:
            raise FrameError(str(self.error))
        return picture_from_message(self.message)


@dataclass
class ImageCounts:
    """Images received since the last reset, those replaced by a newer one before they were processed, and the number of missed
    deadlines."""

    received: int = 0
    dropped: int = 0
    late: int = 0


class ImageSource:
    """Subscribes to `image` and `camera_info` and passes on every image, still encoded, unless `muted`; for videos, the newest
    decoded image.
    deliver: takes an image, and returns how many that still waited it replaces: they are counted as dropped.
    last_image: time of the last arrival, or of the subscription, `time.monotonic` seconds. stamps: checks their stamps.
    holding: what images wait for now, one sentence; "" for nothing.

    The first images wait up to `input_wait` seconds for a camera_info and for the TF of camera and odometry; newer ones replace
    them. Then the camera is taken as uncalibrated until `restart`, at the base frame and looking forward.
    Silence, and a clock that stands still, are reported in the log.
    owns_transform: whether this node has broadcast the transform of a frame at a stamp (nanoseconds).
    parent_hint: what to do when TF already has another parent of the frame whose pose is broadcast.
    map_begun: whether there is a map, which has one kind of camera and one place of it on the robot: what arrives later is not
    used until `restart`. None where every image is used on its own.
    without_calibration: what is done about uncalibrated images, a clause for the log.
    """

    def __init__(
        self,
        node: Node,
        config: InputConfig,
        counts: ImageCounts,
        deliver: Callable[[ImageInput], int],
        owns_transform: Callable[[str, int], bool],
        parent_hint: str = _ODOMETRY_HINT,
        map_begun: Callable[[], bool] | None = None,
        without_calibration: str = "",
    ) -> None:
        self._node, self._config, self._counts, self._deliver = node, config, counts, deliver
        self.muted = False
        self.last_image = time.monotonic()
        self._first_image: float | None = None
        self._image = node.resolve_topic_name("image")
        self.topic = topic_of(self._image, config.image_transport)
        self.info_topic = info_topic_of(node, self._image)
        self._video: VideoInput | None = None
        video = config.image_transport in VIDEOS
        self._calibration = CalibrationInput(node, self.topic, self.info_topic, config.rectified, map_begun, without_calibration)
        self._placement = CameraPlacement(node, config, owns_transform, parent_hint, map_begun or (lambda: False))
        self._tf = self._placement.watch.tf
        self.stamps = StampWatch(node)
        self.holding = ""
        self._was_silent, self._complaint = False, ""
        self._timer = steady_timer(node, _LOOK_S, self._look)
        self._subscriptions = [
            node.create_subscription(
                message_type(config.image_transport),
                self.topic,
                self._on_packet if video else self._on_message,
                packets(config.image_reliability) if video else images(config.image_reliability),
                qos_overriding_options=OVERRIDABLE_IMAGES,
                event_callbacks=SubscriptionEventCallbacks(deadline=self._on_deadline, incompatible_qos=self._on_incompatible),
            ),
        ]

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_timer(self._timer)
        self._counts.dropped += self.stamps.restart()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._video is not None:
            self._video.close()
        self._calibration.close()
        self._placement.close()

    def follow(self, config: InputConfig) -> None:
        """A live parameter has changed."""
        self._config = config
        self._placement.follow(config)

    def restart(self) -> None:
        """Resets calibration, camera pose and time for a new map."""
        self._calibration.restart()
        self._placement.restart()
        self._first_image = None
        self._counts.dropped += self.stamps.restart()

    def find_anchor(self, camera_frame: str) -> MapAnchor | None:
        """The anchor of any camera frame; None while TF does not have it."""
        return self._placement.find(frame_name(camera_frame))

    def parent_of(self, frame_id: str) -> str | None:
        """Another parent of a frame in TF, as far as known."""
        return self._placement.watch.parent_of(frame_name(frame_id))

    @property
    def conflict(self) -> str:
        """One sentence about another publisher of this node's transform, "" without one."""
        return self._placement.watch.conflict

    @property
    def listens_to_odometry(self) -> bool:
        """Whether images come with odometry."""
        return self._placement.odometry is not None

    @property
    def transform_fault(self) -> str:
        """One sentence about a transform of this camera or of odometry that cannot be true, "" without one."""
        return self._placement.fault

    @property
    def invalid_transforms(self) -> int:
        """Number of transforms in TF that were left out because they cannot be true."""
        return self._tf.tree.faults.count

    @property
    def calibration(self) -> str:
        """State of the calibration."""
        return self._calibration.state

    @property
    def error(self) -> str:
        """Why the calibration cannot be used, "" when it can."""
        return self._calibration.error

    @property
    def waiting_s(self) -> float:
        """Seconds since the last image, or since the subscription."""
        return time.monotonic() - self.last_image

    @property
    def is_silent(self) -> bool:
        """Whether images are expected but none has arrived for a while."""
        return not self.muted and self.waiting_s > SILENCE_S

    def silence(self) -> str:
        """Why no images arrive, and what is wrong with /clock."""
        reason = f"its packets give none. {self._video.problem}" if self._video is not None and self._video.problem else ""
        reason = reason or explain_silence(self._node, self._image, self._config.image_transport, self._config.image_reliability)
        said = f"No images on {self.topic} for {self.waiting_s:.0f} s: {reason}"
        return f"{said} {self.stamps.clock_complaint}".rstrip()

    def _look(self) -> None:
        """Reports silence and a clock that stands still, each when it begins; passes on an image that has waited too long."""
        self._pass_on(self.stamps.release(HOLD_S))
        was_silent, self._was_silent = self._was_silent, self.is_silent
        before, self._complaint = self._complaint, self.stamps.clock_complaint
        if self._was_silent and not was_silent:
            self._node.get_logger().warning(self.silence())
        elif self._complaint and not before:
            self._node.get_logger().warning(self._complaint)

    def _on_message(self, message: Image | CompressedImage) -> None:
        if isinstance(message, CompressedImage) and is_video(message):
            self._on_packet(message)
            return
        if not self.muted:
            self._counts.received += 1
        self._on_image(message)

    def _on_packet(self, message: Any) -> None:
        """Handles a packet of a video, also while `muted`, since later packets depend on it."""
        if self._video is None:
            try:
                self._video = VideoInput(self._node, self.topic, self._on_image, self._count)
            except MissingDependencyError as error:
                self._node.get_logger().error(str(error), throttle_duration_sec=5.0)
                return
        self._video.put(message)

    def _count(self, received: int, dropped: int) -> None:
        if not self.muted:
            self._counts.received += received
            self._counts.dropped += dropped

    def _on_image(self, message: Image | CompressedImage | VideoImage) -> None:
        self.last_image = time.monotonic()
        if self.muted:
            return
        if self._first_image is None:
            self._first_image = self.last_image
        self._pass_on(self.stamps.take(message))
        self._pass_on(self.stamps.release(min(HOLD_S, self._config.input_wait)))

    def _pass_on(self, stamped: list[StampedMessage]) -> None:
        """Passes on images with the calibration and the pose of their camera, once these are known."""
        for image in stamped:
            waited = self.last_image - (self._first_image or self.last_image)
            patient = waited < self._config.input_wait
            anchor = self._placement.of_image(frame_name(image.message.header.frame_id), patient=patient)
            image_camera = self._calibration.of_image(image.message, waited, self._config.input_wait)
            if anchor is None or image_camera is None:
                self._counts.dropped += 1
                missing = self._placement.missing if anchor is None else f"camera_info on {self.info_topic}"
                refused = f" {self.error}" if anchor is not None and self.error else ""
                self.holding = f"Images wait up to {self._config.input_wait:g} s for {missing}.{refused}"
                continue
            self.holding = ""
            self._placement.watch.look(anchor.frame_id, 0.0 if anchor.is_assumed else waited)  # until TF has the camera
            error, odometry, parent = image.error or image_camera.error, self._placement.odometry, self._placement.watch.parent
            camera = image_camera.camera
            item = ImageInput(image.message, camera, anchor, error, odometry, parent, image.time, image.waited)
            self._counts.dropped += self._deliver(item)

    def _on_deadline(self, event: Any) -> None:
        self._counts.late += event.total_count_change
        self._node.get_logger().warning(
            f"No image on {self.topic} within its deadline; {event.total_count} times so far.", throttle_duration_sec=5.0
        )

    def _on_incompatible(self, event: Any) -> None:
        policy = QoSPolicyKind(event.last_policy_kind).name.lower()
        self._node.get_logger().warning(
            f"A publisher of {self.topic} offers less than this node requests: {policy}. No images arrive from it; set "
            f"image_reliability, or qos_overrides.{self.topic}.subscription.{policy}."
        )


def image_from_message(message: Image | CompressedImage | VideoImage) -> np.ndarray:
    """The (H, W, 3) uint8 RGB image of a message that is no part of a stream, in the range of tones of its own.

    Raises:
        EncodingError: as `picture_from_message`.
    """
    return ToneRange().to_rgb(picture_from_message(message))


def picture_from_message(message: Image | CompressedImage | VideoImage) -> Picture:
    """The picture of a message, or of a packet of a video that was decoded; the `ToneRange` of its stream brings it to 8 bit.

    Raises:
        EncodingError: unknown encoding, data shorter than its size needs, or bytes that are no image.
    """
    if isinstance(message, VideoImage):
        return Picture(message.image())
    if isinstance(message, CompressedImage):
        return decode_compressed(message.data, message.format)
    return decode_image(
        message.data,
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        step=message.step,
        is_bigendian=bool(message.is_bigendian),
    )
