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

from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.optimization.odometry_motions import OdometryMotions
from st3r_ros.slam.optimization.robust_mean import RobustMean, robust_mean
from st3r_ros.types import MapScale

MIN_MOTIONS = 8
"""Minimum number of agreeing odometry motions for the scale."""
GOOD_SIGMA = 0.1
"""Maximum relative sigma of the scale from odometry."""
SMALLEST_CORRECTION = 0.02
"""Minimum correction, since each one moves all published data."""
ODOMETRY_FLOOR = 0.01
"""Systematic scale error of wheel and visual-inertial odometry, independent of the number of motions."""
OTHER_UNIT = 10.0
"""Factor between the scale of odometry and a known one from which odometry is in another unit."""
DEPTHS_M = (0.03, 1000.0)
"""Median distances of what the camera sees that are plausible, metres."""
USUAL_DEPTHS_M = (0.1, 50.0)
"""Others are plausible, but rare."""
OTHER_WAY_DEG = 45.0
"""Angle between the motions by odometry and by the camera from which odometry has other axes."""
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

    scale: what is known about the new unit. first: whether nothing was known about the one before. depth: how far what the camera
    sees is away now, metres, None while unknown.
    """

    factor: float
    scale: MapScale
    first: bool
    depth: float | None = None

    @property
    def message(self) -> str:
        """One sentence for the log and the status."""
        source = f"{self.scale.source}, sigma {100 * self.scale.sigma:.1f} %"
        if self.first:
            grown = f"The map is in metres now ({source}): it is {self.factor:.3g}"
            if self.depth is None:
                return f"{grown} times as large as before."
            away = f"{self.depth:.0f}" if self.depth >= 10.0 else f"{self.depth:.2g}"
            unit = "" if USUAL_DEPTHS_M[0] < self.depth < USUAL_DEPTHS_M[1] else " If that is wrong, odometry is in another unit."
            return f"{grown} times as large as before, and what the camera sees is about {away} m away.{unit}"
        return f"The scale of the map was corrected by {100 * (self.factor - 1):+.1f} % ({source})."


class ScaleEstimator:
    """Keeps a `KeyframeMap` in metres when a source of scale exists. known_baseline: see `MapperConfig`.

    odometry_fault: why the motions by odometry cannot be those of the camera, "" if they can.
    """

    def __init__(self, known_baseline: float = 0.0) -> None:
        self.odometry_fault = ""
        self._judged = 0
        self._known_baseline = known_baseline
        self._odometry = OdometryMotions()
        self._predictions: deque[_Prediction] = deque(maxlen=MAX_PREDICTIONS)
        self._predicted = 0
        self._seen = (0, 0, 0)
        self._given = MapScale()

    def observe_odometry(self, keyframe_map: KeyframeMap, T_odom_cam: SE3) -> None:
        """Adds the odometry pose of the newest frame, metres."""
        self._odometry.observe(keyframe_map, T_odom_cam)
        if self._odometry.made != self._judged:
            self._judge_odometry(keyframe_map)
            self._judged = self._odometry.made

    def break_off_odometry(self) -> None:
        """The next odometry pose does not continue those before."""
        self._odometry.break_off()

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
        return ScaleChange(factor, keyframe_map.scale, not known.metric, median_depth(keyframe_map))

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

    def _judge_odometry(self, keyframe_map: KeyframeMap) -> None:
        """Compares the motions by odometry with those of the camera: their unit and their direction."""
        angle, mean = self._odometry.degrees_apart(keyframe_map), self._odometry_mean(keyframe_map)
        if mean is not None:
            own = keyframe_map.scale == self._given and self._given.source == "odometry"
            self.odometry_fault = "" if own else _unit_fault(keyframe_map, math.exp(mean.value))
            if self.odometry_fault:
                self._odometry.begin_anew()
                return
        if angle is not None and angle > OTHER_WAY_DEG:
            self.odometry_fault = f"its motions point {angle:.0f} degrees away from the camera's; check the axes of both in TF"
        elif angle is not None:
            self.odometry_fault = ""

    def _odometry_mean(self, keyframe_map: KeyframeMap) -> RobustMean | None:
        """Logarithm of the metres per map unit by odometry, if its motions agree about it."""
        mean = self._odometry.metres_per_unit(keyframe_map)
        return mean if mean and mean.kept >= MIN_MOTIONS and mean.agree and mean.sigma <= GOOD_SIGMA else None

    def _from_odometry(self, keyframe_map: KeyframeMap) -> _Estimate | None:
        mean = None if self.odometry_fault else self._odometry_mean(keyframe_map)
        if mean is None:
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


def _unit_fault(keyframe_map: KeyframeMap, metres_per_unit: float) -> str:
    """Why odometry cannot be in metres, "" if it can."""
    unit = "is it in another unit than metres (REP-103)?"
    known = keyframe_map.scale
    if known.metric:
        if not 1.0 / OTHER_UNIT < metres_per_unit < OTHER_UNIT:
            return (
                f"its motions are {metres_per_unit:.3g} times as long as in the map, whose scale is from {known.source}; {unit}"
            )
        return ""
    depth = median_depth(keyframe_map)
    if depth is not None and not DEPTHS_M[0] < metres_per_unit * depth < DEPTHS_M[1]:
        return f"by its motions what the camera sees would be {metres_per_unit * depth:.3g} m away; {unit}"
    return ""


def median_depth(keyframe_map: KeyframeMap) -> float | None:
    """How far what the newest keyframe sees is away from it, map units."""
    keyframe = keyframe_map.keyframes[next(reversed(keyframe_map.keyframes))]
    depth = keyframe.X[::4, ::4, 2][keyframe.conf[::4, ::4] > 0]
    return float(depth.float().median()) * float(keyframe.T_world_cam.scale) if len(depth) else None
