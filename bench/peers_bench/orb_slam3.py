# SPDX-License-Identifier: Apache-2.0
"""ORB-SLAM3 (Campos et al. 2021), monocular, through the wheel `pyorbslam3` in the environment of another Python."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peers_bench.recording import LIST, NO_POSES, Placed, Recording
from st3r_ros.errors import CalibrationError, InputError, MissingDependencyError
from st3r_ros.geometry.camera import Camera
from st3r_ros.types import Trajectory

DRIVER = Path(__file__).with_name("orb_slam3_driver.py")
NEEDS = "import cv2, numpy, pyorbslam3"
PATIENCE = 120.0  # seconds to load the vocabulary and to end
RADIAL_TANGENTIAL = 5
SETTINGS = """%YAML:1.0
File.version: "1.0"
Camera.type: "{model}"
{camera}
Camera.width: {width}
Camera.height: {height}
Camera.fps: {fps}
Camera.RGB: 1
ORBextractor.nFeatures: 2000
ORBextractor.scaleFactor: 1.2
ORBextractor.nLevels: 8
ORBextractor.iniThFAST: 20
ORBextractor.minThFAST: 7
Viewer.KeyFrameSize: 0.05
Viewer.KeyFrameLineWidth: 1.0
Viewer.GraphLineWidth: 0.9
Viewer.PointSize: 2.0
Viewer.CameraSize: 0.08
Viewer.CameraLineWidth: 3.0
Viewer.ViewpointX: 0.0
Viewer.ViewpointY: -0.7
Viewer.ViewpointZ: -1.8
Viewer.ViewpointF: 500.0
"""


@dataclass(frozen=True)
class OrbSlam3:
    """python: the executable of an environment that has pyorbslam3 and opencv. vocabulary: ORBvoc.txt, or another of its format.

    Raises:
        MissingDependencyError: it is not installed there.
        InputError: there is no vocabulary.
    """

    python: str
    vocabulary: str

    def __post_init__(self) -> None:
        try:
            found = subprocess.run([self.python, "-c", NEEDS], check=False, capture_output=True, text=True)
            said = found.stderr.strip().rpartition("\n")[2]
        except OSError as error:
            said = str(error)
        if said:
            raise MissingDependencyError(f"ORB-SLAM3 is not installed in '{self.python}' ({said}).")
        if not Path(self.vocabulary).is_file():
            raise InputError(f"There is no vocabulary of ORB-SLAM3 '{self.vocabulary}'.")

    def __call__(self, recording: Recording) -> Placed:
        """The poses of its largest map, live at the rate of the stamps. It starts at random, so that runs differ."""
        with tempfile.TemporaryDirectory() as made:
            settings, times, poses = (Path(made) / name for name in ("settings.yaml", "ms.txt", "euroc.txt"))
            settings.write_text(settings_of(recording.camera, 1.0 / recording.interval))
            files = (recording.folder / LIST, self.vocabulary, settings, times, poses)
            words = [self.python, DRIVER, *files, str(recording.interval)]
            limit = PATIENCE + len(recording.files) * (1.0 + recording.interval)
            try:
                ended = subprocess.run(words, check=False, capture_output=True, timeout=limit).returncode
            except subprocess.TimeoutExpired:
                ended = -1
            if not times.exists():
                raise InputError(f"ORB-SLAM3 ended with status {ended} before the last image.")
            ms = float(np.median(np.loadtxt(times, ndmin=1)))
            if not poses.exists() or not poses.stat().st_size:
                return Placed(NO_POSES, ms, "no map")
            rows = np.loadtxt(poses, ndmin=2)
            return Placed(Trajectory(np.rint(rows[:, 0]).astype(np.int64), rows[:, 1:4], rows[:, 4:8]), ms)


def settings_of(camera: Camera, fps: float) -> str:
    """The text of a file of settings. fps: 1/s.

    Raises:
        CalibrationError: ORB-SLAM3 has no model for this lens.
    """
    fisheye = camera.distortion_model == "equidistant"
    if not fisheye and np.any(camera.distortion[RADIAL_TANGENTIAL:]):
        raise CalibrationError(f"ORB-SLAM3 has no model for the {len(camera.distortion)} coefficients of this lens.")
    (fx, _, cx), (_, fy, cy) = camera.K[:2].tolist()
    names = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3")
    coefficients = dict(zip(names, (*camera.distortion.tolist(), 0.0, 0.0, 0.0, 0.0, 0.0), strict=False))
    numbers = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, **coefficients}
    return SETTINGS.format(
        model="KannalaBrandt8" if fisheye else "PinHole",
        camera="\n".join(f"Camera1.{name}: {value:.8f}" for name, value in numbers.items()),
        width=camera.width,
        height=camera.height,
        fps=max(1, round(fps)),
    )
