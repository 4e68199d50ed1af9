# SPDX-License-Identifier: Apache-2.0
"""A simulated world as a sequence of images with exact poses and depth, and what can befall its camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import ConfigError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.renderer import Renderer
from st3r_ros.sim.worlds import build
from st3r_ros.types import Frame, Trajectory

# What befalls the camera: a covered lens, a white wall, a jump to a place visited before ------------------------------

BLACK, WHITE = -1, -2
WHITE_LEVEL = 235  # grey level of a white wall

_WHITE_FRAMES = 30


@dataclass(frozen=True)
class Disturbance:
    """`count` disturbed frames from frame `first` on; later frames are undisturbed.

    shows: BLACK, WHITE, or the number of the frame that the first of them shows instead; the next ones continue from there.
    """

    first: int
    count: int
    shows: int


def disturbed(frames: int, disturbances: Sequence[Disturbance]) -> np.ndarray:
    """The content of each frame: (frames,) int64, the number of a frame of the undisturbed sequence, BLACK or WHITE.

    Raises:
        ConfigError: a disturbance is not within the sequence.
    """
    shown = np.arange(frames)
    for each in disturbances:
        last = each.first + each.count
        if min(each.first, each.count) < 0 or last > frames or each.shows < WHITE or each.shows + each.count > frames:
            raise ConfigError(f"{each} does not fit into a sequence of {frames} frames; move or shorten it.")
        shown[each.first : last] = each.shows if each.shows < 0 else np.arange(each.shows, each.shows + each.count)
    return shown


def kidnapping(kind: str, frames: int, fps: float) -> list[Disturbance]:
    """The disturbances of the setting `kidnap`: a black second or 30 frames of a white wall half-way, or a jump back.

    The camera keeps moving while it is covered. A jump comes after three fifths of the frames and leads back to the first fifth;
    from there the camera repeats its path.
    """
    half, three_fifths = frames // 2, 3 * frames // 5
    spans = {
        "black": [Disturbance(half, min(max(1, round(fps)), frames - half), BLACK)],
        "white": [Disturbance(half, min(_WHITE_FRAMES, frames - half), WHITE)],
        "jump": [Disturbance(three_fifths, frames - three_fifths, frames // 5)],
    }
    return spans.get(kind, [])


# The sequence ---------------------------------------------------------------------------------------------------------

_NOISE_MARGIN = 64  # pixels by which the noise image is larger than the images


class SimulatedDepth:
    """The true depth of every frame, rendered on demand. stamps_ns: (N,) int64 of the frames. camera: of the frames."""

    def __init__(self, sequence: SimulatedSequence) -> None:
        self._sequence = sequence
        self.stamps_ns = sequence.stamps_ns
        self.camera = sequence.camera

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def depth(self, index: int) -> np.ndarray:
        """Depth of frame `index`, (H, W) float32 metres along the optical axis at the pixel centres, 0 = unknown."""
        if self._sequence.shown[index] < 0:
            return np.zeros((self.camera.height, self.camera.width), dtype=np.float32)
        return self._sequence.renderer.depth(self.camera, self._sequence.T_world_cam[index])


class SimulatedSequence:
    """Images of a simulated world along a smooth path; the same interface as the readers of `io`. Frames are never skipped.

    selected: the selected frames, all when None; they are renumbered from 0. disturbances: in addition to the setting `kidnap`.
    stamps_ns: (N,) int64 of the selected frames. T_world_cam: (N,) their exact poses, including those of black or white frames.
    world: what is seen, and the path through it.
    truth: the poses of the frames that show the world, as a Trajectory. camera: ideal, known exactly.
    shown: (N,) int64, the number of the frame of the undisturbed sequence that each shows, else disturbances.BLACK or WHITE.
    twins: the two rooms that look alike, if the world has them; `twin_rooms` says which frames show them.

    Raises:
        ConfigError: a length for a world of fixed length, or a disturbance that is not within the sequence.
    """

    kind = "sim"
    origin = ""
    notes: tuple[()] = ()
    truth_notes: tuple[()] = ()
    skipped: tuple[()] = ()

    def __init__(
        self,
        config: SimulationConfig | None = None,
        selected: range | None = None,
        disturbances: Sequence[Disturbance] = (),
    ) -> None:
        self._stopped = False
        self.config = config = config or SimulationConfig()
        self.name = _name(config)
        self.world = build(config)
        self._selected = range(config.frames)[:] if selected is None else selected
        taken = np.array(self._selected, dtype=np.int64)
        befalls = [*kidnapping(config.kidnap, config.frames, config.fps), *disturbances]
        self.shown = disturbed(config.frames, befalls)[taken]
        poses = self.world.path.poses(config.frames, config.fps)
        self.T_world_cam: SE3 = poses[np.where(self.shown < 0, taken, self.shown)]
        self.stamps_ns = np.round(taken * (1e9 / config.fps)).astype(np.int64)
        seen = self.shown >= 0
        positions, quaternions = self.T_world_cam.translation[seen], self.T_world_cam.quaternion_xyzw[seen]
        self.truth = Trajectory(self.stamps_ns[seen], positions, quaternions)
        self.camera = Camera.from_fov(config.width, config.height, config.fov_deg)
        self.size = (config.width, config.height)
        self.depth = SimulatedDepth(self)
        self.twins = self.world.twins

    def stop(self) -> None:
        """End this iteration and later ones."""
        self._stopped = True

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self._selected)

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of the world. Its first image takes longer, its first depth does not."""
        return Renderer(self.world.zones, self.config.seed, self.world.grain)

    @cached_property
    def twin_rooms(self) -> np.ndarray:
        """The twin room that each frame shows exclusively: (N,) uint8, 1 for a, 2 for b; 0 = other."""
        rooms = np.zeros(self.length, dtype=np.uint8)
        if self.twins is not None:
            for index in np.flatnonzero(self.shown >= 0).tolist():
                sight = self.renderer.zones_in_sight(self.camera, self.T_world_cam[index])
                rooms[index] = 1 if sight <= self.twins.a.keys() else 2 if sight <= self.twins.b.keys() else 0
        return rooms

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.length):
            if self._stopped:
                return
            yield self.frame(index)

    def frame(self, index: int) -> Frame:
        """Frame `index` of the selected ones."""
        if self.shown[index] < 0:
            level = WHITE_LEVEL if self.shown[index] == WHITE else 0
            image = np.full((self.camera.height, self.camera.width, 3), level, dtype=np.uint8)
        else:
            image = self.renderer.image(self.camera, self.T_world_cam[index])
        return Frame(index, int(self.stamps_ns[index]), self._exposed(image, self._selected[index]), self.camera)

    def _exposed(self, image: np.ndarray, number: int) -> np.ndarray:
        """Adds sensor noise and the current exposure to an image (H, W, 3)."""
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
        """A noise image, int16; each frame uses another part of it."""
        size = (self.config.height + _NOISE_MARGIN, self.config.width + _NOISE_MARGIN, 3)
        return np.rint(np.random.default_rng(self.config.seed).normal(0.0, self.config.noise, size)).astype(np.int16)


def _name(config: SimulationConfig) -> str:
    """The name that opens this world again, without the settings of the images."""
    length = f"&length={config.length:g}" if config.length != SimulationConfig.length else ""
    kidnap = f"&kidnap={config.kidnap}" if config.kidnap != SimulationConfig.kidnap else ""
    start = f"&start={config.start}" if config.start != SimulationConfig.start else ""
    return f"sim:{config.world}?seed={config.seed}{length}{start}{kidnap}"
