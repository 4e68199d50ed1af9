# SPDX-License-Identifier: Apache-2.0
"""Which way is up: rotations of a world, which is the camera of the first image, so that z points up in it (REP-103).

Odometry tells it where there is one. Otherwise cameras are held upright on average.
"""

from __future__ import annotations

import numpy as np

from st3r_ros.geometry import so3
from st3r_ros.geometry.axes import OPTICAL
from st3r_ros.geometry.transforms import SE3

NO_MEAN = 0.1
"""Cameras whose mean up is shorter are held every way: the first one counts."""


def up_of_cameras(R_world_cam: np.ndarray) -> np.ndarray:
    """(3,) of length 1: the mean of what is up in the images of cameras (N, 3, 3), N > 0."""
    ups = -R_world_cam[:, :, 1]
    up = ups.mean(axis=0)
    up = up if np.linalg.norm(up) > NO_MEAN else ups[0]
    return up / np.linalg.norm(up)


def level_by_cameras(R_world_cam: np.ndarray) -> SE3:
    """`T_level_world`: cameras (N, 3, 3) are upright on average and the first looks along x; `OPTICAL` without any."""
    if not len(R_world_cam):
        return OPTICAL
    z = up_of_cameras(R_world_cam)
    right, _, forward = R_world_cam[0].T
    x = forward - (forward @ z) * z
    if np.linalg.norm(x) < 1e-3:  # it looks straight up or down
        x = np.cross(right, z)
    x = x / np.linalg.norm(x)
    return SE3(np.stack([x, np.cross(z, x), z]), np.zeros(3))


def level_by_odometry(T_map_world: SE3, T_odom_cam: SE3) -> SE3:
    """`T_map_world` of a map that is as level as odometry, and still starts at the same point and looks the same way.

    T_map_world: as it would be were the start level. T_odom_cam: the camera of the first keyframe, which is the world, in
    odometry's frame, whose z points up (REP-105).
    """
    R_odom_start = _R_odom_start(T_map_world, T_odom_cam)
    yaw = np.arctan2(R_odom_start[1, 0], R_odom_start[0, 0])
    tilt = SE3(so3.exp(np.array([0.0, 0.0, -yaw])) @ R_odom_start, np.zeros(3))
    return tilt @ T_map_world


def tilt_deg(T_map_world: SE3, T_odom_cam: SE3) -> float:
    """By how many degrees `level_by_odometry` tilts the map."""
    return float(np.degrees(np.arccos(np.clip(_R_odom_start(T_map_world, T_odom_cam)[2, 2], -1.0, 1.0))))


def _R_odom_start(T_map_world: SE3, T_odom_cam: SE3) -> np.ndarray:
    return T_odom_cam.rotation @ T_map_world.rotation.T
