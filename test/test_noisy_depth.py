# SPDX-License-Identifier: Apache-2.0
"""The pair model noisy_depth errs as it says: every degradation by its statistics, the same way each time, fooled by twins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hall import CAMERA, Halls, look, view

from noisy_depth.correspondence import correspond
from noisy_depth.model import NoisyDepthModel
from noisy_depth.noise import BOLD_CONF, CONF, FAINT_CONF, degrade_depth, generator, nonsense_depth, smooth_field
from noisy_depth.views import TrueView
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.types import Features, Frame, PairPrediction


@dataclass
class Sight:
    """A model, and the frames it knows: one per pose, stamped by their number."""

    poses: list[SE3]
    seed: int = 0
    calibrated: bool = True
    twins: Halls | None = None

    def __post_init__(self) -> None:
        views = [view(T) for T in self.poses]
        self.model = NoisyDepthModel(
            lambda frame: views[frame.stamp_ns], seed=self.seed, calibrated=self.calibrated, twins=self.twins
        )

    def features(self, index: int):
        return self.model.encode(Frame(index, index, np.zeros((72, 96, 3), np.uint8), CAMERA))

    def predict(self, i: int, j: int, **options) -> PairPrediction:
        return self.model.predict(self.features(i), self.features(j), **options)


BESIDE = [look(-2.0, -3.5, 0.0), look(-1.6, -3.4, 4.0)]
STEPS = [look(-2.4 + 0.01 * i, -3.5, 0.0) for i in range(300)]


def log_ratio(prediction: PairPrediction, true: TrueView) -> np.ndarray:
    """Log of predicted over true depth of image 0's ordinary pixels."""
    ordinary = prediction.conf0.numpy() == np.float32(CONF)
    return np.log(prediction.X_0_0[..., 2].numpy()[ordinary] / true.depth[ordinary])


def same(a: PairPrediction, b: PairPrediction) -> bool:
    fields = ("X_0_0", "X_0_1", "conf0", "conf1")
    maps = all(torch.equal(getattr(a, name), getattr(b, name)) for name in fields)
    return maps and torch.equal(a.matches.pixels0, b.matches.pixels0) and torch.equal(a.matches.pixels1, b.matches.pixels1)


# The errors, one by one -------------------------------------------------------------------------------------------------


def test_every_pair_has_a_scale_of_its_own():
    sight = Sight(STEPS)
    scales = [np.median(log_ratio(sight.predict(i, i + 1), view(STEPS[i]))) for i in range(299)]
    assert np.std(scales) == pytest.approx(0.08, rel=0.12)
    assert abs(np.mean(scales)) < 0.015


def test_both_pointmaps_and_the_way_between_them_have_the_pairs_scale():
    sight = Sight(BESIDE)
    prediction, T_0_1 = sight.predict(0, 1), BESIDE[0].inverse() @ BESIDE[1]
    scale = np.exp(np.median(log_ratio(prediction, view(BESIDE[0]))))
    true = view(BESIDE[1])
    x, y = np.meshgrid(np.arange(96), np.arange(72))
    points = T_0_1 @ CAMERA.unproject(np.stack([x, y], -1), true.depth)
    ordinary = prediction.conf1.numpy() == np.float32(CONF)
    error = np.linalg.norm(prediction.X_0_1.numpy() / scale - points, axis=-1)[ordinary] / true.depth[ordinary]
    assert np.median(error) < 0.04  # without the scale in the translation it would be 0.08 * 0.4 m more
    assert np.abs(scale - 1.0) > 0.02


def test_smooth_fields_are_bilinear_between_nodes_of_3_percent():
    fields = np.stack([smooth_field(generator(1, i, purpose="test"), (49, 61), 0.03) for i in range(600)])
    nodes = fields[:, ::16, ::20]
    assert nodes.std() == pytest.approx(0.03, rel=0.05)
    assert np.abs(nodes.mean(0)).max() < 0.005
    assert np.corrcoef(nodes.reshape(600, 16).T)[~np.eye(16, dtype=bool)].max() < 0.2
    row = fields[:, 7, :21]
    np.testing.assert_allclose(np.diff(row, 2, axis=1), 0.0, atol=1e-6)


def test_pixels_err_by_one_percent_and_few_of_them_wildly():
    depth = np.full((480, 640), 2.0, np.float32)
    depth[:, :40] = 0.0
    seen = degrade_depth(generator(3, purpose="test"), depth, 2.0)
    there = depth > 0
    assert (seen.conf[~there] == 0).all() and (seen.conf[there] > 0).all()
    assert np.mean(seen.conf[there] == FAINT_CONF) == pytest.approx(0.02, rel=0.05)
    assert np.mean(seen.conf[there] == BOLD_CONF) == pytest.approx(0.005, rel=0.1)
    error = np.where(seen.conf == CONF, np.log(seen.depth, where=there, out=np.zeros_like(depth)) - np.log(2.0), np.nan)
    assert np.nanstd(np.diff(error[:, 40:])) == pytest.approx(0.01 * np.sqrt(2), rel=0.02)
    assert np.nanmax(np.abs(error)) < 0.2
    for conf in (FAINT_CONF, BOLD_CONF):
        wild = np.log(seen.depth[seen.conf == conf] / 2.0) / np.log(4.0)  # evenly from -1 to 1
        assert wild.std() == pytest.approx(3**-0.5, rel=0.06) and np.abs(wild).max() <= 1.0 and abs(wild.mean()) < 0.06


def test_confidence_is_the_claimed_depth_error():
    sight = Sight(STEPS)
    # The pair's scale is common to all pixels, so no error of a depth.
    errors = [np.std(log_ratio(sight.predict(i, i + 1), view(STEPS[i]))) for i in range(0, 299, 10)]
    claimed = sight.model.traits.relative_depth_sigma / np.sqrt(CONF)
    assert 0.5 * claimed < np.mean(errors) < claimed


def test_matches_are_true_to_seven_tenths_of_a_pixel_but_for_random_ones():
    sight = Sight(STEPS)
    errors, counts = [], []
    for i in range(0, 299, 10):
        matches = sight.predict(i, i + 1, dense=False).matches
        truth = correspond(view(STEPS[i]), view(STEPS[i + 1]))
        assert truth.overlap > 0.9
        grid = {tuple(p): q for p, q in zip(truth.pixels1.astype(int).tolist(), truth.pixels0, strict=True)}
        pixels0, pixels1 = matches.pixels0.numpy(), matches.pixels1.numpy()
        on_grid = [tuple(np.rint(p).astype(int).tolist()) in grid and np.allclose(p, np.rint(p)) for p in pixels1]
        errors += [p0 - grid[tuple(p1.astype(int).tolist())] for p0, p1 in zip(pixels0[on_grid], pixels1[on_grid], strict=True)]
        counts.append((len(matches), np.count_nonzero(on_grid), len(truth.pixels0)))
        assert (matches.weight == 1.0).all() and matches.possible == 24 * 18
        assert (matches.pixels0 >= 0).all() and (matches.pixels0 <= torch.tensor([95, 71])).all()
    total, true, possible = np.sum(counts, axis=0)
    assert np.std(errors, axis=0) == pytest.approx((0.7, 0.7), rel=0.05)
    assert (total - true) / possible == pytest.approx(0.1, abs=0.002)
    assert true / possible > 0.95  # the rest was moved out of the image by its noise


def test_wrong_matches_are_anywhere_and_in_no_order():
    sight = Sight(STEPS)
    matches = sight.predict(0, 1, dense=False).matches
    wrong = (matches.pixels1 % 1 != 0).any(1)
    assert 0.3 < wrong[: len(wrong) // 2].double().mean() / wrong.double().mean() < 1.7
    assert matches.pixels0[wrong].std(0).numpy() == pytest.approx((96 / 12**0.5, 72 / 12**0.5), rel=0.3)


# What is seen ------------------------------------------------------------------------------------------------------------


def test_what_the_pillar_hides_is_not_matched():
    left, right = view(look(-1.5, -3.0, 20.0)), view(look(1.5, -3.0, -20.0))
    truth = correspond(left, right)
    points = left.T_world_cam.inverse() @ right.grid_points
    pixels = CAMERA.project(points)
    inside = (pixels > 0).all(1) & (pixels < (95, 71)).all(1)
    hidden = inside & (points[:, 2] > 1.2 * left.depth[tuple(np.rint(pixels).astype(int)[:, ::-1].clip(0, (71, 95)).T)])
    matched = (right.grid_pixels[:, None] == truth.pixels1).all(-1).any(1)
    assert np.count_nonzero(hidden) > 20 and not (matched & hidden).any()
    assert np.count_nonzero(matched) > 0.8 * np.count_nonzero(inside & ~hidden) > 50
    np.testing.assert_allclose(truth.pixels0, pixels[matched], atol=1e-9)


def test_an_image_with_itself_has_depth_and_stays_where_it_is():
    prediction = Sight(BESIDE).predict(0, 0)
    assert len(prediction.matches) > 0.9 * prediction.matches.possible
    assert (prediction.matches.pixels0 - prediction.matches.pixels1).norm(dim=1).median() < 1.0
    assert np.std(log_ratio(prediction, view(BESIDE[0]))) < 0.06
    assert not torch.equal(prediction.X_0_0, prediction.X_0_1)  # each view errs in its own way


def test_pairs_without_overlap_give_confident_nonsense():
    poses = [look(-1.0, -1.0, 180.0), look(1.0, 1.0, 0.0)]
    sight = Sight(poses)
    assert correspond(view(poses[0]), view(poses[1])).overlap < 0.05
    prediction = sight.predict(0, 1)
    assert 0.3 <= len(prediction.matches) / prediction.matches.possible <= 0.9
    assert (prediction.matches.weight == 1.0).all()
    assert (prediction.conf0 == CONF).all() and (prediction.conf1 == CONF).all()
    assert prediction.X_0_0.isfinite().all() and prediction.X_0_1.isfinite().all()
    ratio = prediction.X_0_0[..., 2].numpy() / view(poses[0]).depth
    assert ratio.max() > 1.5 * ratio.min()
    made_up = np.log(nonsense_depth(generator(0, purpose="test"), (49, 61)).depth)
    np.testing.assert_allclose(np.diff(made_up[7, :21], 2), 0.0, atol=1e-5)  # bilinear, so smooth
    assert made_up.max() - made_up.min() > 0.3


def test_the_rule_of_5_percent_is_that_of_image_1s_grid():
    poses = [look(-2.0, -3.0, 0.0), *(look(-2.0, -3.0, yaw) for yaw in np.linspace(50, 70, 41))]
    sight = Sight(poses)
    shares = [correspond(view(poses[0]), view(poses[i])).overlap for i in range(1, 42)]
    nonsense = [bool((sight.predict(0, i).conf0 != CONF).sum() == 0) for i in range(1, 42)]
    assert nonsense == [share < 0.05 for share in shares]
    assert any(nonsense) and not all(nonsense)


def test_a_view_without_depth_matches_nothing_truly():
    blind = TrueView(np.zeros((72, 96), np.float32), CAMERA.K, BESIDE[0])
    views = [view(BESIDE[0]), blind]
    model = NoisyDepthModel(lambda frame: views[frame.stamp_ns])
    features = [model.encode(Frame(i, i, np.zeros((72, 96, 3), np.uint8))) for i in range(2)]
    for pair in (features, features[::-1], [features[1]] * 2):
        assert (model.predict(*pair).conf0 == CONF).all()
    assert float(model.describe(features[1]).norm()) == pytest.approx(1.0)


# The same each time ------------------------------------------------------------------------------------------------------


def test_a_pair_has_the_same_prediction_whenever_it_is_asked_for():
    first, later = Sight(BESIDE), Sight(BESIDE)
    expected = first.predict(0, 1)
    for i, j, dense in ((1, 0, True), (0, 0, True), (0, 1, False)):
        later.predict(i, j, dense=dense)
    assert same(expected, later.predict(0, 1, T_0_1=SE3.identity(), seed=expected.matches))
    sparse = later.predict(0, 1, dense=False)
    assert sparse.X_0_0 is None and torch.equal(sparse.matches.pixels0, expected.matches.pixels0)
    assert np.isnan(expected.parallax_deg)


def test_the_other_order_and_another_seed_err_otherwise():
    expected = Sight(BESIDE).predict(0, 1)
    assert not same(expected, Sight(BESIDE, seed=1).predict(0, 1))
    assert not torch.equal(expected.conf0, Sight(BESIDE).predict(1, 0).conf1)


def test_features_are_the_same_when_they_are_made_again_from_the_working_image():
    sight = Sight(BESIDE)
    large = Frame(0, 0, np.random.default_rng(0).integers(0, 255, (144, 192, 3)).astype(np.uint8))
    features = sight.model.encode(large)
    again = sight.model.encode(Frame(7, 0, features.image))
    assert features.image.shape == (72, 96, 3) and isinstance(features, Features)
    other = sight.features(1)
    assert same(sight.model.predict(features, other), sight.model.predict(again, other))
    assert torch.equal(sight.model.describe(features), sight.model.describe(again))


def test_an_uncalibrated_model_does_not_tell_its_camera():
    known, assumed = Sight(BESIDE).features(0), Sight(BESIDE, calibrated=False).features(0)
    assert known.K_known and np.allclose(known.K, CAMERA.K)
    assert not assumed.K_known and np.allclose(assumed.K, Camera.from_fov(96, 72, 60.0).K)
    prediction = Sight(BESIDE, calibrated=False).predict(0, 1)
    assert same(prediction, Sight(BESIDE).predict(0, 1))  # what it sees is the same


# Places --------------------------------------------------------------------------------------------------------------------


def test_descriptors_are_alike_where_views_overlap():
    rng = np.random.default_rng(5)
    poses = [look(rng.uniform(-2.4, 2.4), rng.uniform(-3.4, 3.4), rng.uniform(0, 360)) for _ in range(40)]
    poses = [T for T in poses if np.abs(T.translation[[0, 2]]).max() > 0.6]
    sight, views, count = Sight(poses), [view(T) for T in poses], len(poses)
    described = torch.stack([sight.model.describe(sight.features(i)) for i in range(count)])
    assert described.dtype == torch.float32 and torch.allclose(described.norm(dim=1), torch.ones(count))
    alike = (described @ described.T).numpy()
    overlap = np.array([[correspond(a, b).overlap for b in views] for a in views])
    overlap, other = np.minimum(overlap, overlap.T), ~np.eye(count, dtype=bool)
    assert alike[other & (overlap > 0.5)].mean() > alike[other & (overlap < 0.05)].mean() + 0.15
    assert np.median(np.abs(alike[other & (overlap < 0.01)])) < 0.2
    assert 0.4 < float(described[0] @ Sight(poses[:1], seed=1).model.describe(sight.features(0))) < 0.9  # noise of its own


def test_twins_are_taken_for_each_other_in_everything():
    here, there, there_really = look(-2.0, -3.5, 0.0), look(-1.6, -3.4, 4.0, room=1), look(-1.6, -3.4, 4.0)
    assert correspond(view(here), view(there)).overlap == 0.0
    for first, second, other in ((here, there, there_really), (there, here, None)):
        seeming = correspond(view(first), view(second), Halls())
        real = correspond(view(first), view(other)) if other else correspond(view(there_really), view(second))
        assert seeming.fooled and not real.fooled
        np.testing.assert_allclose(seeming.pixels0, real.pixels0, atol=1e-6)
        np.testing.assert_allclose(seeming.T_0_1.as_matrix(), real.T_0_1.as_matrix(), atol=1e-9)
    poses = [here, there]
    prediction = Sight(poses, twins=Halls()).predict(0, 1)
    assert len(prediction.matches) > 0.5 * prediction.matches.possible
    assert np.std(log_ratio(prediction, view(here))) < 0.06
    assert (Sight(poses).predict(0, 1).conf0 == CONF).all()  # without the twins it is nonsense
    assert likeness(Sight([there_really, there], twins=Halls())) > 0.4
    assert likeness(Sight([there_really, there])) < 0.3


def likeness(sight: Sight) -> float:
    """Of the descriptors of the first two frames."""
    first, second = (sight.model.describe(sight.features(i)) for i in range(2))
    return float(first @ second)


def test_twins_change_nothing_within_a_room():
    poses = [look(-2.0, -3.5, 0.0, room=1), look(-1.6, -3.4, 4.0, room=1)]
    assert same(Sight(poses, twins=Halls()).predict(0, 1), Sight(poses).predict(0, 1))
    apart = [look(-1.0, -1.0, 180.0), look(1.0, 1.0, 0.0, room=1)]
    assert (Sight(apart, twins=Halls()).predict(0, 1).conf0 == CONF).all()  # also twins must look at the same spot
