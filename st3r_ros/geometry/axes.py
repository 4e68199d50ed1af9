# SPDX-License-Identifier: Apache-2.0
"""The axes of bodies and of cameras (REP-103), and how to tell them apart."""

from __future__ import annotations

import numpy as np

from st3r_ros.geometry.transforms import SE3

OPTICAL = SE3(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.zeros(3))
"""`T_body_optical`: from optical axes (x right, y down, z forward) to body axes (x forward, y left, z up)."""
OPTICAL_UP = np.array([0.0, -1.0, 0.0])
OPTICAL_FORWARD = np.array([0.0, 0.0, 1.0])

_MIN_UP = 0.5
_MAX_ROLL = 0.26
_SAME = 0.02


def stands_upright(R_base_frame: np.ndarray) -> bool:
    """Whether axes (3, 3) stand in a base, z up, as those of a body do: z up within 60 degrees, y level within 15.

    As optical axes they would be those of a camera that looks at the ceiling, or upwards and lies on its side.
    """
    up = R_base_frame[2]
    return bool(up[2] > _MIN_UP and abs(up[1]) < _MAX_ROLL)


def same_axes(R0: np.ndarray, R1: np.ndarray) -> bool:
    """Whether two rotations (3, 3) are the same within about a degree."""
    return bool(np.abs(R0 - R1).max() < _SAME)


def upright(cameras: SE3) -> SE3:
    """`T_up_world`: turns a world whose cameras (N,) are held upright on average so that z is up and the first looks along x."""
    up = (cameras.rotation @ OPTICAL_UP).mean(0)
    if np.linalg.norm(up) < 0.1:  # held every way: the first one counts
        up = cameras.rotation[0] @ OPTICAL_UP
    z = up / np.linalg.norm(up)
    x = cameras.rotation[0] @ OPTICAL_FORWARD
    x = x - (x @ z) * z
    if np.linalg.norm(x) < 1e-3:  # it looks straight up or down
        x = np.cross(cameras.rotation[0] @ np.array([1.0, 0.0, 0.0]), z)
    x = x / np.linalg.norm(x)
    return SE3(np.stack([x, np.cross(z, x), z]), np.zeros(3))
