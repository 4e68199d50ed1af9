# SPDX-License-Identifier: Apache-2.0
"""Camera calibrations: the files that people have, CameraInfo messages, and which camera images have after them."""

from st3r_ros.io.calibration.calibration import RECTIFIED, Calibration, Size, with_rectified
from st3r_ros.io.calibration.camera_info import calibration_from_info, camera_from_info
from st3r_ros.io.calibration.choice import CameraChoice, is_named_rectified, told_rectified, without_transport
from st3r_ros.io.calibration.files import CAMERA_FILE, find_calibration, find_camera, read_calibration, read_camera
from st3r_ros.io.calibration.ros_yaml import write_camera

__all__ = [
    "CAMERA_FILE",
    "RECTIFIED",
    "Calibration",
    "CameraChoice",
    "Size",
    "calibration_from_info",
    "camera_from_info",
    "find_calibration",
    "find_camera",
    "is_named_rectified",
    "read_calibration",
    "read_camera",
    "told_rectified",
    "with_rectified",
    "without_transport",
    "write_camera",
]
