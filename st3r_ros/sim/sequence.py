# SPDX-License-Identifier: Apache-2.0
"""A simulated world as a sequence of images with exact poses and depth."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import cv2
import numpy as np

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.se3 import SE3
from st3r_ros.sim.renderer import Renderer
from st3r_ros.sim.worlds import WORLDS
from st3r_ros.types import Frame, Trajectory

_NOISE_MARGIN = 64  # pixels by which the sheet of noise is larger than the images


class SimulatedDepth:
    """The true depth of every frame, rendered when asked for. stamps_ns: (N,) int64, those of the frames; camera: theirs."""

    def __init__(self, sequence: SimulatedSequence) -> None:
        self._sequence = sequence
        self.stamps_ns = sequence.truth.stamps_ns
        self.camera = sequence.camera

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def depth(self, index: int) -> np.ndarray:
        """Depth of frame `index`, (H, W) float32 metres along the optical axis at the pixel centres, 0 = none."""
        return self._sequence.renderer.depth(self.camera, self._sequence.T_world_cam[index])


class SimulatedSequence:
    """Images of a simulated world along a smooth path; the same interface as the readers of `io`. Nothing is ever skipped.

    selected: the frames that are taken, all when None; they are numbered anew, from 0.
    T_world_cam: (N,) exact poses of the taken frames. truth: the same as a Trajectory. camera: ideal, known exactly.
    """

    kind = "sim"
    skipped: tuple[()] = ()

    def __init__(self, config: SimulationConfig | None = None, selected: range | None = None) -> None:
        self.config = config = config or SimulationConfig()
        self.name = f"sim:{config.world}?seed={config.seed}"
        self._world = WORLDS[config.world](config.seed)
        self._selected = range(config.frames)[:] if selected is None else selected
        taken = np.array(self._selected, dtype=np.int64)
        self.T_world_cam: SE3 = self._world.path.poses(config.frames, config.fps)[taken]
        stamps_ns = np.round(taken * (1e9 / config.fps)).astype(np.int64)
        self.truth = Trajectory(stamps_ns, self.T_world_cam.translation, self.T_world_cam.quaternion_xyzw)
        self.camera = Camera.from_fov(config.width, config.height, config.fov_deg)
        self.depth = SimulatedDepth(self)

    @property
    def length(self) -> int:
        """How many frames it yields."""
        return len(self._selected)

    @cached_property
    def renderer(self) -> Renderer:
        """Of the world; made when the first image or depth is asked for, which takes a second or two."""
        return Renderer(self._world.scene, self.config.seed)

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.length):
            yield self.frame(index)

    def frame(self, index: int) -> Frame:
        """Frame `index` of the taken ones."""
        image = self.renderer.image(self.camera, self.T_world_cam[index])
        stamp_ns = int(self.truth.stamps_ns[index])
        return Frame(index, stamp_ns, self._exposed(image, self._selected[index]), self.camera)

    def _exposed(self, image: np.ndarray, number: int) -> np.ndarray:
        """The image (H, W, 3) as a real sensor would give it: with noise and the exposure of that moment."""
        config = self.config
        if config.exposure:
            gain = 1.0 + config.exposure * np.sin(2 * np.pi * number / (6.0 * config.fps) + config.seed)
            image = cv2.convertScaleAbs(image, alpha=float(gain))
        if config.noise:
            y, x = np.random.default_rng([config.seed, number]).integers(0, _NOISE_MARGIN, 2)
            noise = self._noise[y : y + image.shape[0], x : x + image.shape[1]]
            image = cv2.add(image, noise, dtype=cv2.CV_8U)
        return image

    @cached_property
    def _noise(self) -> np.ndarray:
        """A sheet of noise, int16; each image gets another part of it."""
        size = (self.config.height + _NOISE_MARGIN, self.config.width + _NOISE_MARGIN, 3)
        return np.rint(np.random.default_rng(self.config.seed).normal(0.0, self.config.noise, size)).astype(np.int16)
