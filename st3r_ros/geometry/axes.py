# SPDX-License-Identifier: Apache-2.0
"""The axes of bodies and of cameras (REP-103), and how to tell them apart."""

from __future__ import annotations

import numpy as np

from st3r_ros.geometry.transforms import SE3

OPTICAL = SE3(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.zeros(3))
"""`T_body_optical`: from optical axes (x right, y down, z forward) to body axes (x forward, y left, z up)."""

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
