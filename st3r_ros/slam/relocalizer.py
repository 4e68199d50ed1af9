# SPDX-License-Identifier: Apache-2.0
"""Where an image was taken, relative to a reference image or in a saved map, with no guess to start from."""

from __future__ import annotations

import numpy as np

from st3r_ros.config import RelocalizerConfig
from st3r_ros.geometry.se3 import SE3
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.types import Frame, LocalizationResult, PairModel


class Relocalizer:
    """Answers with a pose and its covariance, or with an honest no. Not thread-safe: one thread calls it."""

    def __init__(self, model: PairModel, config: RelocalizerConfig | None = None) -> None:
        self._model = model
        self.config = config or RelocalizerConfig()

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the references, in the order in which they were set."""
        raise NotImplementedError

    def set_reference(self, name: str, frame: Frame, *, T_ref_cam: SE3 | None = None, depth: np.ndarray | None = None) -> None:
        """Adds a reference, or replaces the one of this name.

        frame: its image, with its camera where that is known. T_ref_cam: pose of its camera in the frame that answers are in,
        which all references share; by default the reference camera itself is that frame. depth: (H, W) metres of each pixel of
        the frame's image, 0 or NaN where it is not known; with it the answers are metric.

        Raises:
            FrameError: the image or the depth cannot be used.
        """
        raise NotImplementedError

    def remove_reference(self, name: str) -> None:
        """Forgets a reference; it is no matter if there is none of this name."""
        raise NotImplementedError

    def use_map(self, keyframe_map: KeyframeMap | None) -> None:
        """Answers are in this map from now on (None: none); references stay as they are, but a map goes before them."""
        raise NotImplementedError

    def localize(self, frame: Frame, guess: SE3 | None = None) -> LocalizationResult:
        """Finds one query. guess: about where the camera is, in the frame of the answers: candidates near it are tried too.

        Raises:
            FrameError: the image cannot be used.
        """
        raise NotImplementedError
