# SPDX-License-Identifier: Apache-2.0
"""Loop verification: candidates, a check in both directions, a check against the whole graph.

A wrong loop is worse than none. A loop edge therefore needs matches that agree on one pose in both directions, and a pose that is
consistent with the map and the drift accumulated on the way.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from st3r_ros.config import MapperConfig
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.tracking.tracker import Tracked
from st3r_ros.types import Keyframe

LOCAL_HOPS = 3
MIN_INLIER_SHARE = 0.5
MAX_DISAGREEMENT_DEG = 3.0
MAX_DISAGREEMENT_SHARE = 0.1
MAX_DISAGREEMENT_LOG_SCALE = 0.25
# How far a step from keyframe to keyframe may be off beyond its noise: rotation, translation by its length and by the depth of
# the scene, scale. Errors of calibration, of matching and of the model, that no covariance knows.
STEP_ROTATION_DEG = 0.5
STEP_TRANSLATION_SHARE = 0.05
STEP_SCALE = 0.02
# What is off in the same way at every step, as a share of the turn: a focal length that is wrong makes all turns too large or
# too small, and such errors add up.
COMMON_TURN_SHARE = 0.01
COMMON_TURN_SHARE_UNKNOWN_CAMERA = 0.05
CHI2_GATE = 24.3  # 99.9 % of a chi-square distribution with 7 degrees of freedom


@dataclass(frozen=True, eq=False)
class CycleCheck:
    """How a measured relative pose fits the map: `distance2` is the squared Mahalanobis distance of the cycle's error.

    error: (7,) tangent of measured @ expected^-1. steps: keyframes on the way.
    """

    distance2: float
    error: np.ndarray
    steps: int

    @property
    def passed(self) -> bool:
        """Whether the accumulated drift explains the difference."""
        return self.distance2 < CHI2_GATE


def is_solid(tracked: Tracked | None, config: MapperConfig) -> bool:
    """Whether enough matches agree on one pose to connect two keyframes."""
    if tracked is None:
        return False
    return tracked.trusted >= 2 * config.min_inliers and tracked.inlier_share >= MIN_INLIER_SHARE


def directions_agree(there: Tracked, back: Tracked, depth: float) -> bool:
    """Whether the pose found from one image's matches is that found from the other's. depth: of the scene, keyframe units.

    there: of keyframe 0 in keyframe 1 (`T_kf_cam` = T_1_0). back: of keyframe 1 in keyframe 0.
    """
    error = (there.result.T_kf_cam @ back.result.T_kf_cam).log()
    return (
        float(np.linalg.norm(error[3:6])) < np.radians(MAX_DISAGREEMENT_DEG)
        and float(np.linalg.norm(error[:3])) < MAX_DISAGREEMENT_SHARE * depth
        and abs(float(error[6])) < MAX_DISAGREEMENT_LOG_SCALE
    )


def path_between(keyframe_map: KeyframeMap, start: int, goal: int) -> list[int]:
    """Ids of the keyframes on the way with the fewest edges, both ends included; empty when there is none."""
    came_from = {start: start}
    queue = deque([start])
    while queue and goal not in came_from:
        here = queue.popleft()
        for other in keyframe_map.neighbours(here):
            if other not in came_from:
                came_from[other] = here
                queue.append(other)
    if goal not in came_from:
        return []
    path = [goal]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def within_hops(keyframe_map: KeyframeMap, start: int, hops: int) -> set[int]:
    """Ids of the keyframes at most `hops` edges away, `start` included."""
    reached, border = {start}, {start}
    for _ in range(hops):
        border = {other for here in border for other in keyframe_map.neighbours(here)} - reached
        reached |= border
    return reached


def reached_from(keyframe_map: KeyframeMap, start: int, without: int) -> set[int]:
    """Ids of the keyframes connected with `start` without passing `without`."""
    reached, border = {start}, {start}
    while border:
        border = {other for here in border for other in keyframe_map.neighbours(here)} - reached - {without}
        reached |= border
    return reached


def check_cycle(keyframe_map: KeyframeMap, keyframe0: Keyframe, keyframe1: Keyframe, T_1_0: Sim3) -> CycleCheck:
    """Compares a measured relative pose with that of the map, given the drift accumulated between the two.

    Each step's error is carried to keyframe 1 by its adjoint. The steps' errors are taken as independent, but for the share of
    the turns that is the same in all of them.
    """
    path = path_between(keyframe_map, keyframe1.id, keyframe0.id)
    expected = keyframe1.T_world_cam.inverse() @ keyframe0.T_world_cam
    error = (T_1_0 @ expected.inverse()).log()
    if not path:
        return CycleCheck(float("inf"), error, 0)
    poses = [keyframe_map.keyframes[k].T_world_cam for k in path]
    T_world = Sim3(
        np.stack([T.rotation for T in poses]), np.stack([T.translation for T in poses]), np.array([T.scale for T in poses])
    )
    T_1_k = keyframe1.T_world_cam.inverse() @ T_world
    steps = T_world[:-1].inverse() @ T_world[1:]
    lengths = np.linalg.norm(steps.translation, axis=1)
    sigma = np.zeros((len(path) - 1, 7))
    sigma[:, :3] = STEP_TRANSLATION_SHARE * lengths[:, None] + 1e-3
    sigma[:, 3:6] = np.radians(STEP_ROTATION_DEG)
    sigma[:, 6] = STEP_SCALE
    Ad = T_1_k[:-1].adjoint()
    covariance = np.einsum("kab,kb,kcb->ac", Ad, sigma**2, Ad)
    known = all(keyframe_map.keyframes[k].K_known for k in path)
    common = COMMON_TURN_SHARE if known else COMMON_TURN_SHARE_UNKNOWN_CAMERA
    turn = common * np.einsum("kab,kb->a", Ad[..., 3:6], steps.log()[:, 3:6])
    covariance += np.outer(turn, turn)
    return CycleCheck(float(error @ np.linalg.solve(covariance, error)), error, len(path) - 1)
