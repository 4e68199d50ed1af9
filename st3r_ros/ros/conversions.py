# SPDX-License-Identifier: Apache-2.0
"""Converts messages to the types of the library and back.

Images that arrive are decoded by `input/image_input`, calibrations by `io/calibration`; the map becomes messages in
`outputs/map_messages`.
"""

from __future__ import annotations

import array
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from st3r_ros.errors import FrameError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.stamps import NANOSECONDS

if TYPE_CHECKING:
    from st3r_ros.geometry.camera import Camera
    from st3r_ros.types import Frame


def stamp_to_ns(stamp: Time) -> int:
    """Integer nanoseconds of a stamp.

    Raises:
        FrameError: the stamp is negative or has a second or more of nanoseconds.
    """
    if stamp.sec < 0 or stamp.nanosec >= NANOSECONDS:
        raise FrameError(f"The stamp {stamp.sec} s + {stamp.nanosec} ns is not a valid time; the driver must set header.stamp.")
    return stamp.sec * NANOSECONDS + stamp.nanosec


def stamp_from_ns(stamp_ns: int) -> Time:
    """The stamp of integer nanoseconds.

    Raises:
        FrameError: a message cannot hold it (it has 32 bits for the seconds).
    """
    sec, nanosec = divmod(int(stamp_ns), NANOSECONDS)
    if not -(2**31) <= sec < 2**31:
        raise FrameError(
            f"The stamp {sec} s does not fit into a ROS message, which ends in the year 2038; is it in another unit?"
        )
    return Time(sec=sec, nanosec=nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header with the stamp and the frame."""
    return Header(stamp=stamp_from_ns(stamp_ns), frame_id=frame_id)


def image_message(frame: Frame, frame_id: str) -> Image:
    """The rgb8 message of a frame, with the frame's own stamp."""
    height, width = frame.image.shape[:2]
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(frame.image).data.cast("B"))
    return Image(header=header(frame.stamp_ns, frame_id), height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def camera_message(camera: Camera | None, stamp_ns: int, frame_id: str, width: int, height: int) -> CameraInfo:
    """The CameraInfo of a width x height image; K stays zero (not calibrated) without a camera."""
    info = CameraInfo(header=header(stamp_ns, frame_id), width=width, height=height)
    if camera is not None:
        info.distortion_model = camera.distortion_model
        info.d = [float(value) for value in camera.distortion]
        info.k = [float(value) for value in camera.K.reshape(-1)]
        info.r = [float(value) for value in np.eye(3).reshape(-1)]
        info.p = [float(value) for value in np.hstack([camera.K, np.zeros((3, 1))]).reshape(-1)]
    return info


def pose_message(T: SE3) -> Pose:
    """The pose of an unbatched transform."""
    return Pose(position=Point(**_xyz(T)), orientation=_quaternion(T))


def transform_message(T: SE3, stamp_ns: int, parent: str, child: str) -> TransformStamped:
    """`T_parent_child` as a TF message."""
    transform = Transform(translation=Vector3(**_xyz(T)), rotation=_quaternion(T))
    return TransformStamped(header=header(stamp_ns, parent), child_frame_id=child, transform=transform)


def transform_from_message(transform: Transform) -> SE3:
    """The transform of a message.

    Raises:
        GeometryError: its quaternion is zero or a number is not finite.
    """
    t, q = transform.translation, transform.rotation
    return SE3.from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w]), np.array([t.x, t.y, t.z]))


def _xyz(T: SE3) -> dict[str, float]:
    return dict(zip("xyz", T.translation.tolist(), strict=True))


def _quaternion(T: SE3) -> Quaternion:
    return Quaternion(**dict(zip("xyzw", T.quaternion_xyzw.tolist(), strict=True)))
