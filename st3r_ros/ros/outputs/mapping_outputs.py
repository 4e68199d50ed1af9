# SPDX-License-Identifier: Apache-2.0
"""The publishers of the mapping node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, Twist, Vector3
from nav_msgs.msg import OccupancyGrid, Odometry, Path
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from st3r_ros.config import MappingSettings
from st3r_ros.geometry.covariance import moved_covariance
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import KeyframeGraph
from st3r_ros.products.steps import Steps
from st3r_ros.ros.conversions import header
from st3r_ros.ros.outputs.latched import GradualOutput, LatchedOutput
from st3r_ros.ros.outputs.map_messages import MapCloud, MapGrid, PathMessage, cloud_message, graph_message, marker_array
from st3r_ros.ros.qos import OVERRIDABLE, latched, stream
from st3r_ros.ros.tf.transforms import MapAnchor, TransformBroadcaster, View
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import MappingUpdate, PointCloud

MAX_STEP_S = 1.0
UNKNOWN_VARIANCE = 1e9


class MappingOutputs:
    """The publishers of the mapping node; the worker uses them."""

    def __init__(self, node: LifecycleNode, mapper: Mapper, settings: MappingSettings) -> None:
        self._settings, self._mapper = settings, mapper
        self._view = View(MapAnchor.camera_only(""))
        self._path = PathMessage()
        self._first_frame = 0
        self._transforms = TransformBroadcaster(node)
        if settings.node.odom_frame:
            self._transforms.repeat_every(settings.node.transform_publish_period, lambda: self._settings.node)
        self._pose = node.create_lifecycle_publisher(
            PoseWithCovarianceStamped, "~/pose", stream(10), qos_overriding_options=OVERRIDABLE
        )
        self._odometry = node.create_lifecycle_publisher(Odometry, "~/odometry", stream(10), qos_overriding_options=OVERRIDABLE)
        self._keyframe_cloud = node.create_lifecycle_publisher(
            PointCloud2, "~/keyframe_cloud", stream(5), qos_overriding_options=OVERRIDABLE
        )
        self._map_cloud = MapCloud()
        self._map_grid = MapGrid(lambda reason: node.get_logger().warning(reason, throttle_duration_sec=30.0))

        def kept(kind: Any, topic: str) -> LifecyclePublisher:
            return node.create_lifecycle_publisher(kind, topic, latched(), qos_overriding_options=OVERRIDABLE)

        self._path_output = LatchedOutput(kept(Path, "~/path"), self._build_path)
        self._cloud_output = GradualOutput(kept(PointCloud2, "~/map_cloud"), self._cloud_steps, self._last_cloud)
        self._latched: list[LatchedOutput | GradualOutput] = [
            LatchedOutput(kept(KeyframeGraph, "~/keyframes"), self._build_keyframes),
            self._path_output,
            LatchedOutput(kept(MarkerArray, "~/markers"), self._build_markers),
            self._cloud_output,
            GradualOutput(kept(OccupancyGrid, "~/grid"), self._grid_steps),
        ]

    def configure(self, settings: MappingSettings) -> None:
        """Uses other settings from now on; changed ones of cloud and grid change the map."""
        before, self._settings = self._settings, settings
        if (settings.cloud, settings.grid) != (before.cloud, before.grid):
            self.mark_changed()

    def publish(self, update: MappingUpdate, view: View) -> None:
        """Publishes the results of one frame, with the stamp of its image."""
        self._view, self._transforms.time = view, view.time
        if update.T_world_cam is not None and update.covariance is not None:
            self._publish_pose(update.T_world_cam, update.covariance)
            self._publish_transform(update, update.T_world_cam)
        if update.T_world_cam is not None:
            self._path_output.mark()
        if update.changed_keyframes:
            self.follow(update.completed_keyframes)
        if update.rescaled != 1.0:
            self._map_cloud.rescale(update.rescaled)
            self.flush()  # the unit has changed: cloud, keyframes and path are published with the pose
        self.poll(idle=False)

    def follow(self, completed: Sequence[int]) -> None:
        """Keyframes have changed. completed: ids of those that have got their dense depth."""
        for keyframe_id in completed:
            if keyframe_id in self._mapper.map.keyframes and self._keyframe_cloud.get_subscription_count():
                self._publish_keyframe_cloud(keyframe_id)
        self.mark_changed()

    def begin_anew(self) -> None:
        """Publishes another map; the path starts here, also in a loaded map."""
        self._first_frame = len(self._mapper.map.frames)
        self._view = replace(self._view, stamp_ns=0)
        self.forget_odometry()
        self.mark_changed()
        self.flush()

    def mark_changed(self) -> None:
        """The whole map has changed."""
        for output in self._latched:
            output.mark()

    def poll(self, *, idle: bool) -> None:
        """Publishes changes when due."""
        for output in self._latched:
            output.poll(self._settings.node.map_publish_period, idle=idle)

    def go_on(self) -> bool:
        """Continues building messages for a short time; whether there is more to do."""
        return any(output.go_on() for output in self._latched if isinstance(output, GradualOutput))

    def flush(self) -> None:
        """Publishes changes now."""
        for output in self._latched:
            output.flush()

    def finish(self) -> PointCloud:
        """Publishes changes, with the whole cloud, and returns that cloud in the world."""
        for output in self._latched:
            output.finish() if output is self._cloud_output else output.flush()
        return self.whole_cloud()

    def whole_cloud(self) -> PointCloud:
        """The cloud of the map as it is now, in the world; only what is not up to date is computed."""
        return self._map_cloud.whole(self._mapper.map, self._settings.cloud)

    def owns_transform(self, child: str, stamp_ns: int) -> bool:
        """Whether this node has broadcast the transform of a frame at a stamp."""
        return self._transforms.owns(child, stamp_ns)

    def forget_odometry(self) -> None:
        """Resets the broadcast for a new odometry or map."""
        self._transforms.forget_odometry()

    @property
    def kept_bytes(self) -> int:
        """Memory kept for the next cloud and grid, bytes."""
        return self._map_cloud.nbytes + self._map_grid.nbytes

    @property
    def _T_map_world(self) -> SE3:
        """Pose of the map, also when it has just been loaded and the pose of the camera on the robot is not known yet."""
        return self._view.anchor.of(self._mapper.map).T_map_world

    def _map_header(self) -> Header:
        return header(self._view.stamp_ns, self._settings.node.map_frame)

    def _publish_pose(self, T_world_cam: SE3, covariance: np.ndarray) -> None:
        message = self._view.pose_message(T_world_cam, covariance, self._settings.node.map_frame)
        self._pose.publish(message)
        if self._odometry.get_subscription_count():
            self._publish_odometry(message, self._view.anchor.T_map_frame(T_world_cam).rotation)

    def _publish_transform(self, update: MappingUpdate, T_world_cam: SE3) -> None:
        """map -> odom, by odometry that can be true, or map -> base."""
        config = self._settings.node
        if update.T_odom_cam is not None:
            T_map_cam = self._view.anchor.T_map_world @ T_world_cam
            self._transforms.send_odometry(T_map_cam @ update.T_odom_cam.inverse(), update.stamp_ns, config)
        elif update.odometry_fault:
            self._transforms.doubt_odometry(update.stamp_ns)
        elif not config.odom_frame:
            self._transforms.send_pose(T_world_cam, self._view, config)

    def _publish_odometry(self, pose: PoseWithCovarianceStamped, R_map_frame: np.ndarray) -> None:
        """The pose with the velocity since the last tracked image, in the axes of the frame itself (REP-105).

        Both poses are from the current map, so that a correction of the map is not a velocity. Without a last image, or more than
        a second after it, the velocity is unknown: zero, with a huge variance.
        """
        anchor = self._view.anchor
        message = Odometry(header=pose.header, child_frame_id=anchor.frame_id, pose=pose.pose)
        motion = self._mapper.map.last_motion()
        if motion is None or motion.seconds > MAX_STEP_S:
            message.twist.covariance = np.diag(np.full(6, UNKNOWN_VARIANCE)).reshape(-1)
        else:
            step = anchor.T_frame_cam @ motion.T_before_now @ anchor.T_frame_cam.inverse()
            vx, vy, vz, wx, wy, wz = (step.log() / motion.seconds).tolist()
            message.twist.twist = Twist(linear=Vector3(x=vx, y=vy, z=vz), angular=Vector3(x=wx, y=wy, z=wz))
            in_frame = moved_covariance(np.reshape(pose.pose.covariance, (6, 6)), R_map_frame.T, np.zeros(3))
            message.twist.covariance = (2.0 * in_frame / motion.seconds**2).reshape(-1)
        self._odometry.publish(message)

    def _publish_keyframe_cloud(self, keyframe_id: int) -> None:
        keyframe = self._mapper.map.keyframes[keyframe_id]
        cloud = self._mapper.map.keyframe_cloud(keyframe_id, self._settings.cloud.min_conf)
        at, T_image_cam = header(keyframe.stamp_ns, self._view.anchor.image_frame), self._view.anchor.T_image_cam
        R, t = T_image_cam.rotation.T.astype(np.float32), T_image_cam.translation.astype(np.float32)
        self._keyframe_cloud.publish(cloud_message(at, cloud.points @ R + t, cloud.colors, cloud.conf))

    def _cloud_steps(self) -> Steps[PointCloud2]:
        return self._map_cloud.steps(self._map_header(), self._mapper.map, self._settings.cloud, self._T_map_world)

    def _last_cloud(self) -> PointCloud2:
        return self._map_cloud.last(self._map_header(), self._mapper.map, self._T_map_world)

    def _grid_steps(self) -> Steps[OccupancyGrid | None]:
        return self._map_grid.steps(self._map_header(), self._mapper.map, self._settings.grid)

    def _build_path(self) -> Path:
        trajectory = self._mapper.map.trajectory(self._first_frame)
        poses = self._view.anchor.T_map_frame(SE3.from_quaternion_xyzw(trajectory.quaternions_xyzw, trajectory.positions))
        return self._path.update(trajectory.stamps_ns, poses, self._settings.node.map_frame)

    def _build_markers(self) -> MarkerArray:
        return marker_array(self._map_header(), self._mapper.map, self._T_map_world)

    def _build_keyframes(self) -> KeyframeGraph:
        return graph_message(self._map_header(), self._mapper.map, self._T_map_world)
