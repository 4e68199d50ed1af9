# SPDX-License-Identifier: Apache-2.0
"""The errors that the pair model `noisy_depth` adds to ground truth. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SCALE_SIGMA = 0.08
"""Of the logarithm of a pair's scale."""
FIELD_SIGMA = 0.03
"""Of the nodes of a view's smooth field of log-depth errors."""
FIELD_NODES = 4
"""Of the field, along each side; bilinear in between."""
PIXEL_SIGMA = 0.01
"""Of each pixel's log-depth."""
FAINT_SHARE = 0.02
"""Of the pixels, replaced by random depths of low confidence."""
BOLD_SHARE = 0.005
"""Of the pixels, replaced by random depths of high confidence."""
WILD_RATIO = 4.0
"""A random depth lies between the median of its view divided and multiplied by this, evenly in its logarithm."""
MATCH_SIGMA_PX = 0.7
"""Of each coordinate of a match in image 0."""
MATCH_OUTLIERS = 0.1
"""Random matches per true one."""
CONF, FAINT_CONF, BOLD_CONF = 10.0, 0.5, 30.0
"""Confidences: with the model's `relative_depth_sigma` of 0.1 they claim depth errors of 3.2 %, 14 % and 1.8 %."""

NONSENSE_SIGMA = 0.4
"""Of the nodes of the smooth log-depths that are made up for views without overlap."""
NONSENSE_DEPTH = (1.0, 4.0)
"""Metres: their mean depth."""
NONSENSE_MATCHES = (0.3, 0.9)
"""Their number of matches, as a share of the possible ones."""


@dataclass(frozen=True, eq=False)
class NoisyDepth:
    """depth (h, w) float32 in the pair's unit, 0 = none; conf (h, w) float32, 0 where there is none."""

    depth: np.ndarray
    conf: np.ndarray


@dataclass(frozen=True, eq=False)
class PixelPairs:
    """Matches: pixels0, pixels1 (N, 2) float32, and which of them are outliers, (N,) bool (for tests only)."""

    pixels0: np.ndarray
    pixels1: np.ndarray
    outlier: np.ndarray


def generator(seed: int, *stamps_ns: int, purpose: str) -> np.random.Generator:
    """The random numbers for one purpose of one frame or ordered pair; the same ones whenever they are asked for."""
    words = [seed, *(stamp % 2**64 for stamp in stamps_ns), *purpose.encode()]
    return np.random.default_rng(np.random.SeedSequence(words))


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """(h, w) float32: nodes N(0, sigma) on a 4x4 grid from corner to corner of the image, bilinear in between."""
    nodes = rng.normal(0.0, sigma, (FIELD_NODES, FIELD_NODES)).astype(np.float32)
    return _bilinear(shape[0]) @ nodes @ _bilinear(shape[1]).T


def degrade_depth(rng: np.random.Generator, depth: np.ndarray, median: float) -> NoisyDepth:
    """What the model sees of a view's true depth (h, w) float32, 0 = none; median: of the depths that there are."""
    log_error = smooth_field(rng, depth.shape, FIELD_SIGMA)
    log_error += np.float32(PIXEL_SIGMA) * rng.standard_normal(depth.shape, dtype=np.float32)
    noisy = depth * np.exp(log_error, out=log_error)
    conf = np.where(depth > 0, np.float32(CONF), np.float32(0.0))
    draw = rng.random(depth.shape, dtype=np.float32)
    for replaced, claimed in ((draw < FAINT_SHARE, FAINT_CONF), (draw >= 1.0 - BOLD_SHARE, BOLD_CONF)):
        pixels = np.flatnonzero(replaced & (depth > 0))
        noisy.flat[pixels] = median * WILD_RATIO ** rng.uniform(-1.0, 1.0, len(pixels))
        conf.flat[pixels] = claimed
    return NoisyDepth(noisy, conf)


def degrade_matches(
    rng: np.random.Generator, pixels0: np.ndarray, pixels1: np.ndarray, shape0: tuple[int, int], shape1: tuple[int, int]
) -> PixelPairs:
    """True matches (N, 2) with noise in image 0 and random ones among them, in random order. shape: (h, w) of the images."""
    noisy = pixels0 + rng.normal(0.0, MATCH_SIGMA_PX, pixels0.shape)
    inside = (noisy >= 0).all(1) & (noisy <= (shape0[1] - 1, shape0[0] - 1)).all(1)
    wrong = random_matches(rng, round(MATCH_OUTLIERS * len(pixels0)), shape0, shape1)
    outlier = np.arange(np.count_nonzero(inside) + len(wrong.outlier)) >= np.count_nonzero(inside)
    order = rng.permutation(len(outlier))
    return PixelPairs(
        np.concatenate([noisy[inside], wrong.pixels0]).astype(np.float32)[order],
        np.concatenate([pixels1[inside], wrong.pixels1]).astype(np.float32)[order],
        outlier[order],
    )


def random_matches(rng: np.random.Generator, count: int, shape0: tuple[int, int], shape1: tuple[int, int]) -> PixelPairs:
    """Matches of anything with anything."""
    pixels0, pixels1 = (rng.uniform(0.0, (w - 1, h - 1), (count, 2)).astype(np.float32) for h, w in (shape0, shape1))
    return PixelPairs(pixels0, pixels1, np.ones(count, bool))


def nonsense_depth(rng: np.random.Generator, shape: tuple[int, int]) -> NoisyDepth:
    """A smooth depth that nobody has measured, with ordinary confidence."""
    field = smooth_field(rng, shape, NONSENSE_SIGMA)
    return NoisyDepth(np.exp(field) * np.float32(rng.uniform(*NONSENSE_DEPTH)), np.full(shape, CONF, np.float32))


@lru_cache(maxsize=16)
def _bilinear(size: int) -> np.ndarray:
    """(size, nodes) float32: the weights of the nodes at each pixel of a row or column."""
    at = np.linspace(0.0, FIELD_NODES - 1, size)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(FIELD_NODES))).astype(np.float32)
