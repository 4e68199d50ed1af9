# SPDX-License-Identifier: Apache-2.0
"""Folders with `transforms.json` of nerfstudio, instant-ngp or NeRF: images, intrinsics and T_world_cam with the axes of OpenGL.

As in COLMAP, the centre of the top left pixel is at (0.5, 0.5). The frames stand in any order: the images' names give it. A world
that was turned (`applied_transform`, to the poses of the file from those of the data) is turned back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from st3r_ros.errors import CalibrationError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration.json_files import calibration_from_nerfstudio
from st3r_ros.io.image_file import image_suffixes
from st3r_ros.io.layouts.folder import images_in
from st3r_ros.io.layouts.recording import (
    DEFAULT_FPS,
    GIVEN,
    Layout,
    Recording,
    Request,
    counted,
    frame_stamp,
    image_entry,
    image_size,
    natural,
    steady,
    truth_of,
)

FILE = "transforms.json"

_FILES = (FILE, "transforms_train.json")
_GL_FROM_CV = np.diag([1.0, -1.0, -1.0, 1.0])


def find_cameras(root: Path) -> dict[str, Path]:
    """The folder of the first image."""
    file = _file_of(root)
    if file is None:
        return {}
    try:
        return {"": _image(root, _frames(file)[0]).parent}
    except InputError:
        return {"": root}  # `read` says what is wrong


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """The images in the order of their names, with the intrinsics and poses of their frames."""
    file = _file_of(root)
    assert file is not None
    content, fps = _load(file), request.fps or DEFAULT_FPS
    frames = sorted(_frames(file), key=lambda frame: natural(str(frame["file_path"])))
    size = None
    T_data_file = _turned_back(content)
    images, poses = [], {}
    for i, frame in enumerate(frames):
        image = _image(root, frame)
        camera = None
        if request.calibration is None:
            numbers = {**content, **frame}
            if not ("w" in numbers and "h" in numbers):
                size = size or image_size([_image(root, each) for each in frames])
                numbers["w"], numbers["h"] = size
            camera = _camera(numbers, file)
        images.append(image_entry(frame_stamp(i, fps), image, camera, root=root))
        poses[frame_stamp(i, fps)] = (str(frame["file_path"]), _pose(frame, T_data_file))
    first = request.calibration or images[0].camera
    source = GIVEN if request.calibration is not None else file.name if first else ""
    notes = _unlisted(root, frames)
    others = [name.name for name in sorted(root.glob("transforms*.json")) if name != file]
    if others:
        notes = (*notes, f"Left out: the images of {', '.join(others)}.")
    return Recording(images, steady(fps), first, source, truth_of(poses, file.name), notes)


LAYOUT = Layout("nerfstudio", "nerfstudio", find_cameras, read)


def _file_of(root: Path) -> Path | None:
    return next((root / name for name in _FILES if (root / name).is_file()), None)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"'{file}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"'{file}' is not a JSON file: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"'{file}' holds no frames; it is not a transforms.json of nerfstudio.")
    return content


def _frames(file: Path) -> list[dict[str, Any]]:
    frames = _load(file).get("frames")
    if not isinstance(frames, list) or not frames:
        raise InputError(f"'{file}' lists no frames.")
    if not all(isinstance(frame, dict) and isinstance(frame.get("file_path"), str) for frame in frames):
        raise InputError(f"'{file}' has a frame without a file_path.")
    return frames


def _image(root: Path, frame: dict[str, Any]) -> Path:
    """The image of a frame; NeRF's synthetic scenes leave out the suffix."""
    path = root / frame["file_path"]
    if path.suffix.lower() in image_suffixes() or path.is_file():
        return path
    return next((found for suffix in image_suffixes() if (found := path.with_name(path.name + suffix)).is_file()), path)


def _unlisted(root: Path, frames: list[dict[str, Any]]) -> tuple[str, ...]:
    listed = {_image(root, frame).resolve() for frame in frames}
    folder = _image(root, frames[0]).parent
    unlisted = [file for file in images_in(folder) if file.resolve() not in listed] if folder.is_dir() else []
    return (f"Left out: {counted(len(unlisted), 'image')} in '{folder.name}' that {FILE} does not list.",) if unlisted else ()


def _turned_back(content: dict[str, Any]) -> np.ndarray:
    """The inverse of `applied_transform`; the identity where there is none, or one that is no rigid motion."""
    try:
        T_file_data = np.vstack([np.array(content["applied_transform"], dtype=np.float64)[:3].reshape(3, 4), [0, 0, 0, 1]])
    except (KeyError, TypeError, ValueError, IndexError):
        return np.eye(4)
    R = T_file_data[:3, :3]
    rigid = np.allclose(R @ R.T, np.eye(3), atol=1e-4) and np.linalg.det(R) > 0 and np.isfinite(T_file_data).all()
    return np.linalg.inv(T_file_data) if rigid and "applied_scale" not in content else np.eye(4)


def _pose(frame: dict[str, Any], T_data_file: np.ndarray) -> np.ndarray | InputError:
    try:
        matrix = np.array(frame["transform_matrix"], dtype=np.float64)
        matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]]) if matrix.shape == (3, 4) else matrix.reshape(4, 4)
    except (KeyError, TypeError, ValueError):
        return InputError("it has no transform_matrix of 4x4 numbers.")
    return T_data_file @ matrix @ _GL_FROM_CV


def _camera(numbers: dict[str, Any], file: Path) -> Camera | None:
    """The camera of a frame, None where nothing tells its focal length."""
    if numbers.get("fl_x") is None and numbers.get("camera_angle_x") is None:
        return None
    source = f"The calibration '{file}'"
    try:
        return calibration_from_nerfstudio(numbers, source).camera()
    except CalibrationError as error:
        raise error if str(error).startswith(source) else CalibrationError(f"{source} is wrong: {error}") from error
