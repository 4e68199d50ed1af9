# SPDX-License-Identifier: Apache-2.0
"""TF in and out: where the camera sits on the robot, where the map is, and the broadcast of the robot's pose in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from st3r_ros.errors import GeometryError
from st3r_ros.geometry.se3 import SE3
from st3r_ros.ros.conversions import transform_from_message, transform_message
from st3r_ros.ros.qos import stream

OPTICAL = SE3(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.zeros(3))
"""`T_body_optical`: the optical axes (x right, y down, z forward) in a body's (x forward, y left, z up); REP-103."""


@dataclass(frozen=True, eq=False)
class MapAnchor:
    """Ties the mapper's world to TF: `map` starts at the first pose of the base frame.

    frame_id: the frame whose pose in `map` is published, the base frame, or the camera frame when there is no robot.
    T_base_cam: the camera in the base frame. T_frame_cam: the camera in `frame_id`.
    """

    frame_id: str
    T_base_cam: SE3
    T_frame_cam: SE3

    @staticmethod
    def on_robot(base_frame: str, T_base_cam: SE3) -> MapAnchor:
        """The pose of the base frame is published."""
        return MapAnchor(base_frame, T_base_cam, T_base_cam)

    @staticmethod
    def camera_only(camera_frame: str) -> MapAnchor:
        """The pose of the camera frame is published; `map` is level with the first image: x forward, z up in it."""
        return MapAnchor(camera_frame, OPTICAL, SE3.identity())

    @property
    def T_map_world(self) -> SE3:
        """The mapper's world, which is the first keyframe's camera, in `map`."""
        return self.T_base_cam

    def T_map_frame(self, T_world_cam: SE3) -> SE3:
        """The pose of `frame_id` in `map`, of one camera pose or of a batch."""
        return self.T_map_world @ T_world_cam @ self.T_frame_cam.inverse()


class TransformTree:
    """The newest transform of every frame to its parent, as heard on TF."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, SE3]] = {}

    def add(self, message: TFMessage) -> None:
        """Take the transforms of a message; one that is no rigid transform is left out."""
        for item in message.transforms:
            try:
                T_parent_child = transform_from_message(item.transform)
            except GeometryError:
                continue
            self._parents[_plain(item.child_frame_id)] = (_plain(item.header.frame_id), T_parent_child)

    def lookup(self, target: str, source: str) -> SE3 | None:
        """`T_target_source`, or None while the two frames are not connected."""
        above_target, above_source = self._chain(_plain(target)), self._chain(_plain(source))
        for frame, T_frame_source in above_source.items():
            if frame in above_target:
                return above_target[frame].inverse() @ T_frame_source
        return None

    def _chain(self, frame: str) -> dict[str, SE3]:
        """Every ancestor of a frame, itself first, with `T_ancestor_frame`."""
        chain = {frame: SE3.identity()}
        while frame in self._parents:
            parent, T_parent_frame = self._parents[frame]
            if parent in chain:
                break
            chain[parent] = T_parent_frame @ chain[frame]
            frame = parent
        return chain


class TransformListener:
    """Feeds a `TransformTree` from /tf and /tf_static until it is closed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.tree = TransformTree()
        static = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(TFMessage, "/tf_static", self.tree.add, static),
            node.create_subscription(TFMessage, "/tf", self.tree.add, stream(100)),
        ]

    def close(self) -> None:
        """Stop listening: a robot's TF costs more than it is worth once the camera's place is known."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []


class TransformBroadcaster:
    """Sends transforms on /tf while the node is active."""

    def __init__(self, node: LifecycleNode) -> None:
        self._publisher = node.create_lifecycle_publisher(TFMessage, "/tf", stream(100))

    def send(self, T_parent_child: SE3, stamp_ns: int, parent: str, child: str) -> None:
        """Broadcast one transform at a stamp."""
        self._publisher.publish(TFMessage(transforms=[transform_message(T_parent_child, stamp_ns, parent, child)]))


def _plain(frame: str) -> str:
    return frame.lstrip("/")
