# SPDX-License-Identifier: Apache-2.0
"""Calibration input: the subscriptions of a node to camera_info, and the camera of each image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import CameraChoice, calibration_from_info
from st3r_ros.io.image_size import size_of_message
from st3r_ros.ros.clocks import steady_timer
from st3r_ros.ros.qos import OVERRIDABLE, SubscriptionEventCallbacks, images

_LOOK_S = 0.25
"""Seconds between two checks of the publishers of camera_info."""
_ZEROS, _ZERO_S = 3, 0.5
"""Messages or seconds after which K = 0 is final and not sent by a driver that has not read its calibration yet."""


@dataclass(frozen=True, eq=False)
class ImageCamera:
    """The camera of an image, if known. error: why the image cannot be used with the received calibration, or None."""

    camera: Camera | None
    error: CalibrationError | None = None


class CalibrationInput:
    """Subscribes to the camera_info of an image topic, including latched publishers.

    map_begun: whether there is a map, which has one kind of camera: begun with uncalibrated images, it goes on with them until
    `restart`. None where every image is used on its own; those with an unusable calibration are then refused.
    without: what is done about uncalibrated images, to be said with them.
    """

    def __init__(
        self,
        node: Node,
        image_topic: str,
        info_topic: str,
        rectified: str,
        map_begun: Callable[[], bool] | None = None,
        without: str = "",
    ) -> None:
        self.topic = info_topic
        self._node, self._map_begun, self._without = node, map_begun, without
        self._choice = CameraChoice(image_topic, rectified, "rectified:={}")
        self._known: bytes | None = None
        self._count = 0
        self._error: CalibrationError | None = None
        self._camera: Camera | None = None
        self._uncalibrated = self._late = False
        self._said: set[str] = set()
        self._subscription = node.create_subscription(
            CameraInfo, info_topic, self._on_info, images("best_effort"), qos_overriding_options=OVERRIDABLE
        )
        self._latched: Any = None
        self._timer = steady_timer(node, _LOOK_S, self._look_for_latched)

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_timer(self._timer)
        for subscription in (self._subscription, self._latched):
            if subscription is not None:
                self._node.destroy_subscription(subscription)

    def restart(self) -> None:
        """Starts again for a new map, with the calibration known by then."""
        self._uncalibrated = self._late = False
        self._said.clear()

    @property
    def state(self) -> str:
        """The state of the calibration, in a word or two."""
        if self._error is not None:
            return "unusable"
        if self._camera is not None and not self._uncalibrated:
            return "calibrated"
        return "uncalibrated" if self._uncalibrated or self._count else "none yet"

    @property
    def error(self) -> str:
        """Why the received calibration cannot be used, "" when it can."""
        return "" if self._error is None else str(self._error)

    def of_image(self, message: Any, waited: float, patience: float) -> ImageCamera | None:
        """The camera of an image message; None while waiting for a calibration.

        waited: seconds since the first image. patience: seconds that images wait.
        """
        if self._uncalibrated and self._map_begun is not None and self._map_begun():
            self._warn_of_late()
            return ImageCamera(None)
        self._camera, self._error = self._choose(size_of_message(message))
        if self._camera is not None:
            if self._uncalibrated:
                self._inform_once(f"camera_info on {self.topic} has arrived and is used.")
            self._uncalibrated = self._late = False
            return ImageCamera(self._camera)
        zero = self._count > 0 and self._error is None
        enough = waited >= min(patience, _ZERO_S) or self._count >= _ZEROS if zero else waited >= patience
        if not enough:
            return None
        self._uncalibrated = True
        if self._map_begun is None and self._error is not None:
            return ImageCamera(None, self._error)
        reason = f"No camera_info on {self.topic}"
        if self._error is not None:
            reason = f"The camera_info on {self.topic} cannot be used ({self._error} Then call ~/reset.)"
        elif zero:
            reason = f"The camera_info on {self.topic} has K = 0"
        without = f"; {self._without}" if self._without else ""
        self._warn_once(f"{reason}: the camera is taken as uncalibrated{without}.")
        return ImageCamera(None)

    def _choose(self, size: tuple[int, int] | None) -> tuple[Camera | None, CalibrationError | None]:
        try:
            camera = self._choice.expected() if size is None else self._choice.camera(*size)
        except CalibrationError as error:
            return None, error
        finally:
            for note in self._choice.notes:
                if note in self._choice.doubts:
                    self._warn_once(note)
                else:
                    self._inform_once(note)
        return camera, None

    def _on_info(self, info: CameraInfo) -> None:
        self._count += 1
        info.header.stamp.sec = info.header.stamp.nanosec = 0
        known = serialize_message(info)  # messages with NaN are never equal, and on Humble those with one equal number in K are
        if known == self._known:
            return
        self._known = known
        try:
            calibration = calibration_from_info(info, self.topic)
        except CalibrationError as error:
            self._choice.refuse(error)
            return
        self._choice.add(calibration)
        self._late = self._uncalibrated and not calibration.tells_nothing

    def _warn_of_late(self) -> None:
        """A calibration has come for a map that has begun without it."""
        if self._late:
            self._late = False
            self._node.get_logger().warning(
                f"camera_info on {self.topic} arrived after mapping had started without it; call ~/reset to start again with it."
            )

    def _look_for_latched(self) -> None:
        """Subscribes transient local once a latched publisher exists. Other publishers would warn about incompatible QoS."""
        if self._latched is not None:
            return
        for publisher in self._node.get_publishers_info_by_topic(self.topic):
            if publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL:
                profile = QoSProfile(
                    depth=5,
                    history=HistoryPolicy.KEEP_LAST,
                    reliability=publisher.qos_profile.reliability,
                    durability=DurabilityPolicy.TRANSIENT_LOCAL,
                )
                quiet = SubscriptionEventCallbacks(use_default_callbacks=False)  # about publishers that are not latched
                self._latched = self._node.create_subscription(
                    CameraInfo, self.topic, self._on_info, profile, event_callbacks=quiet
                )
                return

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._node.get_logger().warning(sentence)

    def _inform_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._node.get_logger().info(sentence)
