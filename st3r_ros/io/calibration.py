# SPDX-License-Identifier: Apache-2.0
"""Camera calibrations: the yaml files of ROS (camera_calibration, camera_info_manager) and CameraInfo messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.atomic import write_file

CAMERA_FILE = "camera.yaml"


def read_camera(path: Path | str) -> Camera:
    """The camera of a ROS calibration yaml.

    Raises:
        CalibrationError: the file is missing or no yaml, or a key is missing or wrong; the message names file and key.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"The calibration '{path}' cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CalibrationError(f"The calibration '{path}' is not a YAML file: {reason}.") from error
    if not isinstance(content, dict):
        raise CalibrationError(f"The calibration '{path}' holds no keys; it must be a ROS calibration with camera_matrix.")
    try:
        return Camera(
            width=_size(content, "image_width"),
            height=_size(content, "image_height"),
            K=_numbers(content, "camera_matrix", 9).reshape(3, 3),
            distortion_model=str(content.get("distortion_model") or "plumb_bob"),
            distortion=_numbers(content, "distortion_coefficients", None),
        )
    except CalibrationError as error:
        raise CalibrationError(f"The calibration '{path}' is wrong: {error}") from error


def find_camera(folder: Path) -> Camera | None:
    """The camera of `camera.yaml` in a folder, None without that file.

    Raises:
        CalibrationError: as `read_camera`.
    """
    path = folder / CAMERA_FILE
    return read_camera(path) if path.exists() else None


def write_camera(path: Path | str, camera: Camera, name: str = "camera") -> None:
    """Write a ROS calibration yaml that `read_camera` and ROS read; numbers keep all their digits.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": name,
        "camera_matrix": _matrix(camera.K),
        "distortion_model": camera.distortion_model,
        "distortion_coefficients": _matrix(np.atleast_2d(camera.distortion)),
        "rectification_matrix": _matrix(np.eye(3)),
        "projection_matrix": _matrix(np.hstack([camera.K, np.zeros((3, 1))])),
    }
    write_file(path, yaml.safe_dump(content, sort_keys=False, default_flow_style=None).encode())


def camera_from_info(info: Any) -> Camera | None:
    """The camera of the images that come with a sensor_msgs/CameraInfo, or None when it says it is not calibrated (k[0] is 0).

    info: any object with the message's fields. k belongs to the full sensor image; the region of interest and then the binning
    are applied to it, as the message defines.

    Raises:
        CalibrationError: the size, k, the distortion, the region or the binning are incomplete or contradict each other.
    """
    k = np.array(info.k, dtype=np.float64)
    if k[0] == 0.0:
        return None
    camera = Camera(
        width=int(info.width),
        height=int(info.height),
        K=k.reshape(3, 3),
        distortion_model=info.distortion_model or "plumb_bob",
        distortion=np.array(info.d, dtype=np.float64),
    )
    roi = info.roi
    if roi.width or roi.height or roi.x_offset or roi.y_offset:
        width, height = roi.width or info.width - roi.x_offset, roi.height or info.height - roi.y_offset
        if width < 1 or height < 1 or roi.x_offset + width > info.width or roi.y_offset + height > info.height:
            raise CalibrationError(
                f"camera_info: the region of interest {width}x{height} at ({roi.x_offset}, {roi.y_offset}) does not fit into "
                f"the image of {info.width}x{info.height}; correct roi or leave it zero."
            )
        camera = camera.cropped(roi.x_offset, roi.y_offset, width, height)
    binning_x, binning_y = max(info.binning_x, 1), max(info.binning_y, 1)
    if binning_x > camera.width or binning_y > camera.height:
        raise CalibrationError(f"camera_info: binning {binning_x}x{binning_y} leaves nothing of {camera.width}x{camera.height}.")
    return camera.scaled(camera.width // binning_x, camera.height // binning_y)


def _size(content: dict, key: str) -> int:
    value = _required(content, key)
    if type(value) is not int or value < 1:
        raise CalibrationError(f"{key} is {value!r}; it must be a whole number of pixels.")
    return value


def _numbers(content: dict, key: str, count: int | None) -> np.ndarray:
    value = _required(content, key)
    data = value.get("data") if isinstance(value, dict) else value
    if not isinstance(data, list):
        raise CalibrationError(f"{key} has no list 'data'; a ROS calibration writes {key}: {{rows, cols, data: [...]}}.")
    try:
        numbers = np.array([_number(item) for item in data], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{key} holds something that is not a number: {data!r}.") from error
    if count is not None and len(numbers) != count:
        raise CalibrationError(f"{key} has {len(numbers)} values; it must have {count}.")
    if not np.isfinite(numbers).all():
        raise CalibrationError(f"{key} holds a value that is not finite: {data!r}.")
    return numbers


def _number(item: Any) -> float:
    if isinstance(item, bool):
        raise TypeError("a truth value")
    return float(item)  # also of text: YAML 1.1 reads 1e-5 as text


def _required(content: dict, key: str) -> Any:
    if content.get(key) is None:
        raise CalibrationError(f"the key {key} is missing.")
    return content[key]


def _matrix(values: np.ndarray) -> dict[str, Any]:
    return {"rows": values.shape[0], "cols": values.shape[1], "data": [float(value) for value in values.reshape(-1)]}
