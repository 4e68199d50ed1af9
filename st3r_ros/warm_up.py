# SPDX-License-Identifier: Apache-2.0
"""Work done before the first image, so that it is not done during the second: libraries load, kernels and thread pools start."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.products.cloud import cloud_of
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, PairModel

WIDTH, HEIGHT = 480, 360
BANDS = 6
KEYFRAMES, MOST_FRAMES = 3, 14


def warm_up(model: PairModel, cancelled: Callable[[], bool] = lambda: False) -> float:
    """Maps a few made-up images with a mapper that is thrown away: start, tracking, keyframes, loss, relocalization, cloud.

    A model that sees depth in one image has done all it can do after the second. To be called in the thread that will use the
    model, because thread pools belong to a thread. cancelled: asked before each image; True ends it.
    Returns the seconds it took.
    """
    begin = time.perf_counter()
    camera, mapper, count = Camera.from_fov(WIDTH, HEIGHT, 60.0), Mapper(model), 0

    def show(image: np.ndarray) -> None:
        nonlocal count
        if not cancelled():
            mapper.register_frame(Frame(count, count * 100_000_000, image, camera))
        count += 1

    for index in range(2 if model.traits.monocular_depth else MOST_FRAMES):
        show(_passing_bands(index))
        if len(mapper.map.keyframes) >= KEYFRAMES:
            break
    if not model.traits.monocular_depth:
        show(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        show(_passing_bands(index))
    if not cancelled():
        cloud_of(mapper.map, CloudConfig())
    return time.perf_counter() - begin


def _passing_bands(index: int) -> np.ndarray:
    """Image number `index` of a scene of bands that pass at different speeds, as they do at different depths."""
    texture = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    bands = np.split(np.kron(texture, np.ones((8, 8, 1), np.uint8)), BANDS)
    return np.ascontiguousarray(np.concatenate([np.roll(band, index * (4 + 3 * n), axis=1) for n, band in enumerate(bands)]))
