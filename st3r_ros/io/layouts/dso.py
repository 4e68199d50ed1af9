# SPDX-License-Identifier: Apache-2.0
"""The layout of TUM mono VO and of TUM-VI's `dso` folders: `images/`, and `times.txt` with lines of `name stamp exposure`."""

from __future__ import annotations

from pathlib import Path

from st3r_ros.errors import CalibrationError, FrameError, InputError
from st3r_ros.io.calibration import read_camera
from st3r_ros.io.layouts.folder import images_in
from st3r_ros.io.layouts.recording import Layout, Recording, Request, calibration, counted, frame_stamp, image_entry, steady
from st3r_ros.io.stamps import parse_time
from st3r_ros.io.text import content_lines

_CAMCHAIN = "camchain.yaml"


def find_cameras(root: Path) -> dict[str, Path]:
    """The folder `images`."""
    return {"": root / "images"} if (root / "times.txt").is_file() and (root / "images").is_dir() else {}


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """The images that have a time."""
    files = images_in(root / "images")
    camera, calibration_from = calibration(request, root)
    if camera is None and (root.parent / _CAMCHAIN).exists():
        camera, calibration_from = read_camera(root.parent / _CAMCHAIN, cam=root.name), _CAMCHAIN
    notes: tuple[str, ...] = ()
    if camera is None and (root / "camera.txt").exists():
        try:
            camera, calibration_from = read_camera(root / "camera.txt"), "camera.txt"
        except CalibrationError as error:
            notes = (f"{error} So the images are uncalibrated; see --camera.",)
    if request.fps is not None:
        stamps, stamps_from = {file: frame_stamp(i, request.fps) for i, file in enumerate(files)}, steady(request.fps)
    else:
        times = _times(root / "times.txt")
        stamps, stamps_from = {file: times[file.stem] for file in files if file.stem in times}, "times.txt"
        if not stamps:
            raise InputError(f"'{root / 'times.txt'}' has no line for '{files[0].stem}'; its lines must be: name stamp exposure.")
        if len(stamps) < len(files):
            notes = (*notes, f"Left out: {counted(len(files) - len(stamps), 'image')} without a line in times.txt.")
    images = [image_entry(stamp_ns, file) for file, stamp_ns in stamps.items()]
    return Recording(images, stamps_from, camera, calibration_from, notes=notes)


LAYOUT = Layout("TUM mono VO", "dso", find_cameras, read)


def _times(file: Path) -> dict[str, int]:
    times: dict[str, int] = {}
    for _, line in content_lines(file):
        words = line.split()
        try:
            times[words[0]] = parse_time(words[1])
        except (FrameError, IndexError):
            continue
    return times
