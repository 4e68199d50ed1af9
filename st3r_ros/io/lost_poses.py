# SPDX-License-Identifier: Apache-2.0
"""Poses that are none: the identity, written for the times at which a tracker was lost."""

from __future__ import annotations

import numpy as np

_NEAR_STEPS = 2.0


def lost_poses(poses: np.ndarray) -> np.ndarray:
    """Which poses (N, 7) of position and quaternion xyzw, in the order of time, stand for none: (N,) bool.

    These are exactly the identity, several times, and the poses before or after them are elsewhere. The first ones of a file do
    not count: a camera may stand where its world begins. Where there are no rotations (NaN) the position alone decides.
    """
    at_origin = ~poses[:, :3].any(axis=1)
    unturned = np.isnan(poses[:, 3:]).all(axis=1) | (poses[:, 3:] == (0.0, 0.0, 0.0, 1.0)).all(axis=1)
    identity = at_origin & unturned
    doubtful = identity & (np.cumsum(~identity) > 0)
    rows, real = np.flatnonzero(doubtful), np.flatnonzero(~doubtful)
    if len(rows) < 2:
        return np.zeros(len(poses), bool)
    steps = np.linalg.norm(np.diff(poses[real, :3], axis=0), axis=1) / np.diff(real)
    moving = steps[steps > 0]
    near = _NEAR_STEPS * float(np.median(moving)) if len(moving) else 0.0
    after = np.searchsorted(real, rows)
    neighbours = real[np.stack([after - 1, np.minimum(after, len(real) - 1)])]
    away = np.linalg.norm(poses[neighbours, :3], axis=-1).max(axis=0) > near
    lost = np.zeros(len(poses), bool)
    lost[rows[away]] = True
    return lost if np.count_nonzero(lost) > 1 else np.zeros(len(poses), bool)
