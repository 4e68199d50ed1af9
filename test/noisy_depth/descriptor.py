# SPDX-License-Identifier: Apache-2.0
"""A global descriptor that behaves like a learned one: alike for views of the same place, from similar directions, with noise.

It is the mean of random Fourier features (Rahimi and Recht, 2007) of what the image shows: world points, and from where each is
seen. So the dot product of two descriptors is near the mean Gaussian kernel between the points of two views.
"""

from __future__ import annotations

import numpy as np

from noisy_depth.correspondence import Twins
from noisy_depth.views import TrueView

SIZE = 256
POINTS = 200
REACH = 0.6
"""Metres over which points count as the same place; an image shows a few square metres with 200 points."""
ANGLE = 0.7
"""Radians over which directions count as the same."""
NOISE = 0.8
"""Length of the noise relative to the descriptor."""


def _fourier() -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (6, SIZE) for position and direction, phases (SIZE,): the same for every model."""
    rng = np.random.default_rng(0)
    frequencies = rng.normal(size=(6, SIZE)) / np.repeat([REACH, ANGLE], 3)[:, None]
    return frequencies, rng.uniform(0.0, 2.0 * np.pi, SIZE)


FREQUENCIES, PHASES = _fourier()


def place_descriptor(view: TrueView, rng: np.random.Generator, twins: Twins | None = None) -> np.ndarray:
    """(SIZE,) float32 of unit length; noise alone for a view without depth."""
    noise = rng.normal(0.0, NOISE / np.sqrt(SIZE), SIZE)
    points = view.grid_points[:: max(1, len(view.grid_points) // POINTS)]
    if len(points):
        directions = points - view.T_world_cam.translation
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        if twins is not None:
            in_twin = twins.in_b(points)[:, None]
            points = np.where(in_twin, twins.T_a_b @ points, points)
            directions = np.where(in_twin, directions @ twins.T_a_b.rotation.T, directions)
        mean = np.cos(np.concatenate([points, directions], axis=1) @ FREQUENCIES + PHASES).mean(0)
        noise += mean / np.linalg.norm(mean)
    return (noise / np.linalg.norm(noise)).astype(np.float32)
