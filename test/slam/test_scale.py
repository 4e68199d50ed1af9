# SPDX-License-Identifier: Apache-2.0
"""The scale of maps that are made up: a path in metres, the same path in map units with noise, and what odometry says of it."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.optimization.odometry_motions import MAX_MOTIONS, OdometryMotions
from st3r_ros.slam.optimization.robust_mean import robust_mean
from st3r_ros.slam.optimization.scale import SMALLEST_CORRECTION, ScaleChange, ScaleEstimator
from st3r_ros.types import FramePose, Keyframe, MapScale

UNIT = 0.4
"""Metres that the made-up maps begin with as their unit."""
PERIOD_NS = 100_000_000


def add_keyframe(keyframe_map: KeyframeMap, T_world_cam: Sim3) -> Keyframe:
    number = len(keyframe_map.keyframes)
    image = np.zeros((2, 2, 3), np.uint8)
    keyframe = Keyframe(number, 0, 0, T_world_cam, torch.zeros(2, 2, 3), torch.zeros(2, 2), image, np.eye(3))
    keyframe_map.add_keyframe(keyframe)
    return keyframe


def curve(count: int, step: float = 0.05) -> np.ndarray:
    """Positions (count, 3) in metres along a winding path, `step` metres apart."""
    heading = np.cumsum(np.full(count, 0.5 * step))
    moves = step * np.stack([np.cos(heading), 0.3 * np.sin(0.7 * heading), np.sin(heading)], axis=1)
    return np.cumsum(moves / np.linalg.norm(moves, axis=1, keepdims=True) * step, axis=0)


@dataclass
class Journey:
    """A camera on its way: the map knows its frames up to scale and noise, odometry in metres, from an origin of its own.

    noise: of a frame's position in the map, metres. drift: factor by which the map's unit grows per metre. depth: how far what
    the keyframes see is, metres; 0 for unknown.
    """

    noise: float = 0.005
    drift: float = 0.0
    seed: int = 0
    known_baseline: float = 0.0
    depth: float = 0.0
    map: KeyframeMap = field(default_factory=KeyframeMap)
    changes: list[ScaleChange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.estimator = ScaleEstimator(self.known_baseline)
        self.T_odom_world = SE3.exp(np.array([3.0, -2.0, 0.5, 0.1, 0.2, 1.0]))
        self.unit = UNIT  # that in which the next frame comes, as long as the map is not rescaled
        self.steps = 0

    def frame(self, position: np.ndarray, odometry: np.ndarray | None = None) -> ScaleChange | None:
        """The next frame at a true position; odometry: where it claims to be, None for nowhere."""
        factor = math.prod(change.factor for change in self.changes)
        if self.steps % 10 == 0:
            new = add_keyframe(self.map, Sim3(np.eye(3), factor * position / self.unit, np.float64(factor * 0.7)))
            if self.depth:
                new.X[..., 2], new.conf[:] = self.depth / (0.7 * self.unit), 1.0
        keyframe = list(self.map.keyframes.values())[-1]
        seen = factor * (position + self.rng.normal(0.0, self.noise, 3)) / self.unit
        T_kf_cam = keyframe.T_world_cam.inverse() @ Sim3(np.eye(3), seen, keyframe.T_world_cam.scale)
        self.map.frames.append(FramePose(self.steps, self.steps * PERIOD_NS, keyframe.id, T_kf_cam))
        self.steps += 1
        if odometry is not None:
            self.estimator.observe_odometry(self.map, self.T_odom_world @ SE3(np.eye(3), odometry))
        change = self.estimator.update(self.map)
        if change is not None:
            self.changes.append(change)
        return change

    def walk(self, positions: np.ndarray, odometry: np.ndarray | None = None) -> None:
        """Frames along positions (N, 3), odometry right unless other positions are given."""
        for position, claimed in zip(positions, positions if odometry is None else odometry, strict=True):
            self.unit *= 1.0 + self.drift * 0.05
            self.frame(position, claimed)

    @property
    def metres_per_unit(self) -> float:
        """The true one of the map as it is now; 1 is right."""
        return self.unit / math.prod(change.factor for change in self.changes)


# Odometry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02])
def test_odometry_tells_the_scale_within_its_sigma(noise: float, seed: int) -> None:
    journey = Journey(noise, seed=seed)
    journey.walk(curve(400))
    scale = journey.map.scale
    assert scale.source == "odometry" and 0.01 <= scale.sigma < 0.03
    assert abs(math.log(journey.metres_per_unit)) < max(3.0 * scale.sigma, SMALLEST_CORRECTION)


def test_the_claimed_sigma_is_that_of_the_errors() -> None:
    """Over many seeds the errors of the first estimate are as large as it says: neither boasting nor shy."""
    errors = []
    for seed in range(60):
        journey = Journey(noise=0.02, seed=seed)
        journey.walk(curve(50))
        first = journey.changes[0]
        errors.append(math.log(first.factor / UNIT) / first.scale.sigma)
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) < 1.7


def test_the_first_metres_tell_the_scale() -> None:
    journey = Journey()
    journey.walk(curve(45))
    assert [change.first for change in journey.changes] == [True]
    assert journey.changes[0].factor == pytest.approx(UNIT, rel=0.05)
    assert "metres" in journey.changes[0].message and "odometry" in journey.changes[0].message
    before = Journey()
    before.walk(curve(20))  # a metre
    assert not before.changes and before.map.scale == MapScale()


def test_the_whole_map_gets_the_new_unit() -> None:
    """Keyframes, their points and all frames, from the first to the last, are in metres."""
    journey = Journey(noise=0.0)
    way = curve(60)
    journey.walk(way)
    trajectory = journey.map.trajectory()
    np.testing.assert_allclose(trajectory.positions, way, rtol=2e-2, atol=1e-3)
    scales = [float(keyframe.T_world_cam.scale) for keyframe in journey.map.keyframes.values()]
    np.testing.assert_allclose(scales, 0.7 * UNIT, rtol=1e-2)


def test_a_small_error_is_left_as_it_is() -> None:
    """Later estimates are surer, but the unit only moves when it is clearly wrong."""
    journey = Journey()
    journey.walk(curve(600))
    assert len(journey.changes) <= 2
    assert all(abs(change.factor - 1.0) >= SMALLEST_CORRECTION for change in journey.changes[1:])


def test_the_sigma_shrinks_without_a_change_of_the_unit() -> None:
    journey = Journey(noise=0.02, seed=3)
    journey.walk(curve(35))
    early = journey.map.scale.sigma
    journey.walk(curve(400)[35:])
    assert journey.map.scale.sigma < early / 2


def test_a_map_that_drifts_is_corrected_in_steps_and_says_how_unsure_it_is() -> None:
    journey = Journey(drift=0.01)
    journey.walk(curve(800))  # 40 m, over which the unit grows by half
    assert 2 <= len(journey.changes) <= 20
    assert journey.map.scale.sigma > 0.02
    begin, end = UNIT, journey.unit
    factor = math.prod(change.factor for change in journey.changes)
    assert begin < factor < end


def test_standing_still_tells_nothing() -> None:
    journey = Journey(noise=0.02)
    rng = np.random.default_rng(1)
    journey.walk(np.zeros((300, 3)), rng.normal(0.0, 0.003, (300, 3)))
    assert not journey.changes and journey.map.scale == MapScale()


def test_a_pause_changes_nothing() -> None:
    way = curve(200)
    rested = np.concatenate([way[:100], np.repeat(way[99:100], 300, axis=0), way[100:]])
    journey = Journey()
    journey.walk(rested, rested + np.random.default_rng(0).normal(0.0, 0.002, rested.shape))
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.025)
    assert journey.map.scale.sigma < 0.02


def test_a_camera_that_only_swings_to_and_fro_has_a_scale() -> None:
    """By hand, before a desk: it never gets far from where it began."""
    t = np.arange(600) * 0.1
    way = 0.25 * np.stack([np.sin(1.1 * t), 0.2 * np.sin(1.7 * t), 0.3 * np.sin(0.6 * t)], axis=1)
    journey = Journey()
    journey.walk(way)
    assert journey.map.scale.source == "odometry"
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.03)


def test_odometry_that_starts_anew_does_no_harm() -> None:
    way = curve(400)
    claimed = way.copy()
    claimed[150:] -= way[150] + 5.0
    claimed[200:] += 1e5
    claimed[250:] += [0.0, 1.0, 0.0]  # not faster than a car
    journey = Journey()
    journey.walk(way, claimed)
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.025)
    assert journey.map.scale.sigma < 0.02


def test_wheels_that_do_not_turn_while_the_robot_is_carried() -> None:
    way = curve(400)
    moves = np.diff(way, axis=0, prepend=0.0)
    moves[150:200] = 0.0
    journey = Journey()
    journey.walk(way, np.cumsum(moves, axis=0))
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.025)


def test_some_wrong_motions_are_left_out() -> None:
    """Every fifth metre the wheels slip, and the map has frames that are far off."""
    way = curve(600)
    moves = np.diff(way, axis=0, prepend=0.0)
    moves[np.arange(600) % 100 >= 80] *= 1.7
    journey = Journey()
    journey.walk(way, np.cumsum(moves, axis=0))
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.03)


def test_odometry_that_has_nothing_to_do_with_the_map_tells_nothing() -> None:
    rng = np.random.default_rng(5)
    journey = Journey()
    moves = rng.normal(0.0, 1.0, (300, 3)) * np.exp(rng.normal(0.0, 1.5, (300, 1))) * 0.05
    journey.walk(np.cumsum(rng.normal(0.0, 0.05, (300, 3)), axis=0), np.cumsum(moves, axis=0))
    scale = journey.map.scale
    assert scale.source == "none" or scale.sigma > 0.04


@pytest.mark.parametrize("spoil", [np.array([1.0, 1.0, -1.0]), np.array([-1.0, -1.0, -1.0])])
def test_odometry_with_other_axes_is_refused_until_it_is_mended(spoil: np.ndarray) -> None:
    """Wrong in z, along which the path goes most, or in all."""
    way = curve(200) * [0.3, 1.0, 1.0]
    journey = Journey()
    journey.walk(way[:60], way[:60] * spoil)
    assert "degrees away from the camera's; check the axes" in journey.estimator.odometry_fault
    assert journey.map.scale == MapScale()
    journey.walk(way[60:])
    assert journey.estimator.odometry_fault == ""
    assert journey.map.scale.source == "odometry"
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("known", [True, False])
def test_odometry_in_another_unit_is_refused_until_it_is_mended(known: bool) -> None:
    """By a scale that is known from elsewhere, or by how far what the camera sees would be."""
    way = curve(400)
    journey = Journey(depth=30.0)
    if known:
        journey.map.scale = MapScale("network", 0.005)
    journey.walk(way[:60], 50.0 * way[:60])
    assert "another unit than metres" in journey.estimator.odometry_fault
    assert not journey.changes
    journey.walk(way[60:])
    assert journey.estimator.odometry_fault == ""
    if not known:
        assert journey.metres_per_unit == pytest.approx(1.0, abs=0.03)


def test_images_without_odometry_are_bridged() -> None:
    journey = Journey()
    for index, position in enumerate(curve(200)):
        journey.frame(position, position if index % 3 == 0 else None)
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.03)


def test_a_map_that_begins_anew_is_not_mixed_with_the_old_one() -> None:
    journey = Journey()
    journey.walk(curve(100))
    assert journey.map.scale.metric
    journey.map.clear()
    journey.changes.clear()
    journey.unit, journey.steps = 5.0, 1000
    journey.walk(curve(10))
    assert not journey.changes
    journey.walk(curve(200)[10:])
    assert journey.map.scale.source == "odometry"
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.03)


def test_corrections_of_the_map_are_in_the_estimate() -> None:
    """A loop shows that the second half of the map was too small by a tenth."""
    journey = Journey(noise=0.0)
    way = curve(400)
    journey.walk(way[:200])
    journey.unit *= 1.1
    journey.walk(way[200:])
    unsure = journey.map.scale.sigma
    for keyframe in list(journey.map.keyframes.values())[20:]:
        T = keyframe.T_world_cam
        keyframe.T_world_cam = Sim3(T.rotation, T.translation * 1.1, T.scale * 1.1)
    journey.unit = UNIT
    journey.walk(way[-1] + curve(40))
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.025)
    assert journey.map.scale.sigma < 0.5 * unsure


def test_memory_and_time_are_bounded() -> None:
    asked: list[int] = []

    class Asked(KeyframeMap):
        """Notes the frames whose poses the estimate is made from: the begin and the end of each motion."""

        def T_world_cam(self, place: int) -> SE3:
            asked.append(place)
            return super().T_world_cam(place)

    motions, keyframe_map = OdometryMotions(), Asked()
    add_keyframe(keyframe_map, Sim3.identity())
    for index in range(4000):
        position = np.array([0.5 * index, 0.0, 0.0])
        keyframe_map.frames.append(FramePose(index, index * PERIOD_NS, 0, Sim3(np.eye(3), position, np.float64(1.0))))
        motions.observe(keyframe_map, SE3(np.eye(3), 3.0 * position))
    assert motions.made > 10 * MAX_MOTIONS
    mean = motions.metres_per_unit(keyframe_map)
    assert mean is not None and mean.given == MAX_MOTIONS
    assert mean.value == pytest.approx(math.log(3.0))
    begins = asked[::2]
    assert len(begins) == MAX_MOTIONS
    assert np.histogram(begins, bins=4, range=(0, 4000))[0].min() > MAX_MOTIONS / 8


# The other sources ---------------------------------------------------------------------------------------------------


def network_map(predictions: np.ndarray, estimator: ScaleEstimator) -> tuple[KeyframeMap, list[ScaleChange]]:
    """A keyframe per prediction, each in a unit of its own; predictions: metres per world unit."""
    keyframe_map, changes, factor = KeyframeMap(), [], 1.0
    for number, metres in enumerate(predictions):
        own = np.exp(np.random.default_rng(number).normal())
        add_keyframe(keyframe_map, Sim3(np.eye(3), np.full(3, float(number)), np.float64(own * factor)))
        estimator.observe_prediction(number, float(metres * own))
        change = estimator.update(keyframe_map)
        if change is not None:
            changes.append(change)
            factor *= change.factor
    return keyframe_map, changes


def test_a_metric_network_tells_the_scale_from_the_first_few_predictions() -> None:
    keyframe_map, changes = network_map(np.ones(4), ScaleEstimator())
    assert not keyframe_map.scale.metric and not changes
    keyframe_map, changes = network_map(np.ones(5), ScaleEstimator())
    assert keyframe_map.scale == MapScale("network", pytest.approx(0.08 / math.sqrt(5)))
    assert [change.factor for change in changes] == [pytest.approx(1.0)]


@pytest.mark.parametrize("seed", range(10))
def test_many_predictions_are_surer_than_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions = np.exp(rng.normal(0.0, 0.08, 200))
    predictions[rng.random(200) < 0.1] *= 4.0
    predictions *= UNIT
    keyframe_map, changes = network_map(predictions, ScaleEstimator())
    assert keyframe_map.scale == MapScale("network", 0.03)
    assert len(changes) <= 12
    expected = robust_mean(np.log(predictions), np.ones(200)).value
    assert math.log(math.prod(change.factor for change in changes)) == pytest.approx(expected, abs=SMALLEST_CORRECTION + 1e-6)


def test_senseless_predictions_are_ignored() -> None:
    estimator = ScaleEstimator()
    keyframe_map = KeyframeMap()
    add_keyframe(keyframe_map, Sim3.identity())
    for metres in (math.nan, math.inf, 0.0, -1.0):
        estimator.observe_prediction(0, metres)
    estimator.observe_prediction(7, 1.0)  # a keyframe that is no longer there
    assert estimator.update(keyframe_map) is None
    assert keyframe_map.scale == MapScale()


def test_a_known_baseline_gives_the_distance_of_the_first_two_keyframes() -> None:
    journey = Journey(noise=0.0, known_baseline=0.12)
    for position in curve(60):
        journey.frame(position)
    assert journey.map.scale == MapScale("baseline", 0.05)
    first, second = (journey.map.keyframes[i].T_world_cam.translation for i in (0, 1))
    assert np.linalg.norm(second - first) == pytest.approx(0.12)
    assert len(journey.changes) == 1


def test_odometry_replaces_a_baseline_when_it_is_surer() -> None:
    journey = Journey(noise=0.005, known_baseline=0.9)  # wrong: it is 0.5
    journey.walk(curve(300))
    assert journey.changes[0].scale.source == "baseline"
    assert journey.map.scale.source == "odometry"
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.03)


def test_odometry_replaces_a_network_when_it_is_surer_and_never_the_other_way_round() -> None:
    journey = Journey(noise=0.005)
    sources = []
    for position in curve(300):
        journey.frame(position, position)
        factor = math.prod(change.factor for change in journey.changes)
        # The network errs by a fifth, all the time: metres per unit of the keyframe.
        newest = next(reversed(journey.map.keyframes.values()))
        journey.estimator.observe_prediction(newest.id, 1.2 * journey.unit * float(newest.T_world_cam.scale) / factor)
        sources.append(journey.map.scale.source)
    assert [source for source, _ in itertools.groupby(sources)] == ["none", "network", "odometry"]
    assert journey.metres_per_unit == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("loaded", "kept"), [(MapScale("odometry", 0.01), True), (MapScale("network", 0.08), False)])
def test_a_loaded_map_keeps_its_unit_unless_something_is_surer(loaded: MapScale, kept: bool) -> None:
    journey = Journey()
    journey.map.scale = loaded
    journey.walk(curve(200))
    assert (journey.map.scale == loaded) is kept
    assert bool(journey.changes) is not kept


# The mean ------------------------------------------------------------------------------------------------------------


def test_outliers_do_not_move_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 0.05, 100)
    values[::4] += 3.0
    mean = robust_mean(values, np.ones(100))
    assert mean.value == pytest.approx(2.0, abs=0.02)
    assert mean.kept <= 75 and mean.agree
    assert mean.scatter == pytest.approx(0.05, rel=0.3)


def test_equal_weights_count_fully_and_a_heavy_one_alone() -> None:
    values = np.random.default_rng(0).normal(size=(20, 50))
    assert np.median([robust_mean(row, np.ones(50)).count for row in values]) == pytest.approx(50, rel=0.2)
    heavy = robust_mean(values[0], np.where(np.arange(50) == 7, 1e6, 1.0))
    assert heavy.count == pytest.approx(1.0, abs=0.01)
    assert heavy.value == pytest.approx(values[0, 7], abs=1e-3)


def test_neighbours_that_err_alike_count_less() -> None:
    rng = np.random.default_rng(0)
    drifts = np.cumsum(rng.normal(0.0, 0.02, (20, 128)), axis=1)
    assert np.median([robust_mean(drift, np.ones(128)).count for drift in drifts]) < 128 / 8
    assert np.median([robust_mean(rng.permutation(drift), np.ones(128)).count for drift in drifts]) > 128 / 2


def test_one_value_is_its_own_mean() -> None:
    mean = robust_mean(np.array([0.3]), np.ones(1))
    assert (mean.value, mean.scatter, mean.kept) == (0.3, 0.0, 1)
