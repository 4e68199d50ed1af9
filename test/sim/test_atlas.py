# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from st3r_ros.sim.renderer import LEVELS, Atlas

SIZES = [(40, 300), (8, 8), (120, 64), (33, 77), (250, 250)]


def test_level_0_gives_every_texel_back():
    rng = np.random.default_rng(0)
    textures = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]
    atlas = Atlas.pack(textures)
    for texture, (x, y, width, height) in zip(textures, atlas.boxes, strict=True):
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        found = atlas.sample(x + columns + 0.5, y + rows + 0.5, np.zeros_like(rows))
        np.testing.assert_array_equal(found, texture)


@pytest.mark.parametrize("level", np.linspace(-1, LEVELS - 1.01, 9, dtype=np.float32))
def test_no_level_but_the_coarsest_mixes_two_textures(level):
    textures = [np.full((*size, 3), 40 * (i + 1), dtype=np.uint8) for i, size in enumerate(SIZES)]
    atlas = Atlas.pack(textures)
    for texture, (x, y, width, height) in zip(textures, atlas.boxes, strict=True):
        u, v = np.meshgrid(np.linspace(0, 1, 50, dtype=np.float32), np.linspace(0, 1, 50, dtype=np.float32))
        found = atlas.sample(x + u * width, y + v * height, np.full_like(u, level)).astype(int)
        assert (found == int(texture[0, 0, 0])).all()


def test_coarse_levels_are_means():
    checks = np.indices((64, 64)).sum(0) % 2 * 200
    atlas = Atlas.pack([np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)])
    x, y = (atlas.boxes[0, i] + np.linspace(24, 40, 9, dtype=np.float32)[None] for i in range(2))
    for level in range(1, LEVELS - 1):
        assert np.abs(atlas.sample(x, y, np.full_like(x, level)).astype(int) - 100).max() <= 1
