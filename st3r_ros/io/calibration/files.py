# SPDX-License-Identifier: Apache-2.0
"""Recognizes the format of a calibration file and reads it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import fields, foreign, json_files, ros_yaml, slam_text, slam_yaml, text_files
from st3r_ros.io.calibration.calibration import RECTIFIED, Calibration, Size
from st3r_ros.io.calibration.documents import calibration_text, documents
from st3r_ros.io.calibration.fields import Content

CAMERA_FILE = "camera.yaml"
KNOWN = (
    "ROS yaml, CameraInfo text (ros2 topic echo), cameracalibrator's ost.txt, OpenCV, RTAB-Map, ORB-SLAM, stella_vslam, Kalibr, "
    "EuRoC, VINS, MASt3R-SLAM, DROID-SLAM, DSO, Basalt, KITTI, COLMAP cameras.txt, nerfstudio, Open3D, OAK"
)
Reader = Callable[[str], Calibration]
"""Reads the calibration of one camera of a file; the argument names the file in messages."""
_Parser = Callable[[Content, str], Calibration]


def read_camera(path: Path | str, size: Size | None = None, cam: str = "") -> Camera:
    """The camera of a calibration file, of images that are not rectified unless the file says so.

    size: of the images, needed where the file does not tell it. cam: as in `read_calibration`.

    Raises:
        CalibrationError: as `read_calibration`, or the calibration is incomplete, cannot be used, or is for another size.
    """
    return read_calibration(path, cam).camera(size)


def read_calibration(path: Path | str, cam: str = "") -> Calibration:
    """The calibration in a file.

    path: may end with options: `camera.yaml?cam=cam1&rectified=yes`. cam: which camera of a file that holds several, by its name
    or number; the first by default.

    Raises:
        CalibrationError: the file is missing or of no known format, or a key is missing or wrong; the message names file and key.
    """
    file, options = _split(path)
    cam, rectified = cam or options.get("cam", ""), options.get("rectified", "auto")
    source = f"The calibration '{file}'"
    text = calibration_text(file, source)
    try:
        calibration = _first_usable(text, source, cam)
    except CalibrationError as error:
        known = str(error).startswith(source)
        raise error if known else CalibrationError(f"{source} is wrong: {error}") from error
    return dataclasses.replace(calibration, rectified=rectified)


def find_calibration(folder: Path) -> Calibration | None:
    """The calibration in `camera.yaml` of a folder, None without that file.

    Raises:
        CalibrationError: as `read_calibration`.
    """
    path = folder / CAMERA_FILE
    return read_calibration(path) if path.exists() else None


def find_camera(folder: Path) -> Camera | None:
    """The camera of `camera.yaml` in a folder, None without that file.

    Raises:
        CalibrationError: as `read_camera`.
    """
    calibration = find_calibration(folder)
    return None if calibration is None else calibration.camera()


def _split(path: Path | str) -> tuple[Path, dict[str, str]]:
    """The file and its options; a path that exists as it is written has none."""
    text = str(path)
    location, mark, query = text.partition("?")
    if not mark or Path(text).expanduser().exists():
        return Path(text).expanduser(), {}
    options = dict(part.partition("=")[::2] for part in query.split("&"))
    unknown = set(options) - {"cam", "rectified"}
    if unknown or options.get("rectified", "auto") not in RECTIFIED:
        raise CalibrationError(
            f"The options '{query}' of the calibration '{location}' are wrong; it takes cam=NAME and "
            f"rectified={'|'.join(RECTIFIED)}."
        )
    return Path(location).expanduser(), options


def _first_usable(text: str, source: str, cam: str) -> Calibration:
    """The calibration of the first document of a file that has one; what is wrong with the first one otherwise."""
    foreign.refuse_text(text, source)
    cameras = _cameras_of_text(text)
    if cameras:
        return _choose(cameras, source, cam)
    first: CalibrationError | None = None
    for content in documents(text, source):
        try:
            calibration = _choose(_cameras(content), source, cam, content)
            if not calibration.tells_nothing:
                return calibration
            raise CalibrationError("its focal lengths are zero: the camera is not calibrated.")
        except CalibrationError as error:
            first = first or error
    raise first or CalibrationError(f"{source} holds no keys; supported are {KNOWN}.")


def _choose(cameras: dict[str, Reader], source: str, cam: str, content: Content | None = None) -> Calibration:
    if not cameras:
        foreign.refuse_content(content or {}, source)
        keys = ", ".join(str(key) for key in list(content or {})[:8])
        raise CalibrationError(f"{source} has an unknown format with the keys {keys}; supported are {KNOWN}.")
    names = list(cameras)
    found = [name for name in names if name == cam] or [name for name in names if cam and _number(name) == _number(cam)]
    if cam and not found:
        listed = ", ".join(names) if any(names) else "one camera without a name"
        raise CalibrationError(f"it has no camera '{cam}'; there is {listed}.")
    name = found[0] if found else names[0]
    calibration = cameras[name](source)
    if cam or len(names) == 1:
        return calibration
    return dataclasses.replace(
        calibration, note=f"{source} has {len(names)} cameras: {name} is used (?cam={names[1]} selects another)."
    )


def _number(name: str) -> str:
    """What tells cameras apart: image_2, cam2, P2, 2 and 02 are the same."""
    digits = re.search(r"(\d+)\D*$", name)
    return str(int(digits[1])) if digits else name


def _cameras_of_text(text: str) -> dict[str, Reader]:
    """The cameras of a file that is neither YAML, JSON nor XML."""
    if re.search(r"^camera matrix\s*$", text, re.MULTILINE):
        return {"": partial(ros_yaml.calibration_from_ost, text)}
    entries = text_files.kitti_entries(text)
    if entries:
        return {name: partial(text_files.calibration_from_kitti, entries, name) for name in text_files.kitti_cameras(entries)}
    lines = text_files.colmap_cameras(text)
    if lines:
        return {name: partial(text_files.calibration_from_colmap, words) for name, words in lines.items()}
    matrix, numbers, dso = text_files.bare_matrix(text), slam_text.droid_numbers(text), slam_text.dso_camera(text)
    if matrix is not None:
        return {"": partial(text_files.calibration_from_matrix, matrix)}
    if numbers is not None:
        return {"": partial(slam_text.calibration_from_droid, numbers)}
    return {} if dso is None else {"": partial(slam_text.calibration_from_dso, dso)}


def _cameras(content: Content) -> dict[str, Reader]:
    """The cameras of a parsed document. One with the keys of another projection is refused when it is read."""
    return {name: partial(_read_below, content, reader) for name, reader in _readers(content).items()}


def _read_below(content: Content, reader: Reader, source: str) -> Calibration:
    """The blocks of the content may be other cameras."""
    foreign.refuse_projection(content)
    return reader(source)


def _read_camera(camera: Content, reader: Reader, source: str) -> Calibration:
    foreign.refuse_projection(camera, with_blocks=True)
    return reader(source)


def _readers(content: Content) -> dict[str, Reader]:
    common = ros_yaml.names_for_blocks(content)
    settings = slam_yaml.orb_slam_settings(content)
    kinds: tuple[tuple[dict[str, Content], _Parser], ...] = (
        (slam_yaml.kalibr_cameras(content), slam_yaml.calibration_from_kalibr),
        (json_files.oak_cameras(content), json_files.calibration_from_oak),
        (json_files.basalt_cameras(content), json_files.calibration_from_basalt),
        (ros_yaml.stereo_cameras(content), ros_yaml.calibration_from_yaml),
    )
    for cameras, parse in kinds:
        if cameras:
            return {name: _reader({**common, **camera}, parse) for name, camera in cameras.items()}
    orb = slam_yaml.orb_slam_cameras(settings)
    if orb:
        return {
            name: partial(_read_camera, settings, partial(slam_yaml.calibration_from_orb_slam, settings, prefix))
            for name, prefix in orb.items()
        }
    for is_format, calibration_from in _FORMATS:
        if is_format(content):
            return {"": _reader(content, calibration_from)}
    nested = {str(name): {**common, **value} for name, value in content.items() if isinstance(value, Mapping)}
    return {
        (name if not inner else f"{name}.{inner}"): reader
        for name, value in nested.items()
        for inner, reader in _cameras(value).items()
    }


def _reader(camera: Content, parse: _Parser) -> Reader:
    return partial(_read_camera, camera, partial(parse, camera))


def _is_unfinished_ros_yaml(content: Content) -> bool:
    size_or_lens = fields.first_key(content, "image_width", "image_height", "distortion_coefficients")
    return size_or_lens is not None and "cam0_calib" not in content


_FORMATS: tuple[tuple[Callable[[Content], bool], _Parser], ...] = (
    (slam_yaml.is_kalibr, slam_yaml.calibration_from_kalibr),
    (slam_yaml.is_camodocal, slam_yaml.calibration_from_camodocal),
    (slam_yaml.is_mast3r_slam, slam_yaml.calibration_from_mast3r_slam),
    (json_files.is_nerfstudio, json_files.calibration_from_nerfstudio),
    (ros_yaml.is_camera_info, ros_yaml.calibration_from_text),
    (lambda content: "intrinsic_matrix" in content, json_files.calibration_from_open3d),
    (ros_yaml.is_ros_yaml, ros_yaml.calibration_from_yaml),
    (_is_unfinished_ros_yaml, ros_yaml.calibration_from_yaml),
)
