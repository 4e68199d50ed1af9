# SPDX-License-Identifier: Apache-2.0
"""Sequences in the layout of the TUM RGB-D benchmark: rgb.txt, and where they exist groundtruth.txt, depth.txt, camera.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import find_camera, read_camera
from st3r_ros.io.image_file import check_whole, read_image
from st3r_ros.io.sequence import Entry, ImageSequence, Selection, StampedImage
from st3r_ros.io.stamps import parse_stamp
from st3r_ros.io.trajectory import content_lines, load_tum

RGB_LIST = "rgb.txt"
DEPTH_SCALE = 5000.0  # of the layout: the unit of its 16-bit PNGs is 0.2 mm


class DepthImages:
    """The depth images of a sequence that can be used, in order of time.

    stamps_ns: (N,) int64, increasing. camera: of the depth images where `depth_camera.yaml` says so, else None.
    skipped: a sentence for each line of depth.txt without a valid stamp.
    """

    def __init__(self, folder: Path) -> None:
        stamped: dict[int, Path] = {}
        skipped: list[str] = []
        for number, line in content_lines(folder / "depth.txt"):
            try:
                stamp_ns, file = _parse(folder, line)
                stamped.setdefault(stamp_ns, file)
            except FrameError as error:
                skipped.append(f"depth.txt line {number}: {error}")
        self.stamps_ns = np.array(sorted(stamped), dtype=np.int64)
        self.files = [stamped[int(stamp)] for stamp in self.stamps_ns]
        self.skipped = tuple(skipped)
        camera_file = folder / "depth_camera.yaml"
        self.camera = read_camera(camera_file) if camera_file.exists() else None

    def __len__(self) -> int:
        return len(self.files)

    def nearest(self, stamp_ns: int, tolerance_ns: int = 20_000_000) -> int | None:
        """The index of the depth image closest in time, None when it is further than the tolerance (20 ms)."""
        if not len(self):
            return None
        index = int(np.argmin(np.abs(self.stamps_ns - stamp_ns)))
        return index if abs(int(self.stamps_ns[index]) - stamp_ns) <= tolerance_ns else None

    def depth(self, index: int) -> np.ndarray:
        """Depth image `index`, (H, W) float32 metres along the optical axis, 0 = none.

        Raises:
            FrameError: the file is missing, damaged or no 16-bit image.
        """
        return read_depth(self.files[index])


class TumSequence(ImageSequence):
    """A folder with rgb.txt. Lines with a stamp that is no time, and images that are missing, are skipped when they come.

    Frames come in the order of rgb.txt, also where its time goes backwards; stamps are exact to the nanosecond.
    depth: its DepthImages, None without depth.txt. skipped_truth: a sentence for each line of groundtruth.txt left out.

    Raises:
        InputError: no such folder, or no rgb.txt with an entry in it.
        CalibrationError: camera.yaml or depth_camera.yaml cannot be used.
    """

    kind = "tum"

    def __init__(self, path: Path | str, camera: Camera | None = None, selection: Selection | None = None) -> None:
        self._path = path = Path(path)
        self._lines = content_lines(path / RGB_LIST)
        if not self._lines:
            raise InputError(f"'{path / RGB_LIST}' lists no images (lines of: stamp file).")
        super().__init__(
            path.resolve().name,
            camera=camera or find_camera(path),
            selection=selection or Selection(),
            total=len(self._lines),
        )
        self.depth = DepthImages(path) if (path / "depth.txt").exists() else None
        self.skipped_truth: tuple[str, ...] = ()
        if (path / "groundtruth.txt").exists():
            truth = load_tum(path / "groundtruth.txt")
            self.truth = truth.trajectory if len(truth.trajectory) else None
            self.skipped_truth = truth.skipped

    def _entries(self) -> Iterator[Entry]:
        for number, line in self._lines:
            yield Entry(f"{RGB_LIST} line {number}", partial(_load, self._path, line))


def read_depth(path: Path | str) -> np.ndarray:
    """A 16-bit depth PNG of the layout as (H, W) float32 metres, 0 = none.

    Raises:
        FrameError: the file is missing, damaged or no 16-bit image of one channel.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        check_whole(data)
    except OSError as error:
        raise FrameError(f"'{path}' cannot be read: {error.strerror}.") from error
    except FrameError as error:
        raise FrameError(f"'{path}' is damaged: {error}") from error
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        raise FrameError(f"'{path}' is no depth image (16-bit PNG of one channel).")
    return raw.astype(np.float32) / np.float32(DEPTH_SCALE)


def _load(folder: Path, line: str) -> StampedImage:
    stamp_ns, file = _parse(folder, line)
    return StampedImage(stamp_ns, read_image(file))


def _parse(folder: Path, line: str) -> tuple[int, Path]:
    stamp, *name = line.split(maxsplit=1)
    if not name:
        raise FrameError(f"The line {line!r} is not made of a stamp and a file.")
    return parse_stamp(stamp), folder / name[0]
