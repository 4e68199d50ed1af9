# SPDX-License-Identifier: Apache-2.0
"""Loops: candidates for a new keyframe, a check in both directions, a check against the whole graph.

A wrong loop is worse than none. A loop edge therefore needs matches that agree on one pose in both directions, and a pose that is
consistent with the map and the drift accumulated on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.places.covisibility import PosedCamera
from st3r_ros.slam.tracking.tracker import Tracked
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Keyframe, Matches

SIMILAR = 3
COVISIBLE = 2
MIN_OVERLAP = 0.3
MAX_LOOPS = 4
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


def check_cycle(keyframe_map: KeyframeMap, keyframe0: Keyframe, keyframe1: Keyframe, T_1_0: Sim3) -> CycleCheck:
    """Compares a measured relative pose with that of the map, given the drift accumulated between the two.

    Each step's error is carried to keyframe 1 by its adjoint. The steps' errors are taken as independent, but for the share of
    the turns that is the same in all of them.
    """
    path = keyframe_map.path(keyframe1.id, keyframe0.id)
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


@dataclass(frozen=True, eq=False)
class Loop:
    """A keyframe seen again, and the matches (0 = the new keyframe, 1 = `other`) that agree on it."""

    other: Keyframe
    matches: Matches


@dataclass(frozen=True, eq=False)
class LoopSearch:
    """Verified loops, and the number of rejected candidates with matches."""

    loops: tuple[Loop, ...]
    rejected: int


class LoopFinder:
    """Recognizes places in one map."""

    def __init__(self, workspace: Workspace) -> None:
        self._map, self._places, self._store = workspace.map, workspace.places, workspace.store
        self._tracker, self._traits = workspace.tracker, workspace.model.traits

    def search(self, keyframe: Keyframe, recent: set[int]) -> LoopSearch:
        """Looks for loops of a new keyframe with any but the `recent` ones and those around it in the graph."""
        near = self._places.near(keyframe.id) | recent
        loops: list[Loop] = []
        rejected = 0
        candidates, tried = self._candidates(keyframe, near), set(near)
        while candidates and len(loops) < MAX_LOOPS:
            other, seed = candidates.pop(0)
            tried.add(other.id)
            there = self.verified(keyframe, other, seed)
            if there is None:
                continue
            T_other_kf = there.result.T_kf_cam
            if not check_cycle(self._map, keyframe, other, T_other_kf).passed:
                rejected += 1
                continue
            loops.append(Loop(other, there.agreed))
            if len(loops) == 1:  # the pose in that part of the map is known now, and with it further expected overlap
                around = self._places.near(other.id, 1) - tried
                candidates = self._covisible(keyframe, around, other.T_world_cam @ T_other_kf, MAX_LOOPS) + candidates
        return LoopSearch(tuple(loops), rejected)

    def _candidates(self, keyframe: Keyframe, near: set[int]) -> list[tuple[Keyframe, Matches | None]]:
        """Keyframes that may show the same place, with roughly where to look when the poses tell."""
        far = self._map.keyframes.keys() - near
        chosen: dict[int, tuple[Keyframe, Matches | None]] = {}
        for other, seed in self._covisible(keyframe, far, keyframe.T_world_cam, COVISIBLE):
            chosen[other.id] = other, seed
        assert keyframe.descriptor is not None
        similarity, lift = self._traits.place_similarity, self._traits.place_lift
        for place in self._places.similar(keyframe.descriptor, SIMILAR, exclude=near, min_similarity=similarity, min_lift=lift):
            chosen.setdefault(place.id, (self._map.keyframes[place.id], None))
        return list(chosen.values())

    def _covisible(
        self, keyframe: Keyframe, among: set[int], T_world_cam: Sim3, count: int
    ) -> list[tuple[Keyframe, Matches | None]]:
        """The keyframes that the new one should see most of, were it at this pose, and where it should see them."""
        camera = PosedCamera.of(keyframe, T_world_cam)
        seen = self._places.covisible(camera, among, count, at_least=MIN_OVERLAP)
        return [(found.keyframe, self._places.matches(camera, found.keyframe)) for found in seen]

    def verified(self, keyframe: Keyframe, other: Keyframe, seed: Matches | None) -> Tracked | None:
        """The pose of the keyframe relative to the other one, if matches from either image agree on it."""
        features, features_other = self._store.of(keyframe), self._store.of(other)
        there = self._tracker.tie(keyframe, features, other, features_other, seed)
        if there is None or not self._tracker.is_solid(there):
            return None
        back = self._tracker.tie(other, features_other, keyframe, features, None)
        if back is None or not self._tracker.is_solid(back):
            return None
        return there if directions_agree(there, back, there.median_distance) else None
