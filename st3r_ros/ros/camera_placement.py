# SPDX-License-Identifier: Apache-2.0
"""Where the camera of an image sits on the robot, by TF."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node

from st3r_ros.config import MappingNodeConfig
from st3r_ros.ros.odometry import Odometry
from st3r_ros.ros.transform_watch import TransformWatch
from st3r_ros.ros.transforms import OPTICAL, MapAnchor


class CameraPlacement:
    """Finds the anchor of a camera once TF tells it, and watches who else broadcasts what this node broadcasts.

    odometry: to be asked for the stamp of an image; None without `odom_frame`.
    owns_transform, parent_hint: as for `TransformWatch`.
    """

    def __init__(
        self, node: Node, config: MappingNodeConfig, owns_transform: Callable[[str, int], bool], parent_hint: str
    ) -> None:
        self._node, self._config = node, config
        self._anchor: MapAnchor | None = None
        self._camera_frame = ""
        self.watch = TransformWatch(node, config, owns_transform, parent_hint)
        self.odometry: Odometry | None = None
        if config.odom_frame:
            self.odometry = Odometry(self.watch.tf.tree, config.odom_frame, config.odom_wait, node.get_logger())

    def close(self) -> None:
        """Stop listening to TF."""
        self.watch.close()

    def follow(self, config: MappingNodeConfig) -> None:
        """A live parameter has changed."""
        self._config = self.watch.config = config

    def find(self, camera_frame: str) -> MapAnchor | None:
        """Where a camera sits, be it that of the images or another one; None while TF does not tell."""
        if self._anchor is not None and camera_frame == self._camera_frame:
            return self._anchor
        return self._find(camera_frame, patient=True)

    def of_image(self, camera_frame: str, *, patient: bool) -> MapAnchor | None:
        """Where the camera of the images sits, found once; None while TF may still tell, or has not told of odometry yet."""
        if self._anchor is None:
            self._anchor, self._camera_frame = self._find(camera_frame, patient), camera_frame
        if patient and self._anchor is not None and self.odometry is not None and not self.odometry.known(self._anchor.frame_id):
            return None
        return self._anchor

    def _find(self, camera_frame: str, patient: bool) -> MapAnchor | None:
        base_frame = self._config.base_frame
        if not base_frame:
            return MapAnchor.camera_only(camera_frame or "camera")
        T_base_cam = self.watch.tf.tree.lookup(base_frame, camera_frame) if camera_frame else None
        if T_base_cam is None:
            if patient:
                return None
            self._node.get_logger().warning(
                f"No TF from {base_frame} to the camera frame '{camera_frame}': the camera is taken to sit at {base_frame} and "
                "to look forward. Publish the static transform, or set base_frame to '' when there is no robot."
            )
            T_base_cam = OPTICAL
        return MapAnchor.on_robot(base_frame, T_base_cam)
