# SPDX-License-Identifier: Apache-2.0
"""Selects and removes redundant keyframes of a full map."""

from __future__ import annotations

from st3r_ros.slam.keyframes.map_builder import MapBuilder
from st3r_ros.slam.keyframes.memory import map_bytes
from st3r_ros.slam.places.covisibility import PosedCamera
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Keyframe

ATTEMPTS = 5


class Culler:
    """Drops the most redundant keyframes: those that a neighbour sees best, and whose neighbours hold together without them."""

    def __init__(self, workspace: Workspace, builder: MapBuilder) -> None:
        self._map, self._places, self._tracker = workspace.map, workspace.places, workspace.tracker
        self._builder = builder
        self._newly: set[int] = set()
        self._shares: dict[tuple[int, int], float] = {}
        self._nothing_to_drop: tuple[object, ...] = ()

    def make_room(self, protected: set[int]) -> bool:
        """Drops keyframes until one more fits; False when only `protected` or indispensable ones are left."""
        while self._is_full():
            keyframes = self._map.keyframes
            state = next(reversed(keyframes), None), len(keyframes), len(self._map.edges), frozenset(protected)
            if state == self._nothing_to_drop:  # the search is slow, and every frame may request it
                return False
            if self._drop_one(protected) is None:
                self._nothing_to_drop = state
                return False
        return True

    def take_dropped(self) -> set[int]:
        """Ids of the keyframes dropped since the last call."""
        newly, self._newly = self._newly, set()
        return newly

    def _is_full(self) -> bool:
        config = self._tracker.config
        if len(self._map.keyframes) >= config.max_keyframes:
            return True
        return config.memory_budget_mb > 0 and map_bytes(self._map) > config.memory_budget_mb * 1e6

    def _drop_one(self, protected: set[int]) -> int | None:
        """Id of the keyframe that was dropped, or None when no other than the `protected` ones can be."""
        into, overlap = self._best_witness()
        order = sorted((k for k in overlap if k not in protected), key=lambda k: overlap[k], reverse=True)
        for keyframe_id in order[:ATTEMPTS]:
            keyframe, witness = self._map.keyframes[keyframe_id], self._map.keyframes[into[keyframe_id]]
            if self._holds_without(keyframe, witness):
                T_witness_keyframe = witness.T_world_cam.inverse() @ keyframe.T_world_cam
                self._map.remove_keyframe(keyframe_id, witness.id, T_witness_keyframe)
                self._builder.forget(keyframe_id)
                self._newly.add(keyframe_id)
                return keyframe_id
        return None

    def _best_witness(self) -> tuple[dict[int, int], dict[int, float]]:
        """Of each keyframe the neighbour that sees most of its points, and their share."""
        into: dict[int, int] = {}
        overlap: dict[int, float] = {}
        self._shares = self._neighbours_shares()
        for (witness_id, keyframe_id), share in self._shares.items():
            if share > overlap.get(keyframe_id, -1.0):
                into[keyframe_id], overlap[keyframe_id] = witness_id, share
        return into, overlap

    def _neighbours_shares(self) -> dict[tuple[int, int], float]:
        """Share of a keyframe's points that a neighbour sees, by (neighbour, keyframe).

        Corrections hardly change where neighbours are to each other, so what is known stays: a new keyframe must not cost the
        more the larger the map is.
        """
        shares: dict[tuple[int, int], float] = {}
        for witness in self._map.keyframes.values():
            neighbours = sorted(self._map.neighbours(witness.id))
            new = [k for k in neighbours if (witness.id, k) not in self._shares]
            seen = self._places.covisible(PosedCamera.of(witness, witness.T_world_cam), new)
            fresh = {found.keyframe.id: found.overlap for found in seen}
            shares |= {(witness.id, k): fresh[k] if k in fresh else self._shares[witness.id, k] for k in neighbours}
        return shares

    def _holds_without(self, keyframe: Keyframe, witness: Keyframe) -> bool:
        """Whether the neighbours stay tied to each other, with new edges to the witness where needed."""
        others = set(self._map.neighbours(keyframe.id)) - {witness.id}
        left = others - self._map.reachable(witness.id, without=keyframe.id)
        for other in sorted(left):
            self._builder.connect(self._map.keyframes[other], witness, "sequential")
        return not others - self._map.reachable(witness.id, without=keyframe.id)
