# SPDX-License-Identifier: Apache-2.0
"""Folders of COLMAP (https://colmap.github.io/format.html): `images/` and `sparse/0/{cameras,images}.{bin,txt}`.

All images of the folder are taken; the model gives cameras and true poses of those that it registered, in its own scale.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st3r_ros.errors import CalibrationError, GeometryError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.calibration.text_files import calibration_from_colmap
from st3r_ros.io.image_file import image_suffixes
from st3r_ros.io.layouts.recording import (
    DEFAULT_FPS,
    GIVEN,
    Layout,
    Recording,
    Request,
    counted,
    frame_stamp,
    image_entry,
    natural,
    steady,
    truth_of,
)
from st3r_ros.io.text import content_lines

_MODELS = ("sparse/*", "sparse", "colmap/sparse/*", "dslr_calibration_*", ".")
_CAMERA_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
"""COLMAP's camera models by their numbers, and how many parameters they have."""


@dataclass(frozen=True, eq=False)
class Registered:
    """An image of a model. camera: its number. T_world_cam: (4, 4), None where it is no pose."""

    camera: int
    T_world_cam: np.ndarray | None


def find_cameras(root: Path) -> dict[str, Path]:
    """The folder `images` beside a model."""
    if _model_of(root) is None:
        return {}
    return {"": root / "images"} if (root / "images").is_dir() else {}


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """All images in natural order, with the cameras and poses of the model."""
    model = _model_of(root)
    assert model is not None
    registered = read_images(model)
    folder = root / "images"
    files = [file for file in folder.rglob("*") if file.suffix.lower() in image_suffixes() and not file.name.startswith(".")]
    files.sort(key=lambda file: natural(str(file.relative_to(folder))))
    if not files:
        raise InputError(f"The folder '{folder}' holds no images ({', '.join(image_suffixes())}).")
    cameras = {} if request.calibration is not None else read_cameras(model)
    fps = request.fps or DEFAULT_FPS
    images, poses = [], {}
    for i, file in enumerate(files):
        image = registered.get(file.relative_to(folder).as_posix()) or registered.get(file.name)
        camera = cameras.get(image.camera) if image else next(iter(cameras.values())) if len(cameras) == 1 else None
        images.append(image_entry(frame_stamp(i, fps), file, camera, root=folder))
        if image is not None:
            poses[frame_stamp(i, fps)] = (file.name, image.T_world_cam)
    if not poses:
        raise InputError(f"Not one of the {len(files)} images in '{folder}' is in the model '{model}'; its images lie elsewhere.")
    name = str(model.relative_to(root))
    notes: tuple[str, ...] = ()
    if len(poses) < len(files):
        notes = (f"Without a true pose, because {name} does not have them: {len(files) - len(poses)} of {len(files)} images.",)
    first = request.calibration or images[0].camera
    source = GIVEN if request.calibration is not None else f"{name} ({counted(len(cameras), 'camera')})" if first else ""
    return Recording(images, steady(fps), first, source, truth_of(poses, f"{name} (in its own scale)"), notes)


LAYOUT = Layout("COLMAP", "colmap", find_cameras, read)


def read_cameras(model: Path) -> dict[int, Camera]:
    """The cameras of a model by their numbers.

    Raises:
        CalibrationError: a camera is not supported here. InputError: the file is damaged.
    """
    binary, text = model / "cameras.bin", model / "cameras.txt"
    if binary.exists():
        path, lines = binary, _lines_of(binary)
    else:
        path, lines = text, {line.split()[0]: line.split()[1:] for _, line in content_lines(text)}
    try:
        return {int(key): calibration_from_colmap(words, f"The calibration '{path}'").camera() for key, words in lines.items()}
    except CalibrationError as error:
        known = str(error).startswith("The calibration")
        raise error if known else CalibrationError(f"The calibration '{path}' is wrong: {error}") from error
    except ValueError as error:
        raise InputError(f"'{path}' holds a line that is no camera: {error}.") from error


def read_images(model: Path) -> dict[str, Registered]:
    """The images of a model by their names below the image folder.

    Raises:
        InputError: the file is damaged.
    """
    if (model / "images.bin").exists():
        return _read_binary_images(model / "images.bin")
    path, images = model / "images.txt", {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read: {error}.") from error
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    while lines and not lines[0].strip():
        del lines[0]
    for line in lines[::2]:  # a line of observations, which may be empty, follows each image
        words = line.split(maxsplit=9)
        if not words:
            continue
        try:
            images[words[9].strip()] = Registered(int(words[8]), _pose(np.array(words[1:8], dtype=np.float64)))
        except (ValueError, IndexError) as error:
            raise InputError(f"'{path}' holds a line that is no image: {line[:100]!r}.") from error
    return images


def _model_of(root: Path) -> Path | None:
    """The folder of the largest model below a folder, None where there is none."""
    models = {
        folder: file.stat().st_size
        for pattern in _MODELS
        for folder in (sorted(root.glob(pattern)) if pattern != "." else [root])
        for file in (folder / "images.bin", folder / "images.txt")
        if file.exists() and ((folder / "cameras.bin").exists() or (folder / "cameras.txt").exists())
    }
    return max(models, key=lambda folder: models[folder]) if models else None


def _pose(values: np.ndarray) -> np.ndarray | None:
    """The matrix T_world_cam of qw qx qy qz tx ty tz of T_cam_world; None when they are no pose."""
    try:
        return SE3.from_quaternion_xyzw(values[[1, 2, 3, 0]], values[4:]).inverse().as_matrix()
    except GeometryError:
        return None


def _lines_of(path: Path) -> dict[str, list[str]]:
    """The cameras of cameras.bin as the words of their lines in cameras.txt, by their numbers."""
    data, lines = _bytes(path), {}
    try:
        (count,), at = struct.unpack_from("<Q", data), 8
        for _ in range(count):
            number, model, width, height = struct.unpack_from("<IiQQ", data, at)
            if not 0 <= model < len(_CAMERA_MODELS):
                raise CalibrationError(f"camera {number} has the model number {model}, which is not supported; see --camera.")
            name, parameters = _CAMERA_MODELS[model]
            values = struct.unpack_from(f"<{parameters}d", data, at + 24)
            lines[str(number)] = [name, str(width), str(height), *map(repr, values)]
            at += 24 + 8 * parameters
    except struct.error as error:
        raise InputError(f"'{path}' is damaged: it ends too early.") from error
    except CalibrationError as error:
        raise CalibrationError(f"The calibration '{path}' cannot be used: {error}") from error
    return lines


def _read_binary_images(path: Path) -> dict[str, Registered]:
    data, images = _bytes(path), {}
    try:
        (count,), at = struct.unpack_from("<Q", data), 8
        for _ in range(count):
            values = np.frombuffer(data, "<f8", 7, at + 4)
            (camera,) = struct.unpack_from("<I", data, at + 60)
            end = data.index(b"\0", at + 64)
            (observations,) = struct.unpack_from("<Q", data, end + 1)
            images[data[at + 64 : end].decode()] = Registered(camera, _pose(values))
            at = end + 9 + 24 * observations
    except (struct.error, ValueError) as error:
        raise InputError(f"'{path}' is damaged: it ends too early.") from error
    return images


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
