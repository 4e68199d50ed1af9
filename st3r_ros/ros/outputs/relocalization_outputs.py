# SPDX-License-Identifier: Apache-2.0
"""The publishers of the relocalization node."""

from __future__ import annotations

import math

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, PoseWithCovarianceStamped, Quaternion
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from st3r_ros.config import RelocalizationSettings
from st3r_ros.geometry.covariance import moved_covariance
from st3r_ros.msg import RelocalizationResult
from st3r_ros.ros.conversions import header, image_message, pose_message, stamp_to_ns
from st3r_ros.ros.qos import OVERRIDABLE, latched, stream
from st3r_ros.ros.tf.transforms import TransformBroadcaster, View
from st3r_ros.types import Frame, LocalizationResult, LocalizationStatus

KEPT_RESULTS = 10
"""Keeps results for slow and late subscribers."""
_STATUSES = {status: getattr(RelocalizationResult, status.name) for status in LocalizationStatus}


class RelocalizationOutputs:
    """The publishers of the relocalization node; the worker uses them."""

    def __init__(self, node: LifecycleNode, settings: RelocalizationSettings) -> None:
        self._config = settings.node
        self._transforms = TransformBroadcaster(node)
        self._result = node.create_lifecycle_publisher(
            RelocalizationResult, "~/result", latched(KEPT_RESULTS), qos_overriding_options=OVERRIDABLE
        )
        self._pose = node.create_lifecycle_publisher(
            PoseWithCovarianceStamped, "~/pose", stream(10), qos_overriding_options=OVERRIDABLE
        )
        self._matches = node.create_lifecycle_publisher(Image, "~/matches", stream(2), qos_overriding_options=OVERRIDABLE)

    def configure(self, settings: RelocalizationSettings) -> None:
        """Uses other settings from now on."""
        self._config = settings.node

    def owns_transform(self, child: str, stamp_ns: int) -> bool:
        """Whether this node has broadcast the transform of a frame at a stamp."""
        return self._transforms.owns(child, stamp_ns)

    @property
    def picture_wanted(self) -> bool:
        """Whether `~/matches` has a subscriber."""
        return self._matches.get_subscription_count() > 0

    def publish(self, result: LocalizationResult, view: View) -> RelocalizationResult:
        """Publishes the result of a query; pose and TF only when the camera was found with a translation, not only a direction,
        which a pose message cannot express and which would mislead a robot."""
        message = result_message(result, view, self._config.reference_frame)
        self._result.publish(message)
        if result.T_ref_cam is not None and result.covariance is not None and not result.directional:
            self._pose.publish(view.pose_message(result.T_ref_cam, result.covariance, self._config.reference_frame))
            self._transforms.send_pose(result.T_ref_cam, view, self._config)
        return message

    def publish_unusable(self, reason: str, header: Header) -> RelocalizationResult:
        """Publishes that an image could not be used."""
        message = unusable(reason, header, self._config.reference_frame)
        self._result.publish(message)
        return message

    def publish_picture(self, picture: np.ndarray, header: Header) -> None:
        """Publishes the drawn matches, (H, W, 3) uint8 RGB, with the header of the query."""
        self._matches.publish(image_message(Frame(0, stamp_to_ns(header.stamp), picture), header.frame_id))


def result_message(result: LocalizationResult, view: View, reference_frame: str) -> RelocalizationResult:
    """The message of a result, with the pose of the frame that the image names."""
    pose = _no_pose()
    if result.T_ref_cam is not None and result.covariance is not None:
        T_cam_image = view.anchor.T_image_cam.inverse()
        lever = result.T_ref_cam.rotation @ T_cam_image.translation
        covariance = moved_covariance(result.covariance, view.anchor.T_map_world.rotation, lever)
        T_frame_image = view.anchor.T_map_world @ result.T_ref_cam @ T_cam_image
        pose = PoseWithCovariance(pose=pose_message(T_frame_image), covariance=covariance.reshape(-1))
    return RelocalizationResult(
        header=header(view.stamp_ns, reference_frame),
        child_frame_id=view.anchor.image_frame,
        status=_STATUSES[result.status],
        message=result.reason,
        reference=result.reference,
        pose=pose,
        metric=result.metric,
        directional=result.directional,
        matches=result.matches,
        inliers=result.inliers,
        inlier_ratio=result.inlier_ratio,
        rmse_px=result.rmse_px,
        focal_px=result.focal_px,
        focal_estimated=result.focal_estimated,
        latency_ms=result.latency_ms,
    )


def unusable(reason: str, header: Header, reference_frame: str) -> RelocalizationResult:
    """The message for an unusable or missing image."""
    return RelocalizationResult(
        header=Header(stamp=header.stamp, frame_id=reference_frame),
        child_frame_id=header.frame_id,
        status=RelocalizationResult.UNUSABLE,
        message=reason,
        pose=_no_pose(),
        rmse_px=math.nan,
        focal_px=math.nan,
    )


def _no_pose() -> PoseWithCovariance:
    nan = math.nan
    pose = Pose(position=Point(x=nan, y=nan, z=nan), orientation=Quaternion(x=nan, y=nan, z=nan, w=nan))
    return PoseWithCovariance(pose=pose, covariance=np.full(36, nan))
