# SPDX-License-Identifier: Apache-2.0
"""Patches of one image aligned with another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from st3r_ros.pair.opencv.patches import Patches

RNG = np.random.default_rng(3)
IMAGE = cv2.GaussianBlur(RNG.integers(0, 256, (240, 320), dtype=np.uint8), (0, 0), 2.0)
IMAGE = cv2.normalize(IMAGE, None, 20, 200, cv2.NORM_MINMAX)
POINTS = RNG.uniform((60, 60), (260, 180), (200, 2)).astype(np.float32)
WARPS = {
    "shift": np.array([[1.0, 0.0, 3.3], [0.0, 1.0, -2.6]]),
    "nearer": np.array([[1.15, 0.0, -20.0], [0.0, 1.15, -15.0]]),
    "turned": np.array([[0.98, -0.17, 20.0], [0.17, 0.98, -15.0]]),
    "slanted": np.array([[0.85, 0.1, 10.0], [0.0, 1.0, 5.0]]),
}


def warped(A, gain=1.0, offset=0.0):
    return np.clip(cv2.warpAffine(IMAGE, A, IMAGE.shape[::-1]) * gain + offset, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", WARPS)
def test_points_are_found_to_a_small_part_of_a_pixel(name):
    A = WARPS[name]
    truth = POINTS @ A[:, :2].T + A[:, 2]
    start = truth + RNG.normal(0.0, 0.5, truth.shape)
    aligned = Patches.of(IMAGE, POINTS).aligned(warped(A), start)
    assert aligned.found.mean() > 0.85
    errors = (aligned.pixels - truth)[aligned.found]
    assert np.median(np.linalg.norm(errors, axis=1)) < 0.05
    assert np.linalg.norm(np.median(errors, axis=0)) < 0.02  # all to one side would look like another motion


def test_other_light_changes_nothing():
    A = WARPS["shift"]
    truth = POINTS @ A[:, :2].T + A[:, 2]
    aligned = Patches.of(IMAGE, POINTS).aligned(warped(A, gain=0.6, offset=60.0), truth + 0.4)
    assert aligned.found.mean() > 0.85
    assert np.median(np.linalg.norm((aligned.pixels - truth)[aligned.found], axis=1)) < 0.05


def test_what_does_not_look_the_same_is_not_found():
    other = cv2.GaussianBlur(RNG.integers(0, 256, IMAGE.shape, dtype=np.uint8), (0, 0), 2.0)
    assert Patches.of(IMAGE, POINTS).aligned(other, POINTS).found.mean() < 0.02


def test_points_without_texture_stay_numbers():
    flat = np.full_like(IMAGE, 90)
    aligned = Patches.of(flat, POINTS).aligned(flat, POINTS)
    assert not aligned.found.any()
    assert np.isfinite(aligned.pixels).all()


def test_patches_that_go_astray_do_not_end_the_others():
    """An image turned upside down and cut into stripes: warps collapse on the way."""
    stripes = np.where(np.arange(IMAGE.shape[0])[:, None] % 3, IMAGE[::-1], 0).astype(np.uint8)
    aligned = Patches.of(IMAGE, POINTS).aligned(stripes, POINTS)
    assert aligned.pixels.shape == POINTS.shape and aligned.found.mean() < 0.05


def test_some_of_the_patches_and_none():
    patches = Patches.of(IMAGE, POINTS)
    some = np.array([5, 0, 17])
    both = patches.aligned(IMAGE, POINTS), patches[some].aligned(IMAGE, POINTS[some])
    np.testing.assert_allclose(both[0].pixels[some], both[1].pixels, atol=1e-4)
    assert patches[:0].aligned(IMAGE, POINTS[:0]).pixels.shape == (0, 2)
