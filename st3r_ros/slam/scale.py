# SPDX-License-Identifier: Apache-2.0
"""The metric scale of the map: from odometry, a known baseline, or a network with metric pointmaps.

Every source gives ratios of metres to map units, and their logarithms are averaged robustly. The ratios are made from the map as
it is now, so corrections of the map are in them, and nothing has to be kept in step when its unit changes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.se3 import SE3
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.slam.odometry_motions import OdometryMotions
from st3r_ros.slam.robust_mean import robust_mean
from st3r_ros.types import MapScale

MIN_MOTIONS = 8
"""Minimum number of agreeing odometry motions for the scale."""
GOOD_SIGMA = 0.1
"""Maximum relative sigma of the scale from odometry."""
SMALLEST_CORRECTION = 0.02
"""Minimum correction, since each one moves all published data."""
ODOMETRY_FLOOR = 0.01
"""Systematic scale error of wheel and visual-inertial odometry, independent of the number of motions."""
NETWORK_SIGMA = 0.08
"""Relative scale error of one metric prediction (MASt3R: 6 to 8 %)."""
NETWORK_FLOOR = 0.03
"""The predictions of one scene share a part of their error."""
BASELINE_SIGMA = 0.05
"""Accuracy of the scale from the first two keyframes, a few degrees of parallax apart."""
MIN_PREDICTIONS = 5
MAX_PREDICTIONS = 256


@dataclass(frozen=True)
class ScaleChange:
    """The map's unit has changed: everything in it is `factor` times as large as before.

    scale: what is known about the new unit. first: whether nothing was known about the one before.
    """

    factor: float
    scale: MapScale
    first: bool

    @property
    def message(self) -> str:
        """One sentence for the log and the status."""
        source = f"{self.scale.source}, sigma {100 * self.scale.sigma:.1f} %"
        if self.first:
            return f"The map is in metres now ({source}): it is {self.factor:.3g} times as large as before."
        return f"The scale of the map was corrected by {100 * (self.factor - 1):+.1f} % ({source})."


class ScaleEstimator:
    """Keeps a `KeyframeMap` in metres when a source of scale exists. known_baseline: see `MapperConfig`."""

    def __init__(self, known_baseline: float = 0.0) -> None:
        self._known_baseline = known_baseline
        self._odometry = OdometryMotions()
        self._predictions: deque[_Prediction] = deque(maxlen=MAX_PREDICTIONS)
        self._predicted = 0
        self._seen = (0, 0, 0)
        self._given = MapScale()

    def observe_odometry(self, keyframe_map: KeyframeMap, T_odom_cam: SE3) -> None:
        """Adds the odometry pose of the newest frame, metres."""
        self._odometry.observe(keyframe_map, T_odom_cam)

    def observe_prediction(self, keyframe_id: int, metres: float) -> None:
        """Adds the length in metres of the unit of a keyframe's pointmap, from a metric prediction."""
        if math.isfinite(metres) and metres > 0.0:
            self._predictions.append(_Prediction(keyframe_id, math.log(metres)))
            self._predicted += 1

    def update(self, keyframe_map: KeyframeMap) -> ScaleChange | None:
        """Writes down in the map how well its scale is known, and gives it another unit when that pays; None while it stays.

        It looks again whenever there is a new motion, prediction or keyframe; what that costs does not grow with the map.
        """
        seen = (self._odometry.made, self._predicted, next(reversed(keyframe_map.keyframes), 0))
        if seen == self._seen:
            return None
        self._seen, known = seen, keyframe_map.scale
        estimate = next((found for found in self._estimates(keyframe_map) if self._may_replace(known, found)), None)
        if estimate is None:
            return None
        keyframe_map.scale = self._given = MapScale(estimate.source, estimate.total_sigma)
        if known.metric and abs(estimate.log) < max(estimate.sigma, SMALLEST_CORRECTION):
            return None
        factor = math.exp(estimate.log)
        keyframe_map.rescale(factor)
        return ScaleChange(factor, keyframe_map.scale, first=not known.metric)

    def _may_replace(self, known: MapScale, estimate: _Estimate) -> bool:
        """A source renews what it gave; what another one gave, or was loaded with the map, is replaced by what is surer."""
        renewal = known == self._given and known.source == estimate.source
        return renewal or not known.metric or estimate.total_sigma < known.sigma

    def _estimates(self, keyframe_map: KeyframeMap) -> Iterator[_Estimate]:
        """The estimates of the sources, best first."""
        for source in (self._from_odometry, self._from_baseline, self._from_network):
            estimate = source(keyframe_map)
            if estimate is not None:
                yield estimate

    def _from_odometry(self, keyframe_map: KeyframeMap) -> _Estimate | None:
        mean = self._odometry.metres_per_unit(keyframe_map)
        if mean is None or mean.kept < MIN_MOTIONS or not mean.agree or mean.sigma > GOOD_SIGMA:
            return None
        lengthened = 0.5 * mean.scatter**2  # noise across a motion makes it longer in the map
        return _Estimate("odometry", mean.value + lengthened, math.hypot(mean.sigma, lengthened), ODOMETRY_FLOOR)

    def _from_baseline(self, keyframe_map: KeyframeMap) -> _Estimate | None:
        first, second = keyframe_map.keyframes.get(0), keyframe_map.keyframes.get(1)
        if self._known_baseline <= 0.0 or first is None or second is None:
            return None
        length = float(np.linalg.norm(second.T_world_cam.translation - first.T_world_cam.translation))
        return _Estimate("baseline", math.log(self._known_baseline / length), 0.0, BASELINE_SIGMA) if length > 0.0 else None

    def _from_network(self, keyframe_map: KeyframeMap) -> _Estimate | None:
        present = ((keyframe_map.keyframes.get(item.keyframe_id), item.log_metres) for item in self._predictions)
        logs = np.array([log - math.log(float(keyframe.T_world_cam.scale)) for keyframe, log in present if keyframe is not None])
        if len(logs) < MIN_PREDICTIONS:
            return None
        mean = robust_mean(logs, np.ones(len(logs)))
        return _Estimate("network", mean.value, max(NETWORK_SIGMA, mean.scatter) / math.sqrt(mean.count), NETWORK_FLOOR)


@dataclass(frozen=True)
class _Prediction:
    keyframe_id: int
    log_metres: float


@dataclass(frozen=True)
class _Estimate:
    """log: logarithm of the metres per map unit. sigma: its random error; floor: what the source may be wrong by in any case."""

    source: str
    log: float
    sigma: float
    floor: float

    @property
    def total_sigma(self) -> float:
        return max(self.sigma, self.floor)
