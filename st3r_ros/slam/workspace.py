# SPDX-License-Identifier: Apache-2.0
"""What everybody who works on one map shares."""

from __future__ import annotations

from dataclasses import dataclass

from st3r_ros.config import MapperConfig
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import FeatureStore
from st3r_ros.slam.places.search import PlaceSearch
from st3r_ros.slam.tracking.tracker import Tracker
from st3r_ros.types import PairModel


@dataclass(frozen=True, eq=False)
class Workspace:
    """A map, the pair model it is made with, and what is kept beside it to find things in it quickly.

    frozen: whether the map is to stay as it is.
    """

    model: PairModel
    map: KeyframeMap
    tracker: Tracker
    store: FeatureStore
    places: PlaceSearch
    frozen: bool = False

    @staticmethod
    def of(model: PairModel, keyframe_map: KeyframeMap, config: MapperConfig | None = None, *, frozen: bool = False) -> Workspace:
        """Everything that a map of its own needs, with the keyframes that it has known to all."""
        tracker = Tracker(model, config or MapperConfig())
        at = Workspace(model, keyframe_map, tracker, FeatureStore(model), PlaceSearch(keyframe_map), frozen)
        for keyframe in keyframe_map.keyframes.values():
            if keyframe.descriptor is None:
                keyframe.descriptor = model.describe(at.store.of(keyframe)).float().cpu()
            at.places.add(keyframe)
        return at

    @property
    def config(self) -> MapperConfig:
        """The settings; the mapper replaces them while running."""
        return self.tracker.config
