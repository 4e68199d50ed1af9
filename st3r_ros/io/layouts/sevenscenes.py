# SPDX-License-Identifier: Apache-2.0
"""The layout of 7-Scenes (and RIO10, 12-Scenes): `frame-000000.color.png` with `frame-000000.pose.txt` beside it.

The files are numbered in time; 7-Scenes was recorded at 30 Hz. Poses are T_world_cam, of the depth camera in 7-Scenes.
"""

from __future__ import annotations

import re
from pathlib import Path

from st3r_ros.io.image_file import image_suffixes
from st3r_ros.io.layouts.recording import (
    DEFAULT_FPS,
    Layout,
    Recording,
    Request,
    calibration,
    frame_stamp,
    image_entry,
    last_number,
    natural,
    read_pose,
    steady,
    truth_of,
)

_COLOUR = re.compile(r"frame-?_?\d+\.color", re.IGNORECASE)


def find_cameras(root: Path) -> dict[str, Path]:
    """The folder itself, if it holds such images."""
    return {"": root} if any(_is_colour(file) for file in root.iterdir()) else {}


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """The colour images; the layout gives no calibration of them."""
    files = sorted((file for file in root.iterdir() if _is_colour(file)), key=lambda file: natural(file.name))
    fps = request.fps or DEFAULT_FPS
    stamps = {file: frame_stamp(last_number(file.stem), fps) for file in files}
    of_images = {stamp_ns: _pose_file(file) for file, stamp_ns in stamps.items()}
    poses = {stamp_ns: (file.name, read_pose(file)) for stamp_ns, file in of_images.items() if file.exists()}
    notes: tuple[str, ...] = ()
    camera, calibration_from = calibration(request, root, root.parent)
    if camera is None:
        notes = ("The layout has no calibration of the colour camera; for 7-Scenes fx = fy = 525 is usual, see --camera.",)
    images = [image_entry(stamp_ns, file) for file, stamp_ns in stamps.items()]
    return Recording(images, steady(fps), camera, calibration_from, truth_of(poses, "*.pose.txt"), notes)


LAYOUT = Layout("7-Scenes", "sevenscenes", find_cameras, read)


def _is_colour(file: Path) -> bool:
    return file.suffix.lower() in image_suffixes() and bool(_COLOUR.fullmatch(file.stem))


def _pose_file(image: Path) -> Path:
    return image.with_name(image.name.split(".")[0] + ".pose.txt")
