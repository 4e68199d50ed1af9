# SPDX-License-Identifier: Apache-2.0
"""Loop edges for a new keyframe, from similar images and from the expected overlap of its pose."""

from __future__ import annotations

from dataclasses import dataclass

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.places.covisibility import expected_view
from st3r_ros.slam.places.loops import LOCAL_HOPS, check_cycle, directions_agree, is_solid, within_hops
from st3r_ros.slam.tracking.tracker import Tracked
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Keyframe, Matches

ALIKE = 3
COVISIBLE = 2
MIN_OVERLAP = 0.3
MAX_LOOPS = 4


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
        self._at = workspace

    def search(self, keyframe: Keyframe, recent: set[int]) -> LoopSearch:
        """Looks for loops of a new keyframe with any but the `recent` ones and those around it in the graph."""
        near = within_hops(self._at.map, keyframe.id, LOCAL_HOPS) | recent
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
            if not check_cycle(self._at.map, keyframe, other, T_other_kf).passed:
                rejected += 1
                continue
            loops.append(Loop(other, there.agreed))
            if len(loops) == 1:  # the pose in that part of the map is known now, and with it further expected overlap
                around = within_hops(self._at.map, other.id, 1) - tried
                candidates = self._covisible(keyframe, around, other.T_world_cam @ T_other_kf, MAX_LOOPS) + candidates
        return LoopSearch(tuple(loops), rejected)

    def _candidates(self, keyframe: Keyframe, near: set[int]) -> list[tuple[Keyframe, Matches | None]]:
        """Keyframes that may show the same place, with roughly where to look when the poses tell."""
        far = self._at.map.keyframes.keys() - near
        chosen: dict[int, tuple[Keyframe, Matches | None]] = {}
        for other, seed in self._covisible(keyframe, far, keyframe.T_world_cam, COVISIBLE):
            chosen[other.id] = other, seed
        assert keyframe.descriptor is not None
        gate = {"min_similarity": self._at.model.traits.place_similarity, "min_lift": self._at.model.traits.place_lift}
        for place in self._at.places.query(keyframe.descriptor, ALIKE, exclude=near, **gate):
            chosen.setdefault(place.id, (self._at.map.keyframes[place.id], None))
        return list(chosen.values())

    def _covisible(
        self, keyframe: Keyframe, among: set[int], T_world_cam: Sim3, count: int
    ) -> list[tuple[Keyframe, Matches | None]]:
        """The keyframes that the new one should see most of, were it at this pose, and where it should see them."""
        h, w = keyframe.conf.shape
        others = [self._at.map.keyframes[k] for k in sorted(among)]
        overlap = self._at.index.overlap(others, T_world_cam, keyframe.K, w, h)
        best = overlap.argsort()[::-1][:count]
        chosen = [others[n] for n in best[overlap[best] > MIN_OVERLAP]]
        T_cam_world = T_world_cam.inverse()
        return [(o, expected_view(o, T_cam_world @ o.T_world_cam, keyframe.K, w, h).matches) for o in chosen]

    def verified(self, keyframe: Keyframe, other: Keyframe, seed: Matches | None) -> Tracked | None:
        """The pose of the keyframe relative to the other one, if matches from either image agree on it."""
        features, features_other = self._at.store.of(keyframe), self._at.store.of(other)
        there = self._at.tracker.tie(keyframe, features, other, features_other, seed)
        if there is None or not is_solid(there, self._at.config):
            return None
        back = self._at.tracker.tie(other, features_other, keyframe, features, None)
        if back is None or not is_solid(back, self._at.config):
            return None
        return there if directions_agree(there, back, there.median_distance) else None
