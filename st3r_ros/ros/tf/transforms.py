# SPDX-License-Identifier: Apache-2.0
"""The pose of the map in TF, what an image's results are published with, and the broadcast of map -> base or map -> odom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.timer import Timer
from tf2_msgs.msg import TFMessage

from st3r_ros.config import InputConfig, MappingNodeConfig
from st3r_ros.geometry.axes import OPTICAL, same_axes
from st3r_ros.geometry.covariance import moved_covariance
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.clocks import ImageTime, steady_timer
from st3r_ros.ros.conversions import header, pose_message, transform_message
from st3r_ros.ros.qos import OVERRIDABLE, stream
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap

IDENTITY = SE3.identity()
HELD_S = 1.0
"""Seconds for which map -> odom is repeated while odometry cannot be true."""
REMEMBERED = 500
"""Number of its own transforms that the broadcaster recognizes."""


@dataclass(frozen=True, eq=False)
class MapAnchor:
    """Ties the mapper's world, which is the camera of the first keyframe, to TF.

    frame_id: the frame whose pose in `map` is published, the base frame, or the camera frame when there is no robot.
    T_frame_cam: the camera, in optical axes, in it. T_map_world: the world in `map`, which starts at the first pose of the base
    frame. image_frame, T_image_cam: the frame that what the camera sees is published in, and the camera in it, which is the
    identity where that frame has optical axes. is_optical: whether `frame_id` has optical axes, not those of a body. is_assumed:
    whether TF did not tell where the camera is.
    """

    frame_id: str
    T_frame_cam: SE3
    T_map_world: SE3
    image_frame: str
    T_image_cam: SE3
    is_optical: bool = False
    is_assumed: bool = False

    @staticmethod
    def on_robot(
        base_frame: str, T_base_image: SE3, image_frame: str = "", axes: SE3 = IDENTITY, *, base_is_optical: bool = False
    ) -> MapAnchor:
        """The pose of the base frame is published.

        T_base_image: the frame that the images name, in it; axes: the optical axes in that frame, `OPTICAL` in a body's. An image
        without a frame is one of the base.
        """
        T_base_cam = T_base_image @ axes
        T_map_base = OPTICAL if base_is_optical else IDENTITY
        image, T_image_cam = (image_frame, axes) if image_frame else (base_frame, T_base_cam)
        return MapAnchor(base_frame, T_base_cam, T_map_base @ T_base_cam, image, T_image_cam, base_is_optical)

    @staticmethod
    def camera_only(camera_frame: str, axes: SE3 = IDENTITY) -> MapAnchor:
        """The pose of the camera frame is published; `map` is level with the first image: x forward, z up in it.

        axes: the optical axes in that frame.
        """
        is_optical = same_axes(axes.rotation, np.eye(3))
        return MapAnchor(camera_frame, axes, OPTICAL, camera_frame, axes, is_optical)

    def of(self, keyframe_map: KeyframeMap) -> MapAnchor:
        """The anchor with the place that a map has already in TF, if it has one."""
        T_map_world = keyframe_map.T_map_world
        return self if T_map_world is None else replace(self, T_map_world=T_map_world)

    def T_map_frame(self, T_world_cam: SE3) -> SE3:
        """The pose of `frame_id` in `map` for one camera pose or a batch."""
        return self.T_map_world @ T_world_cam @ self.T_frame_cam.inverse()


@dataclass(frozen=True, eq=False)
class View:
    """Where an image was taken: what its results are published with.

    anchor: its camera in TF, `T_map_world` being that of the map, or from a reference to the frame of the answers. stamp_ns: of
    the image. has_parent: whether TF has another parent of the anchor's frame. time: of its arrival; None where it is not known.
    """

    anchor: MapAnchor
    stamp_ns: int = 0
    has_parent: bool = False
    time: ImageTime | None = None

    def pose_message(self, T_world_cam: SE3, covariance: np.ndarray, frame_id: str) -> PoseWithCovarianceStamped:
        """The pose of the anchor's frame in the fixed frame `frame_id`. covariance: (6, 6) of the camera, in world axes."""
        anchor = self.anchor
        lever = T_world_cam.rotation @ anchor.T_frame_cam.inverse().translation
        message = PoseWithCovarianceStamped(header=header(self.stamp_ns, frame_id))
        message.pose.pose = pose_message(anchor.T_map_frame(T_world_cam))
        message.pose.covariance = moved_covariance(covariance, anchor.T_map_world.rotation, lever).reshape(-1)
        return message


class TransformBroadcaster:
    """Broadcasts the pose of the robot in the map while the node is active.

    Without odometry this is map -> base at the stamp of each image. With odometry, the parent of base, it is map -> odom,
    repeated periodically so that TF always has it, at the current time of the images. Nothing is broadcast when `publish_tf` is
    off. time: of the newest image; None for the time of the node.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._publisher = node.create_lifecycle_publisher(TFMessage, "/tf", stream(100), qos_overriding_options=OVERRIDABLE)
        self._T_map_odom: SE3 | None = None
        self.time: ImageTime | None = None
        self._image_ns = self._last_ns = 0
        self._sent: deque[tuple[str, int]] = deque(maxlen=REMEMBERED)
        self._timer: Timer | None = None

    def repeat_every(self, period: float, config: Callable[[], MappingNodeConfig]) -> None:
        """Repeats the last transform of `send_odometry` every `period` seconds; config: the current configuration."""
        self._timer = steady_timer(self._node, period, lambda: self._repeat(config()))
        self._timer.cancel()  # nothing to repeat; an idle node must not use CPU

    def owns(self, child: str, stamp_ns: int) -> bool:
        """Whether this node has recently broadcast this frame at this stamp."""
        return (child, stamp_ns) in self._sent

    def send_pose(self, T_world_cam: SE3, view: View, config: InputConfig) -> None:
        """Broadcasts map -> base, without odometry, unless base has another parent."""
        if config.publish_tf and not view.has_parent:
            self._send(view.anchor.T_map_frame(T_world_cam), view.stamp_ns, config.fixed_frame, view.anchor.frame_id)

    def doubt_odometry(self, image_ns: int) -> None:
        """Odometry at an image cannot be true: stops repeating unless it comes right soon."""
        if self._T_map_odom is not None and abs(image_ns - self._image_ns) > HELD_S * 1e9:
            self.forget_odometry()

    def send_odometry(self, T_map_odom: SE3, image_ns: int, config: MappingNodeConfig) -> None:
        """Broadcasts map -> odom of an image, now and repeatedly until the next."""
        self._T_map_odom, self._image_ns = T_map_odom, image_ns
        self._repeat(config)
        if self._timer is not None and self._timer.is_canceled():
            self._timer.reset()
            if self._node.executor is not None:
                self._node.executor.wake()  # it sleeps until the timers it knows of

    def _repeat(self, config: MappingNodeConfig) -> None:
        """Broadcasts with a stamp slightly in the future."""
        T_map_odom = self._T_map_odom
        if T_map_odom is not None and config.publish_tf:
            clock, at = self._node.get_clock(), self.time
            now_ns = clock.now().nanoseconds if at is None else at.now_ns(clock)
            stamp_ns = now_ns + int(config.transform_tolerance * 1e9)
            if stamp_ns != self._last_ns:  # simulated time stands still between two ticks, and TF warns about repeated stamps
                self._send(T_map_odom, stamp_ns, config.fixed_frame, config.odometry_frame)
            self._last_ns = stamp_ns

    def forget_odometry(self) -> None:
        """Stops repeating, for a new odometry."""
        self._T_map_odom = None
        if self._timer is not None:
            self._timer.cancel()

    def _send(self, T_parent_child: SE3, stamp_ns: int, parent: str, child: str) -> None:
        self._sent.append((child, stamp_ns))
        self._publisher.publish(TFMessage(transforms=[transform_message(T_parent_child, stamp_ns, parent, child)]))
