# SPDX-License-Identifier: Apache-2.0
"""The ASL layout of EuRoC MAV and TUM-VI: `mav0/cam0/data.csv`, `data/<ns>.png`, `sensor.yaml`, and true poses of the body.

The true pose of the camera is T_world_body @ T_body_cam; `sensor.yaml` calls the latter T_BS. TUM-VI has its calibration in
`dso/camchain.yaml` (Kalibr, T_cam_imu) instead.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from st3r_ros.errors import CalibrationError, GeometryError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.calibration import Calibration, read_camera
from st3r_ros.io.layouts.folder import images_in, stamped
from st3r_ros.io.layouts.image_list import read_list, renumbered
from st3r_ros.io.layouts.recording import GIVEN, Layout, Recording, Request, Truth, image_entry, natural, optional_truth
from st3r_ros.io.trajectory import load_tum, moved

_TRUTH = ("state_groundtruth_estimate0", "mocap0", "vicon0")
"""Folders with `data.csv` of poses, the best first: ns, position, quaternion w x y z."""
_CAMCHAIN = "dso/camchain.yaml"


def find_cameras(root: Path) -> dict[str, Path]:
    """The image folders of cam0, cam1, ... below a folder that has `mav0` or the cameras themselves in it."""
    cameras = sorted(_base(root).glob("cam[0-9]*"), key=lambda folder: natural(folder.name))
    known = (cam for cam in cameras if (cam / "data.csv").exists() or (cam / "sensor.yaml").exists())
    return {cam.name: cam / "data" for cam in known if (cam / "data").is_dir()}


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """The images of one camera, and the poses of that camera."""
    base = _base(root)
    folder = base / camera_name
    if (folder / "data.csv").exists():
        images, stamps_from = read_list(folder / "data.csv", folder / "data"), "data.csv"
        if request.fps is not None:
            images, stamps_from = renumbered(images, request.fps)
    else:
        files, stamps_from = stamped(images_in(folder / "data"), request.fps)
        images = [image_entry(stamp_ns, file) for stamp_ns, file in files]
    camera, calibration_from = _calibration(folder, request)
    truth = Truth() if request.fps is not None else optional_truth(partial(_truth, base, folder))
    return Recording(images, stamps_from, camera, calibration_from, truth)


LAYOUT = Layout("EuRoC/ASL", "euroc", find_cameras, read)


def _base(root: Path) -> Path:
    return root / "mav0" if (root / "mav0").is_dir() else root


def _camchain(folder: Path) -> Path:
    return folder.parent.parent / _CAMCHAIN


def _calibration(folder: Path, request: Request) -> tuple[Camera | Calibration | None, str]:
    if request.calibration is not None:
        return request.calibration, GIVEN
    if (folder / "sensor.yaml").exists():
        return read_camera(folder / "sensor.yaml"), "sensor.yaml"
    if _camchain(folder).exists():
        return read_camera(_camchain(folder), cam=folder.name), _CAMCHAIN
    return None, ""


def _truth(base: Path, folder: Path) -> Truth:
    """The poses of the camera in `folder`."""
    for source in _TRUTH:
        file = base / source / "data.csv"
        if not file.exists():
            continue
        name = f"{source}/data.csv"
        T_body_cam = _body_from_camera(folder)
        if T_body_cam is None:
            reason = f"{name} has poses of the body, and nothing tells where {folder.name} is on it (T_BS)."
            return Truth(notes=(f"The true poses are not used: {reason}",))
        T_body_sensor = _extrinsics(base / source / "sensor.yaml") or SE3.identity()
        found = moved(load_tum(file, w_first=True), T_body_sensor.inverse() @ T_body_cam)
        return Truth.of_file(found, name, of_camera=False)
    return Truth()


def _body_from_camera(folder: Path) -> SE3 | None:
    """T_body_cam, None where no file tells it."""
    T_body_cam = _extrinsics(folder / "sensor.yaml")
    if T_body_cam is not None or not _camchain(folder).exists():
        return T_body_cam
    camera = _load_yaml(_camchain(folder)).get(folder.name)
    rows = camera.get("T_cam_imu") if isinstance(camera, dict) else None
    return None if rows is None else _transform(rows, _camchain(folder)).inverse()


def _extrinsics(file: Path) -> SE3 | None:
    """T_BS of a sensor.yaml, None without it."""
    value = _load_yaml(file).get("T_BS") if file.exists() else None
    return None if value is None else _transform(value.get("data") if isinstance(value, dict) else value, file)


def _transform(values: Any, file: Path) -> SE3:
    try:
        return SE3.from_matrix(np.array(values, dtype=np.float64).reshape(4, 4))
    except (GeometryError, TypeError, ValueError) as error:
        raise CalibrationError(f"The extrinsics in '{file}' are wrong: {error}") from error


def _load_yaml(file: Path) -> dict[str, Any]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        content = yaml.safe_load("\n".join(line for line in lines if not line.startswith("%YAML")))  # OpenCV's is no YAML
    except OSError as error:
        raise CalibrationError(f"'{file}' cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f"'{file}' is not a YAML file: {' '.join(str(error).split())}.") from error
    return content if isinstance(content, dict) else {}
