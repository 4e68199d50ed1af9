# SPDX-License-Identifier: Apache-2.0
"""The axes of bodies and of cameras (REP-103)."""

from __future__ import annotations

import numpy as np

from st3r_ros.geometry.se3 import SE3

OPTICAL = SE3(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.zeros(3))
"""`T_body_optical`: the optical axes (x right, y down, z forward) in a body's (x forward, y left, z up)."""
