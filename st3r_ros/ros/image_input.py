# SPDX-License-Identifier: Apache-2.0
"""Images in: the subscriptions of a node, paired with the camera's calibration and its place on the robot."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from st3r_ros.config import MappingNodeConfig
from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import camera_from_info
from st3r_ros.ros.qos import NEWEST_IMAGE
from st3r_ros.ros.transforms import OPTICAL, MapAnchor, TransformListener

_IMAGE_TYPES = {"raw": Image, "compressed": CompressedImage}


@dataclass(frozen=True, eq=False)
class ImageInput:
    """An image message with what is known about its camera. error: why the calibration cannot be used, or None."""

    message: Image | CompressedImage
    camera: Camera | None
    anchor: MapAnchor
    error: CalibrationError | None = None


@dataclass
class ImageCounts:
    """Images that arrived since the last reset, and those of them that a newer one replaced before they were processed."""

    received: int = 0
    dropped: int = 0


class ImageSource:
    """Subscribes to `image` and `camera_info` and hands on every image, still encoded, unless `muted`.
    last_image: when one arrived, `time.monotonic` seconds; at first, when listening began.

    The first images wait up to `input_wait` seconds for a camera_info and for the camera's TF; newer ones replace them. Then the
    camera counts as uncalibrated, or as mounted at the base frame and looking forward, until `restart`.
    """

    def __init__(self, node: Node, config: MappingNodeConfig, counts: ImageCounts, deliver: Callable[[ImageInput], None]) -> None:
        self._node, self._config, self._counts, self._deliver = node, config, counts, deliver
        self.muted = False
        self.last_image = time.monotonic()
        self._first_image: float | None = None
        self._info: CameraInfo | None = None
        self._camera: Camera | None = None
        self._error: CalibrationError | None = None
        self._anchor: MapAnchor | None = None
        self._uncalibrated = False
        image = node.resolve_topic_name("image")
        self.topic = f"{image}/compressed" if config.image_transport == "compressed" else image
        self.info_topic = _info_topic(node, image)
        self._type = _IMAGE_TYPES[config.image_transport]
        self._tf = TransformListener(node) if config.base_frame else None
        self._subscriptions = [
            node.create_subscription(CameraInfo, self.info_topic, self._on_info, NEWEST_IMAGE),
            node.create_subscription(self._type, self.topic, self._on_image, NEWEST_IMAGE),
        ]

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._tf is not None:
            self._tf.close()

    def restart(self) -> None:
        """Forget how the camera was taken to be calibrated: a new map begins."""
        self._uncalibrated = False
        self._first_image = None

    @property
    def waiting_s(self) -> float:
        """Seconds since the last image, or since listening began."""
        return time.monotonic() - self.last_image

    def silence(self) -> str:
        """One sentence about why there are no images."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        since = f"No images on {self.topic} for {self.waiting_s:.0f} s"
        wanted = f"sensor_msgs/msg/{self._type.__name__}"
        others = sorted({publisher.topic_type for publisher in publishers} - {wanted})
        if others:
            return f"{since}: it carries {', '.join(others)}, not {wanted}; check image_transport and the topic."
        if publishers:
            return f"{since}: its publisher sends nothing."
        topics = sorted(name for name, types in self._node.get_topic_names_and_types() if wanted in types and name != self.topic)
        hint = f"images are on {', '.join(topics)}" if topics else "no other topic has images either"
        return f"{since}: nobody publishes it; {hint}."

    def _on_info(self, info: CameraInfo) -> None:
        info.header.stamp.sec = info.header.stamp.nanosec = 0
        if info == self._info:
            return
        self._info, self._camera, self._error = info, None, None
        try:
            self._camera = camera_from_info(info)
        except CalibrationError as error:
            self._error = error
        if self._uncalibrated:
            self._node.get_logger().warning(
                f"camera_info on {self.info_topic} came after mapping had begun without it; call ~/reset to begin again with it."
            )

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.last_image = time.monotonic()
        if self.muted:
            return
        self._counts.received += 1
        if self._first_image is None:
            self._first_image = self.last_image
        patient = self.last_image - self._first_image < self._config.input_wait
        anchor = self._anchored(message.header.frame_id, patient)
        if anchor is None or (self._info is None and patient):
            self._counts.dropped += 1
            return
        if self._info is None and not self._uncalibrated:
            self._uncalibrated = True
            self._node.get_logger().warning(f"No camera_info on {self.info_topic}: the camera is taken as uncalibrated.")
        if self._uncalibrated:
            self._deliver(ImageInput(message, None, anchor))
        else:
            self._deliver(ImageInput(message, self._camera, anchor, self._error))

    def _anchored(self, camera_frame: str, patient: bool) -> MapAnchor | None:
        """Where the camera sits, found once; None while TF may still tell."""
        if self._anchor is not None:
            return self._anchor
        if self._tf is None:
            self._anchor = MapAnchor.camera_only(camera_frame or "camera")
            return self._anchor
        base_frame = self._config.base_frame
        T_base_cam = self._tf.tree.lookup(base_frame, camera_frame) if camera_frame else None
        if T_base_cam is None:
            if patient:
                return None
            self._node.get_logger().warning(
                f"No TF from {base_frame} to the camera frame '{camera_frame}': the camera is taken to sit at {base_frame} and "
                "to look forward. Publish the static transform, or set base_frame to '' when there is no robot."
            )
            T_base_cam = OPTICAL
        self._tf.close()
        self._anchor = MapAnchor.on_robot(base_frame, T_base_cam)
        return self._anchor


def _info_topic(node: Node, image_topic: str) -> str:
    """`camera_info` where it is remapped, else the sibling of the image topic."""
    resolved = node.resolve_topic_name("camera_info")
    if resolved != node.resolve_topic_name("camera_info", only_expand=True):
        return resolved
    return f"{image_topic.rsplit('/', 1)[0]}/camera_info"
