# SPDX-License-Identifier: Apache-2.0
"""Aligns small patches of one image with another, to hundredths of a pixel (Baker and Matthews, IJCV 2004).

Optical flow shifts a large window as it is. Where the view changes, parts of the window move otherwise, which draws its point
to one side, by a third of a pixel and alike for all points of a surface: it looks as if the camera had moved otherwise. A small
patch with the most weight at its centre, which may turn, stretch and change its light, stays on its point; and where it does not
look the same afterwards, the point is another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

RADIUS = 7
SPREAD = 0.6
"""Standard deviation of the weights of a patch, as a share of its radius."""
ITERATIONS = 6
DAMPING = 1e-4
RESTING_PX, CONVERGED_PX, MAX_MOVE_PX = 0.01, 0.1, 3.0
"""Of a step after which there is none, of the last step, and of all together."""
MIN_CORRELATION, MIN_DETERMINANT = 0.85, 1e-3

_SIDE = np.arange(-RADIUS, RADIUS + 1, dtype=np.float32)
DX, DY = (axis.ravel() for axis in np.meshgrid(_SIDE, _SIDE))
"""Where the p pixels of a patch are, from its point; LINEAR (p, 3) with a 1 before it."""
LINEAR = np.stack([np.ones_like(DX), DX, DY], axis=1)
WEIGHT = np.exp(-0.5 * (DX**2 + DY**2) / (SPREAD * RADIUS) ** 2)
WEIGHT /= WEIGHT.sum()


@dataclass(frozen=True, eq=False)
class Aligned:
    """pixels: (N, 2) float32. found: (N,) bool, where the patch has come to rest and looks the same."""

    pixels: np.ndarray
    found: np.ndarray


@dataclass(frozen=True, eq=False)
class Patches:
    """Around N points of an image: values (N, p), normalized, and their derivatives by_x, by_y (N, p) by the place.

    inverse: (N, 8, 8) of the normal equations of the warp: shift along x with its two derivatives, the same along y, contrast,
    brightness. All float32.
    """

    values: np.ndarray
    by_x: np.ndarray
    by_y: np.ndarray
    inverse: np.ndarray

    @staticmethod
    def of(gray: np.ndarray, points: np.ndarray) -> Patches:
        """Around points (N, 2) of a grey image (h, w) uint8."""
        image = gray.astype(np.float32)
        x, y = points[:, :1] + DX, points[:, 1:] + DY
        values, contrast = _normalized(_sampled(image, x, y))
        by_x = (_sampled(image, x + 1, y) - _sampled(image, x - 1, y)) * (0.5 / contrast)
        by_y = (_sampled(image, x, y + 1) - _sampled(image, x, y - 1)) * (0.5 / contrast)
        rows = [d * axis for d in (by_x, by_y) for axis in LINEAR.T]
        J = np.stack([*rows, values, np.ones_like(values)], axis=1)
        H = ((J * WEIGHT) @ J.transpose(0, 2, 1)).astype(np.float64)
        H[:, range(8), range(8)] = (1.0 + DAMPING) * H[:, range(8), range(8)] + 1e-9
        return Patches(values, by_x, by_y, np.linalg.inv(H).astype(np.float32))

    def __getitem__(self, chosen: np.ndarray | slice) -> Patches:
        return Patches(self.values[chosen], self.by_x[chosen], self.by_y[chosen], self.inverse[chosen])

    def aligned(self, gray: np.ndarray, guess: np.ndarray) -> Aligned:
        """Where the points are in another grey image, about at `guess` (N, 2)."""
        image = gray.astype(np.float32)
        at, A = guess.astype(np.float32), np.tile(np.eye(2, dtype=np.float32), (len(guess), 1, 1))
        last, alike = np.full(len(at), np.inf, np.float32), np.zeros(len(at), np.float32)
        for _ in range(ITERATIONS):
            moving = np.flatnonzero(last > RESTING_PX)
            patches = self if len(moving) == len(at) else self[moving]
            values = _warped(image, at[moving], A[moving])
            alike[moving] = correlation = (values * patches.values) @ WEIGHT
            change = patches._change(values, correlation)
            # The change is of the patch, so its inverse is done to the other image.
            A[moving] = A[moving] @ _inverse(np.eye(2, dtype=np.float32) + change[:, :, 1:])
            step = (A[moving] @ change[:, :, :1])[..., 0]
            at[moving] -= step
            last[moving] = np.linalg.norm(step, axis=1)
        moved = np.linalg.norm(at - guess, axis=1)
        return Aligned(at, (alike > MIN_CORRELATION) & (last < CONVERGED_PX) & (moved < MAX_MOVE_PX))

    def _change(self, values: np.ndarray, correlation: np.ndarray) -> np.ndarray:
        """What shift and linear part (N, 2, 3) would make the patches look like other normalized values (N, p).

        correlation: (N,) of the two.
        """
        off = (values - self.values) * WEIGHT
        light = np.stack([correlation - 1.0, np.zeros_like(correlation)], axis=1)  # all means are 0
        gradient = np.concatenate([(off * self.by_x) @ LINEAR, (off * self.by_y) @ LINEAR, light], axis=1)
        return (self.inverse[:, :6] @ gradient[..., None]).reshape(-1, 2, 3)


def _inverse(A: np.ndarray) -> np.ndarray:
    """Of matrices (N, 2, 2), some number where there is none: patches that go astray must not end the others."""
    (a, b), (c, d) = A.transpose(1, 2, 0)
    determinant = a * d - b * c
    determinant = np.where(np.abs(determinant) < MIN_DETERMINANT, MIN_DETERMINANT, determinant)
    return (np.array([[d, -b], [-c, a]]) / determinant).transpose(2, 0, 1)


def _warped(image: np.ndarray, at: np.ndarray, A: np.ndarray) -> np.ndarray:
    """The patches (N, p) around `at` (N, 2) under linear maps A (N, 2, 2), normalized."""
    x, y = (np.column_stack([at[:, axis], A[:, axis]]) @ LINEAR.T for axis in (0, 1))
    return _normalized(_sampled(image, x, y))[0]


def _sampled(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The image at x, y (N, p); N may be 0, which OpenCV refuses."""
    return x if len(x) == 0 else cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _normalized(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patches (N, p) with mean 0 and mean square 1, and the contrast (N, 1) they had."""
    values = values - (values @ WEIGHT)[:, None]
    contrast = np.sqrt((values * values) @ WEIGHT + 1e-6)[:, None]
    return values / contrast, contrast
