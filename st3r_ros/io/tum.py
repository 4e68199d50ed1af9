# SPDX-License-Identifier: Apache-2.0
"""Depth images in the layout of the TUM RGB-D benchmark: depth.txt and depth_camera.yaml."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from st3r_ros.errors import FrameError
from st3r_ros.io.calibration import read_camera
from st3r_ros.io.decoder_lines import DecoderLines
from st3r_ros.io.layouts.image_list import split_line
from st3r_ros.io.text import content_lines
from st3r_ros.io.whole_image import check_whole

RGB_LIST, TRUTH_FILE = "rgb.txt", "groundtruth.txt"
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
                stamp_ns, name = split_line(line)
                stamped.setdefault(stamp_ns, folder / name)
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
    with DecoderLines():
        raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        raise FrameError(f"'{path}' is no depth image (16-bit PNG of one channel).")
    return raw.astype(np.float32) / np.float32(DEPTH_SCALE)
