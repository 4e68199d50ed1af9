# SPDX-License-Identifier: Apache-2.0
"""The layout of the TUM RGB-D benchmark: `rgb.txt` or associations; `groundtruth.txt`, `depth.txt`, `camera.yaml` if they exist.

Stamps are seconds, or whole nanoseconds as in EuRoC; a comma may stand between stamp and file.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from st3r_ros.errors import FrameError
from st3r_ros.io.layouts.folder import images_in, stamped
from st3r_ros.io.layouts.image_list import read_list, renumbered, split_line
from st3r_ros.io.layouts.recording import Layout, Recording, Request, Truth, calibration, image_entry, optional_truth
from st3r_ros.io.text import content_lines
from st3r_ros.io.trajectory import FrameStamps, load_tum
from st3r_ros.io.tum import RGB_LIST, TRUTH_FILE, DepthImages

_LISTS = (RGB_LIST, "color.txt", "associations.txt", "association.txt", "associate.txt", "rgb.csv")


def find_cameras(root: Path) -> dict[str, Path]:
    """The folder of the first image of the list."""
    file = _list_of(root)
    if file is None:
        listless = (root / TRUTH_FILE).exists() and (root / "rgb").is_dir()
        return {"": root / "rgb"} if listless else {}
    column = _colour_column(file)
    for _, line in content_lines(file):
        try:
            return {"": (root / split_line(line, column)[1]).parent}
        except FrameError:
            continue
    return {"": root}


def read(root: Path, camera_name: str, request: Request) -> Recording:
    """The images in the order of the list, also where its time goes backwards; stamps are exact to the nanosecond."""
    file = _list_of(root)
    if file is not None:
        images, stamps_from = read_list(file, root, _colour_column(file)), file.name
    else:
        files, stamps_from = stamped(images_in(root / "rgb"), None)
        images = [image_entry(stamp_ns, image, root=root) for stamp_ns, image in files]
    camera, calibration_from = calibration(request, root)
    if request.fps is not None:
        images, stamps_from = renumbered(images, request.fps)
        return Recording(images, stamps_from, camera, calibration_from)
    depth = DepthImages(root) if (root / "depth.txt").exists() else None
    truth = optional_truth(partial(_truth, root / TRUTH_FILE, [image.stamp_ns for image in images if image.stamp_ns is not None]))
    return Recording(images, stamps_from, camera, calibration_from, truth, depth=depth)


LAYOUT = Layout("TUM RGB-D", "tum", find_cameras, read)


def _list_of(root: Path) -> Path | None:
    return next((root / name for name in _LISTS if (root / name).is_file()), None)


def _colour_column(file: Path) -> int | None:
    """Column of the stamp of the colour image in associations, which may list the depth image first."""
    if not file.name.startswith("assoc"):
        return None
    words = next((line.replace(",", " ").split() for _, line in content_lines(file)), [])
    return 2 if len(words) >= 4 and "depth" in words[1].casefold() and "depth" not in words[3].casefold() else 0


def _truth(file: Path, images_ns: list[int]) -> Truth:
    """The true poses; those of KITTI's format, which have no stamps, belong to the images in their order."""
    if not file.exists():
        return Truth()
    found = load_tum(file, FrameStamps(dict(enumerate(images_ns)), complete=True))
    return Truth.of_file(found, file.name)
