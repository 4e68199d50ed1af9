# SPDX-License-Identifier: Apache-2.0
"""The layouts of KITTI: odometry (`sequences/00/image_0`, `times.txt`, `calib.txt`, `poses/00.txt`) and raw drives.

Images are numbered from 0, also where some are missing. Both have rectified images: camera i has K of P_i and is moved along
the baseline by K^-1 P_i[:, 3]; the true poses are those of camera 0.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from st3r_ros.errors import CalibrationError, FrameError, InputError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.calibration import read_calibration, read_camera
from st3r_ros.io.calibration.text_files import kitti_entries
from st3r_ros.io.layouts.folder import images_in
from st3r_ros.io.layouts.recording import (
    Layout,
    Recording,
    Request,
    Truth,
    calibration,
    counted,
    frame_stamp,
    image_entry,
    image_size,
    last_number,
    optional_truth,
    steady,
)
from st3r_ros.io.stamps import NANOSECONDS, parse_stamp
from st3r_ros.io.text import content_lines
from st3r_ros.io.trajectory import FrameStamps, load_tum, moved

_FPS = 10.0
"""Of the recordings, where times.txt is missing."""


def find_cameras(root: Path) -> dict[str, Path]:
    """image_0 to image_3 of an odometry sequence."""
    if not ((root / "times.txt").exists() or (root / "calib.txt").exists()):
        return {}
    return {folder.name: folder for folder in sorted(root.glob("image_[0-9]")) if folder.is_dir()}


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """The images of one camera of an odometry sequence, and the poses of that camera."""
    files = images_in(root / camera_name)
    stamps, stamps_from, notes = _stamps(files, root / "times.txt", _decimal_seconds, request.fps)
    P = _projection(root / "calib.txt", camera_name[-1])
    camera, calibration_from = calibration(request, root)
    if camera is None and P is not None:
        camera, calibration_from = read_camera(root / "calib.txt", image_size(files), camera_name), "calib.txt"
    truth = optional_truth(partial(_truth, root, P, camera_name, {last_number(f.stem): s for f, s in stamps.items()}))
    images = [image_entry(stamp_ns, file) for file, stamp_ns in stamps.items()]
    return Recording(images, stamps_from, camera, calibration_from, truth, notes)


def find_raw_cameras(root: Path) -> dict[str, Path]:
    """image_00 to image_03 of a raw drive."""
    return {folder.name: folder / "data" for folder in sorted(root.glob("image_0[0-9]")) if (folder / "data").is_dir()}


def read_raw(root: Path, camera_name: str, request: Request) -> Recording:
    """The images of one camera of a raw drive; its calibration is in the folder of the day."""
    files = images_in(root / camera_name / "data")
    stamps, stamps_from, notes = _stamps(files, root / camera_name / "timestamps.txt", _date, request.fps)
    camera, calibration_from = calibration(request, root)
    file = next((f / "calib_cam_to_cam.txt" for f in (root, root.parent) if (f / "calib_cam_to_cam.txt").exists()), None)
    if camera is None and file is not None:
        rectified = not root.name.endswith("_extract")
        camera = read_calibration(file, camera_name).camera(image_size(files), rectified=rectified)
        calibration_from = file.name
    images = [image_entry(stamp_ns, file) for file, stamp_ns in stamps.items()]
    return Recording(images, stamps_from, camera, calibration_from, notes=notes)


LAYOUT = Layout("KITTI odometry", "kitti", find_cameras, read)
RAW_LAYOUT = Layout("KITTI raw", "kitti", find_raw_cameras, read_raw)


def _stamps(
    files: list[Path], times: Path, parse: Callable[[str], int], fps: float | None
) -> tuple[dict[Path, int], str, tuple[str, ...]]:
    """The stamp of each image by its number; images beyond the last time are left out with a note."""
    if fps is not None or not times.exists():
        rate = fps or _FPS
        return {file: frame_stamp(last_number(file.stem), rate) for file in files}, steady(rate), ()
    stamps = []
    for number, line in content_lines(times):
        try:
            stamps.append(parse(line))
        except (FrameError, ValueError) as error:
            raise InputError(f"'{times}' line {number} is no time: {error} Give the rate instead: ?fps=10") from error
    timed = {file: stamps[last_number(file.stem)] for file in files if last_number(file.stem) < len(stamps)}
    if not timed:
        raise InputError(f"'{times}' holds {len(stamps)} times, but the first image is '{files[0].name}'; see ?fps=10.")
    late = len(files) - len(timed)
    beyond = f"{counted(late, 'image')} beyond the {len(stamps)} times of {times.name} (?fps=10 takes them)"
    notes = (f"Left out: {beyond}.",) if late else ()
    return timed, times.name, notes


def _decimal_seconds(line: str) -> int:
    return parse_stamp(line)


def _date(line: str) -> int:
    """Nanoseconds of `2011-09-26 13:02:25.964389445`, taken as UTC."""
    whole, _, fraction = line.partition(".")
    moment = datetime.datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return int(moment.timestamp()) * NANOSECONDS + int((fraction + "0" * 9)[:9])


def _projection(file: Path, number: str) -> np.ndarray | None:
    """P of a camera, (3, 4), None where the file does not tell it."""
    entries = kitti_entries(file.read_text(encoding="utf-8")) if file.exists() else {}
    words = entries.get(f"P{number}")
    try:
        return None if words is None else np.array(words, dtype=np.float64).reshape(3, 4)
    except ValueError as error:
        raise CalibrationError(f"The calibration '{file}' is wrong: P{number} must have 12 numbers.") from error


def _truth(root: Path, P: np.ndarray | None, camera_name: str, stamps: dict[int, int]) -> Truth:
    """The poses of the camera of projection matrix P."""
    name = f"poses/{root.name}.txt"
    file = next((f / name for f in (root.parent.parent, root.parent) if (f / name).exists()), None)
    if file is None:
        return Truth()
    if P is None and camera_name != "image_0":
        raise InputError(f"{name} has those of image_0, and calib.txt does not tell where {camera_name} is.")
    baseline = np.zeros(3) if P is None else -np.linalg.solve(P[:, :3], P[:, 3])
    found = load_tum(file, FrameStamps(stamps))
    return Truth.of_file(moved(found, SE3(np.eye(3), baseline)), name)
