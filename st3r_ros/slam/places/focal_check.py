# SPDX-License-Identifier: Apache-2.0
"""Whether the calibration of a camera fits its images: several of them, compared with others, determine its focal length."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import rays
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.two_view import TwoViewGeometry, estimate_two_view
from st3r_ros.geometry.two_view_focal import FocalFit, fit_focal
from st3r_ros.types import Features, Matches, PairModel

CENTRE_SIGMA = 0.015
"""Standard deviation of an assumed principal point, as a share of the longer side."""
EPIPOLAR_PX = 1.0
MIN_PARALLAX_DEG = 0.5
"""Two images with less say neither the direction of the translation nor the focal length."""
KEPT = 30
USABLE_SIGMA = 0.1
"""Fits that are less certain do not count."""
MIN_DEVIATION, IMAGE_SIGMA, SURE = 0.1, 0.08, 4.0
"""A calibration is doubted when the median logarithm of the fitted factors deviates by more than MIN_DEVIATION and SURE times
its standard deviation. That of one image is at least IMAGE_SIGMA, as fits vary with right calibrations of real cameras, and
TIMES_FIT times what its matches tell."""
TIMES_FIT = 2.6
LONE_GAIN = 0.1
"""A single image must fit by so much better: its matches may lie so that a wrong focal length does not cost anything."""
FIT_SIGMA, OWN_SURE = 0.02, 3.0
"""Standard deviation of a fit that its matches do not tell, and how sure an image alone must be for a wider covariance."""
CHECKED, CHECKED_EVERY = 20, 10
"""After this many images without a doubt only every 10th is checked."""
TRIALS, REMATCH_GAIN, REMATCHED = (0.7, 1.4), 1.05, 5
"""Factors on the focal length with which images are matched again, how many times more matches are better, and how many images
that fit are matched again."""
AGREEING = 0.8
"""Share of such matches that must agree with a pose by the given focal length for it to be compared."""
_SAME = 2e-3
_SCALED = np.array([[True, True, False], [False, True, False], [False, False, False]])


@dataclass(frozen=True)
class FocalDoubt:
    """The images fit `factor` times the given focal length better. images: how many say so. alone: see `FocalFit`."""

    factor: float
    images: int
    alone: bool

    def sentence(self, camera: Camera | None) -> str:
        """What it means for this camera, and the way out."""
        by = f"{self.images} images fit" if self.images > 1 else "one image fits"
        pixels = "" if camera is None else f", {self.factor * camera.K[0, 0]:.0f} instead of {camera.K[0, 0]:.0f} px,"
        return (
            f"The calibration seems wrong: {by} {self.factor:.2f} times its focal length{pixels} far better. Calibrate the "
            "camera with images of this size, or leave the calibration out: the focal length is then estimated."
        )


class FocalCheck:
    """Collects the fits of one camera's images. doubt: None as long as the calibration fits."""

    def __init__(self) -> None:
        self.doubt: FocalDoubt | None = None
        self._last: Features | None = None
        self._fits: deque[FocalFit] = deque(maxlen=KEPT)
        self._seen = 0
        self._fitted = False

    def is_due(self, query: Features) -> bool:
        """Whether an image is to be checked; those of another camera begin anew."""
        if query is not self._last:
            if self._last is not None and not is_same_camera(self._last, query):
                self.doubt = None
                self._fits.clear()
            self._last, self._fitted = query, False
            self._seen += 1
        return self.doubt is not None or len(self._fits) < CHECKED or self._seen % CHECKED_EVERY == 0

    def is_early(self) -> bool:
        """Whether the image is one of the first, which are checked with more effort."""
        return len(self._fits) < REMATCHED

    def add(self, fit: FocalFit) -> None:
        """A fit of the last image; of several the best determined one counts."""
        if fit.log_sigma > USABLE_SIGMA or (self._fitted and fit.log_sigma >= self._fits[-1].log_sigma):
            return
        if self._fitted:
            self._fits.pop()
        self._fits.append(fit)
        self._fitted = True
        logs = np.log([f.factor for f in self._fits])
        weights = 1.0 / (np.array([f.log_sigma for f in self._fits]) ** 2 + FIT_SIGMA**2)
        median = _weighted_median(logs, weights)
        told = TIMES_FIT * float(np.median([f.log_sigma for f in self._fits]))
        each = max(IMAGE_SIGMA, told, 1.85 * _weighted_median(np.abs(logs - median), weights))
        sigma = each * math.sqrt(float((weights**2).sum())) / float(weights.sum())
        doubted = abs(median) > max(MIN_DEVIATION, SURE * sigma) and (len(logs) > 1 or fit.gain > LONE_GAIN)
        alone = 2 * sum(f.alone for f in self._fits) > len(logs)
        self.doubt = FocalDoubt(math.exp(median), len(logs), alone) if doubted else None


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, 0.5 * below[-1])])


def contradicts(fit: FocalFit) -> bool:
    """Whether a fit alone says that the given focal length is another one."""
    deviation = abs(math.log(fit.factor))
    return deviation > max(MIN_DEVIATION, OWN_SURE * math.hypot(fit.log_sigma, FIT_SIGMA))


def is_same_camera(a: Features, b: Features) -> bool:
    """Whether the intrinsics of two images, perhaps of two sizes, are those of one camera."""
    from_corner = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5]])
    shares = [(f.K[:2] + from_corner) / np.array([[f.image.shape[1]], [f.image.shape[0]]]) for f in (a, b)]
    return bool(np.allclose(*shares, atol=_SAME))


@dataclass(frozen=True, eq=False)
class PairView:
    """A query (1) and another image (0) with their matches, of which the query's pixels are the first."""

    query: Features
    other: Features
    matches: Matches

    @property
    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the other image and of the query, (N, 3)."""
        m = self.matches
        return rays(m.pixels1.numpy(), self.other.K), rays(m.pixels0.numpy(), self.query.K)

    @property
    def threshold(self) -> float:
        """Largest distance to the epipolar line, in units of the focal length."""
        return EPIPOLAR_PX / float(self.query.K[0, 0])


def matched(model: PairModel, query: Features, other: Features) -> PairView:
    """The matches of a query with another image."""
    return PairView(query, other, model.predict(query, other, dense=False).matches)


def refocused(features: Features, factor: float) -> Features:
    """The same image with `factor` times the focal length."""
    return replace(features, K=np.where(_SCALED, factor * features.K, features.K))


def fit_pair(view: PairView, T_0_1: SE3, free: tuple[bool, bool]) -> FocalFit:
    """The pose of the query (1) relative to the other image (0), with their focal length, from an approximate pose."""
    centre = CENTRE_SIGMA * max(view.query.image.shape[:2]) / float(view.query.K[0, 0])
    return fit_focal(T_0_1, *view.rays, view.threshold, free, centre)


def checked(model: PairModel, view: PairView, T_0_1: SE3 | None, min_matches: int, *, rematch: bool) -> FocalFit | None:
    """How far the calibration of a query is from what its matches with an image of known calibration say; None when they cannot.

    T_0_1: its pose relative to that image, if it is known. rematch: whether to match with other focal lengths too, because the
    matches of a model that checks them by the calibration may be those few that fit a wrong one.
    """
    free = is_same_camera(view.other, view.query), True
    trial, tried = 1.0, view
    if rematch and not model.traits.monocular_depth:
        for factor in TRIALS:
            other = refocused(view.other, factor) if free[0] else view.other
            again = matched(model, refocused(view.query, factor), other)
            if len(again.matches) > REMATCH_GAIN * len(tried.matches):
                trial, tried = factor, again
    if len(tried.matches) < min_matches:
        return None
    if trial != 1.0:
        # More matches may also be chance: they are judged by the given calibration, unless they do not fit it at all.
        given = PairView(view.query, view.other, tried.matches)
        geometry = estimate_two_view(*given.rays, given.threshold, min_matches)
        if geometry is not None and geometry.inliers.sum() > AGREEING * len(tried.matches):
            return _fitted(given, geometry, free)
    elif T_0_1 is not None:
        return fit_pair(view, T_0_1, free)
    fit = _fitted(tried, estimate_two_view(*tried.rays, tried.threshold, min_matches), free)
    return None if fit is None else replace(fit, factor=trial * fit.factor, gain=fit.gain if trial == 1.0 else 1.0)


def _fitted(view: PairView, geometry: TwoViewGeometry | None, free: tuple[bool, bool]) -> FocalFit | None:
    if geometry is None or geometry.parallax_deg < MIN_PARALLAX_DEG:
        return None
    return fit_pair(view, geometry.T_0_1, free)
