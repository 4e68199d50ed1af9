# SPDX-License-Identifier: Apache-2.0
"""What several parts of the tests use: a simulated room, rendered with exact depth, poses and intrinsics; the command `st3r`."""

import os
from dataclasses import dataclass

# Before a library reads it: the workers of pytest-xdist, and the programs that they start, share the cores.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"} if "PYTEST_XDIST_WORKER" in os.environ else {})

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from rendered import share_worlds

from st3r_ros.cli import main
from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.types import Frame

NOISE = 1.0  # grey levels
WORKERS = 2, 6  # at least: the tests of ROS wait much; at most: each imports everything anew


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: a process a core, within limits."""
    least, most = WORKERS
    return min(max(len(os.sched_getaffinity(0)), least), most)


# The same examples in every run, however slow the machine is.
settings.register_profile("steady", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
share_worlds()


@dataclass(frozen=True, eq=False)
class Room:
    """Small images of a room from anywhere. home: T_world_cam of a place from where much is seen."""

    sequence: SimulatedSequence
    home: SE3

    @property
    def camera(self) -> Camera:
        return self.sequence.camera

    def frame(self, T_home_cam: SE3, index: int = 0) -> Frame:
        """The view from a place relative to home, with the noise of a sensor; `index` counts and stamps it."""
        image = self.sequence.renderer.image(self.camera, self.home @ T_home_cam).astype(np.float64)
        noisy = image + np.random.default_rng(index).normal(0.0, NOISE, image.shape)
        return Frame(index, index * 100_000_000, np.clip(np.rint(noisy), 0, 255).astype(np.uint8), self.camera)

    def depth(self, T_home_cam: SE3) -> np.ndarray:
        """The exact depth (H, W) float32 metres of that view."""
        return self.sequence.renderer.depth(self.camera, self.home @ T_home_cam)


@pytest.fixture(scope="session")
def room() -> Room:
    sequence = SimulatedSequence(SimulationConfig(seed=3, frames=90, width=320, height=240))
    return Room(sequence, sequence.T_world_cam[0])


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def st3r(capfd):
    """Runs `st3r ARGUMENTS` in this process."""

    def run(*arguments) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run
