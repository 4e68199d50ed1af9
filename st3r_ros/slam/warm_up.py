# SPDX-License-Identifier: Apache-2.0
"""Work done before the first image, so that it is not done during the second: libraries load, thread pools start."""

from __future__ import annotations

import time

import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, PairModel

WIDTH, HEIGHT = 640, 480


def warm_up(model: PairModel) -> float:
    """Maps a few images of made-up bands that pass at different speeds, with a mapper that is thrown away.

    Returns the seconds it took.
    """
    start = time.perf_counter()
    generator = np.random.default_rng(0)
    texture = np.kron(generator.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    bands = np.split(texture, 6)
    camera = Camera.from_fov(WIDTH, HEIGHT, 60.0)
    mapper = Mapper(model)
    # A model that sees depth in one image has done all it can do after the second.
    for index in range(2 if model.sees_depth_alone else 5):
        shifted = [np.roll(band, index * (4 + 3 * speed), axis=1) for speed, band in enumerate(bands)]
        mapper.register_frame(Frame(index, index, np.ascontiguousarray(np.concatenate(shifted)), camera))
    return time.perf_counter() - start
