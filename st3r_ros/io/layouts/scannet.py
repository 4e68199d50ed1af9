# SPDX-License-Identifier: Apache-2.0
"""The layout of ScanNet's exported scans: `color/0.jpg`, `pose/0.txt` (T_world_cam), `intrinsic/intrinsic_color.txt`.

The files are numbered at 30 Hz, also where some are left out. The pose of a frame that was not tracked is -inf.
"""

from __future__ import annotations

from pathlib import Path

from st3r_ros.geometry.camera import Camera
from st3r_ros.io.layouts.folder import images_in
from st3r_ros.io.layouts.recording import (
    DEFAULT_FPS,
    Layout,
    Recording,
    Request,
    calibration,
    frame_stamp,
    image_entry,
    image_size,
    last_number,
    numbers_of,
    read_pose,
    steady,
    truth_of,
)

_INTRINSICS = ("intrinsic/intrinsic_color.txt", "intrinsics/intrinsic_color.txt", "intrinsic_color.txt")
_CENTRED = 0.1
"""The principal point is this close to the middle of the image, in widths."""


def find_cameras(root: Path) -> dict[str, Path]:
    """The folder `color`, if there are poses or intrinsics beside it."""
    known = (root / "pose").is_dir() or any((root / name).exists() for name in _INTRINSICS)
    return {"": root / "color"} if known and (root / "color").is_dir() else {}


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """The colour images."""
    files = images_in(root / "color")
    fps = request.fps or DEFAULT_FPS
    stamps = {file: frame_stamp(last_number(file.stem), fps) for file in files}
    of_images = {stamp_ns: root / "pose" / f"{file.stem}.txt" for file, stamp_ns in stamps.items()}
    poses = {stamp_ns: (f"pose/{file.name}", read_pose(file)) for stamp_ns, file in of_images.items() if file.exists()}
    truth = truth_of(poses, "pose/*.txt")
    notes: tuple[str, ...] = ()
    camera, calibration_from = calibration(request, root)
    file = next((root / name for name in _INTRINSICS if (root / name).exists()), None)
    if camera is None and file is not None:
        K, (width, height) = numbers_of(file, 16).reshape(4, 4)[:3, :3], image_size(files)
        if abs(K[0, 2] / width - 0.5) < _CENTRED and abs(K[1, 2] / height - 0.5) < _CENTRED:
            camera, calibration_from = Camera(width, height, K), file.name
        else:
            size = f"about {2 * K[0, 2]:.0f}x{2 * K[1, 2]:.0f} pixels, the images are {width}x{height}"
            notes = (f"{file.name} is for {size}; not used (see --camera).",)
    images = [image_entry(stamp_ns, file) for file, stamp_ns in stamps.items()]
    return Recording(images, steady(fps), camera, calibration_from, truth, notes)


LAYOUT = Layout("ScanNet", "scannet", find_cameras, read)
