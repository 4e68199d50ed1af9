# SPDX-License-Identifier: Apache-2.0
"""The pair model `noisy_depth`: pointmaps and matches from true depth and poses, degraded as those of a network are.

It isolates the mapping from the network: what the mapper makes of known errors is its own doing. For benchmarks and tests only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from noisy_depth.correspondence import MIN_OVERLAP, Correspondence, Twins, correspond
from noisy_depth.descriptor import place_descriptor
from noisy_depth.noise import (
    NONSENSE_MATCHES,
    SCALE_SIGMA,
    NoisyDepth,
    PixelPairs,
    degrade_depth,
    degrade_matches,
    generator,
    nonsense_depth,
    random_matches,
)
from noisy_depth.views import GRID_PX, TrueView
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.types import Features, Frame, Matches, ModelTraits, PairPrediction

ASSUMED_FOV_DEG = 60.0
NONSENSE_MOTION = np.array([0.3, 0.3, 0.3, 0.2, 0.2, 0.2])
"""Metres and radians: standard deviations of the motion that is made up for views without overlap."""


@dataclass(eq=False)
class NoisyDepthFeatures(Features):
    """What the model keeps of a frame: its stamp, by which its errors are drawn, and its true view."""

    stamp_ns: int
    view: TrueView


class NoisyDepthModel:
    """Follows the `PairModel` protocol. The same seed and ordered pair of stamps give the same prediction, whatever came before.

    views: the true view of a frame; raises FrameError for one without. calibrated: False assumes a camera with 60 degrees of
    view instead of telling the true one. twins: rooms that it cannot tell from each other.
    """

    name = "noisy_depth"
    traits = ModelTraits(metric=True, monocular_depth=True, relative_depth_sigma=0.1)

    def __init__(
        self, views: Callable[[Frame], TrueView], *, seed: int = 0, calibrated: bool = True, twins: Twins | None = None
    ) -> None:
        self._views, self._seed, self._twins = views, seed, twins
        self.calibrated = calibrated

    def encode(self, frame: Frame) -> NoisyDepthFeatures:
        """The true view of the frame. Raises FrameError when it has none."""
        view = self._views(frame)
        h, w = view.depth.shape
        image = frame.image if frame.image.shape[:2] == (h, w) else cv2.resize(frame.image, (w, h), interpolation=cv2.INTER_AREA)
        K = view.K if self.calibrated else Camera.from_fov(w, h, ASSUMED_FOV_DEG).K
        return NoisyDepthFeatures(image, np.array(K), self.calibrated, frame.stamp_ns, view)

    def predict(
        self,
        features0: NoisyDepthFeatures,
        features1: NoisyDepthFeatures,
        *,
        T_0_1: SE3 | None = None,
        seed: Matches | None = None,
        dense: bool = True,
        verified: bool = True,
    ) -> PairPrediction:
        """Pointmaps in the pair's own scale, and matches; confident nonsense below 5 % overlap. All else is not used."""
        found = correspond(features0.view, features1.view, self._twins)
        overlaps = found.overlap >= MIN_OVERLAP
        matches = self._matches(found, features0, features1) if overlaps else self._random_matches(features0, features1)
        if not dense:
            return PairPrediction(matches, math.nan)
        rng = self._generator(features0, features1, "nonsense" if not overlaps else "pointmaps")
        scale, T_seen = np.exp(rng.normal(0.0, SCALE_SIGMA)), found.T_0_1
        if overlaps:
            views = [degrade_depth(rng, f.view.depth, f.view.median_depth) for f in (features0, features1)]
        else:
            T_seen = SE3.exp(rng.normal(0.0, NONSENSE_MOTION))
            views = [nonsense_depth(rng, f.view.depth.shape) for f in (features0, features1)]
        X_0_0 = _pointmap(features0.view, views[0], SE3.identity(), scale)
        X_0_1 = _pointmap(features1.view, views[1], T_seen, scale)
        return PairPrediction(matches, math.nan, X_0_0, X_0_1, *(torch.from_numpy(view.conf) for view in views))

    def adopt(self, features: NoisyDepthFeatures, pixels: torch.Tensor) -> None:
        """Every pixel of the grid is matched anyway."""

    def describe(self, features: NoisyDepthFeatures) -> torch.Tensor:
        """Global descriptor (256,) float32 of unit length; twins have the same but for the noise."""
        rng = generator(self._seed, features.stamp_ns, purpose="descriptor")
        return torch.from_numpy(place_descriptor(features.view, rng, self._twins))

    def _matches(self, found: Correspondence, features0: NoisyDepthFeatures, features1: NoisyDepthFeatures) -> Matches:
        shapes = features0.view.depth.shape, features1.view.depth.shape
        rng = self._generator(features0, features1, "matches")
        pairs = degrade_matches(rng, found.pixels0, found.pixels1, *shapes)
        return _as_matches(pairs, len(features1.view.grid_pixels))

    def _random_matches(self, features0: NoisyDepthFeatures, features1: NoisyDepthFeatures) -> Matches:
        shapes = features0.view.depth.shape, features1.view.depth.shape
        rng = self._generator(features0, features1, "matches")
        possible = (shapes[1][0] // GRID_PX) * (shapes[1][1] // GRID_PX)
        return _as_matches(random_matches(rng, round(rng.uniform(*NONSENSE_MATCHES) * possible), *shapes), possible)

    def _generator(self, features0: NoisyDepthFeatures, features1: NoisyDepthFeatures, purpose: str) -> np.random.Generator:
        return generator(self._seed, features0.stamp_ns, features1.stamp_ns, purpose=purpose)


def _as_matches(pairs: PixelPairs, possible: int) -> Matches:
    """All of the same weight: a matcher does not know which ones are wrong."""
    return Matches(
        torch.from_numpy(pairs.pixels0), torch.from_numpy(pairs.pixels1), torch.ones(len(pairs.pixels0)), max(possible, 1)
    )


def _pointmap(view: TrueView, seen: NoisyDepth, T_0_cam: SE3, scale: float) -> torch.Tensor:
    """(h, w, 3) float32 in camera 0 and the pair's scale; what the view claims no depth for is at its camera."""
    h, w = seen.depth.shape
    forms, t = scale * T_0_cam.rotation @ np.linalg.inv(view.K), scale * T_0_cam.translation
    X = np.empty((h, w, 3), np.float32)
    for axis, form in enumerate(forms):  # of a ray, each coordinate is linear in the pixel
        ray = (form[0] * np.arange(w)).astype(np.float32) + (form[1] * np.arange(h) + form[2]).astype(np.float32)[:, None]
        ray *= seen.depth
        np.add(ray, np.float32(t[axis]), out=X[..., axis])
    return torch.from_numpy(X)
