# SPDX-License-Identifier: Apache-2.0
"""Checks the requests of the relocalization node: images, calibrations, depths, poses."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose, PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from st3r_ros.errors import CalibrationError, EncodingError, FrameError, GeometryError
from st3r_ros.frame_names import frame_name
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.calibration import CameraChoice, calibration_from_info, read_calibration
from st3r_ros.io.image_file import read_image
from st3r_ros.ros.conversions import stamp_to_ns
from st3r_ros.ros.input.image_input import image_from_message
from st3r_ros.ros.tf.transforms import OPTICAL, MapAnchor
from st3r_ros.types import Frame

_DEPTHS = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}
"""Encoding -> type of a pixel, metres of its unit (REP-118)."""
_LEVEL = 1.0 - 1e-6


def is_given(image: Image) -> bool:
    """Whether a field of a request contains an image, usable or not."""
    return bool(image.width or image.height or image.step or image.encoding or len(image.data))


def frame_from_message(message: Image | CompressedImage, camera: Camera | None) -> Frame:
    """The frame of an image message.

    Raises:
        FrameError: its stamp, encoding, size or data cannot be used.
    """
    return Frame(0, stamp_to_ns(message.header.stamp), image_from_message(message), camera)


def frame_from_file(path: str, camera: Camera | None) -> Frame:
    """The frame of an image file, with stamp 0.

    Raises:
        FrameError: the file does not exist or is not a usable image.
    """
    if not os.path.isfile(path):  # which, other than Path, takes whatever a request may hold
        what = "is a folder, not an image" if os.path.isdir(path) else "is not a file on the machine of this node"
        raise FrameError(f"'{path[:200]}' {what}; give the path of an image file.")
    return Frame(0, 0, read_image(Path(path)), camera)


def frame_with_calibration(path: str, calibration_path: str, say: Callable[[str], Any]) -> Frame:
    """The frame of an image file with the camera of a calibration file, "" for none. say: takes what is to be said of that.

    Raises:
        FrameError: as `frame_from_file`.
        CalibrationError: the calibration cannot be read, or is not for this image.
    """
    frame = frame_from_file(path, None)
    if not calibration_path:
        return frame
    height, width = frame.image.shape[:2]
    choice = CameraChoice(Path(path).stem)
    choice.add(read_calibration(calibration_path))
    camera = choice.camera(width, height)
    for note in choice.notes:
        say(note)
    return dataclasses.replace(frame, camera=camera)


def camera_given(info: CameraInfo, rectified: bool | None, say: Callable[[str], Any]) -> Camera | None:
    """The camera of a request, None when its field was left empty.

    rectified: whether it comes with rectified images. say: takes what is to be said of it.

    Raises:
        CalibrationError: it is incomplete, contradicts itself or is that of a driver without calibration (K is 0).
    """
    if CameraInfo(header=info.header) == info:
        return None
    calibration = calibration_from_info(info)
    if calibration.tells_nothing:
        raise CalibrationError("The K of camera_info is zero; calibrate the camera, or leave camera_info empty.")
    camera = calibration.camera(rectified=rectified)
    for doubt in calibration.doubts(camera):
        say(doubt)
    return camera


def pose_given(poses: Sequence[Pose]) -> SE3 | None:
    """The pose of a request, None when it has none.

    Raises:
        GeometryError: its quaternion is zero or a number is not finite.
    """
    if not poses:
        return None
    p, q = poses[0].position, poses[0].orientation
    try:
        return SE3.from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z]))
    except GeometryError as error:
        raise GeometryError(f"The pose is invalid: {error}") from error


def expected_pose(message: PoseWithCovarianceStamped, anchor: MapAnchor, map_frame: str) -> SE3:
    """`T_map_frame` that a message on initialpose tells, of the frame whose pose ~/pose tells too.

    For a camera without a robot a level pose, such as RViz's "2D Pose Estimate", tells which way the camera looks.

    Raises:
        GeometryError: it is in another frame than the map's, or no pose.
    """
    if frame_name(message.header.frame_id) != map_frame:
        raise GeometryError(
            f"initialpose is in the frame '{message.header.frame_id}', but this map is in '{map_frame}'; publish it in that."
        )
    T = pose_given([message.pose.pose])
    assert T is not None
    level = T.rotation[2, 2] > _LEVEL
    return T @ SE3(OPTICAL.rotation, np.zeros(3)) if level and anchor.is_optical else T


def depth_given(image: Image) -> np.ndarray | None:
    """The depth of a request, (H, W) float32 metres, 0 where it is not known; None when its field was left empty.

    Raises:
        EncodingError: it is no depth image, or its size, step or data are wrong.
    """
    if not is_given(image):
        return None
    if image.encoding not in _DEPTHS:
        raise EncodingError(f"The depth has the encoding {image.encoding!r}; it must be 16UC1 (millimetres) or 32FC1 (metres).")
    image_from_message(image)  # complains about everything else that may be wrong
    kind, unit = _DEPTHS[image.encoding]
    dtype = np.dtype((">" if image.is_bigendian else "<") + kind)
    stored: np.ndarray = np.ndarray(
        (image.height, image.width), dtype, buffer=memoryview(image.data).cast("B"), strides=(image.step, dtype.itemsize)
    )
    metres = stored.astype(np.float32) * np.float32(unit)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0.0))


def header_of(message: Image | CompressedImage) -> Header:
    """The header of an image message, its frame without a leading slash; its stamp is zero where it is no time."""
    header = Header(frame_id=frame_name(message.header.frame_id))
    try:
        stamp_to_ns(message.header.stamp)
    except FrameError:
        return header
    header.stamp = message.header.stamp
    return header
