# SPDX-License-Identifier: Apache-2.0
"""CameraInfo messages."""

from __future__ import annotations

from typing import Any

import numpy as np

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration.calibration import Calibration


def calibration_from_info(info: Any, source: str = "camera_info") -> Calibration:
    """The calibration in a sensor_msgs/CameraInfo.

    info: any object with the message's fields. k and p belong to the full sensor image; the region of interest and then the
    binning are applied to them, as the message defines. k[0] = 0 means not calibrated, p[0] = 0 not rectified.
    source: what the message is called in errors, such as its topic.

    Raises:
        CalibrationError: region of interest or binning do not fit the size.
    """
    k, p = (np.array(values, dtype=np.float64) for values in (info.k, info.p))
    calibration = Calibration(
        source,
        K=k.reshape(3, 3) if k[0] != 0.0 else None,
        P=p.reshape(3, 4)[:, :3] if p[0] != 0.0 else None,
        size=(int(info.width), int(info.height)) if info.width and info.height else None,
        lens_names={"distortion_model": str(info.distortion_model)},
        coefficients=np.array(info.d, dtype=np.float64),
    )
    binning = max(int(info.binning_x), 1), max(int(info.binning_y), 1)
    calibration = _region(calibration, info.roi)
    if calibration.size is not None and (binning[0] > calibration.size[0] or binning[1] > calibration.size[1]):
        width, height = calibration.size
        raise CalibrationError(f"{source}: binning {binning[0]}x{binning[1]} leaves nothing of {width}x{height}.")
    return calibration if binning == (1, 1) else calibration.binned(*binning)


def camera_from_info(info: Any, source: str = "camera_info", *, rectified: bool | None = None) -> Camera | None:
    """The camera of the images that come with a message, or None when it says that they are not calibrated.

    rectified: whether they are; None where nothing tells, which takes them as the sensor does.

    Raises:
        CalibrationError: the size, k, the distortion, the region or the binning are incomplete or contradict each other.
    """
    calibration = calibration_from_info(info, source)
    return None if calibration.tells_nothing else calibration.camera(rectified=rectified)


def _region(calibration: Calibration, roi: Any) -> Calibration:
    if not (roi.width or roi.height or roi.x_offset or roi.y_offset):
        return calibration
    x0, y0 = int(roi.x_offset), int(roi.y_offset)
    if calibration.size is None:
        return calibration.cut(x0, y0, (int(roi.width), int(roi.height)) if roi.width and roi.height else None)
    full_width, full_height = calibration.size
    width, height = int(roi.width) or full_width - x0, int(roi.height) or full_height - y0
    if width < 1 or height < 1 or x0 + width > full_width or y0 + height > full_height:
        raise CalibrationError(
            f"{calibration.source}: the region of interest {width}x{height} at ({x0}, {y0}) does not fit into "
            f"the image of {full_width}x{full_height}; correct roi or leave it zero."
        )
    return calibration.cut(x0, y0, (width, height))
