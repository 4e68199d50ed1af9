# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transform_strategies import properties, sim3_tangents

from st3r_ros.errors import GeometryError
from st3r_ros.geometry.alignment import robust_align, umeyama
from st3r_ros.geometry.transforms import Sim3

seeds = st.integers(0, 2**31)


def distance(a: Sim3, b: Sim3) -> float:
    return float(np.abs((a.inverse() @ b).log()).max())


def points(seed: int, count: int = 40, *, flat: bool = False) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 3)) * (3.0, 2.0, 1.0) + (5.0, -4.0, 3.0)
    return drawn * (1.0, 1.0, 0.0) if flat else drawn


@properties
@given(sim3_tangents, seeds, st.booleans())
def test_umeyama_recovers_an_exact_similarity(xi, seed, flat):
    T, source = Sim3.exp(xi), points(seed, flat=flat)
    found = umeyama(source, T @ source)
    np.testing.assert_allclose(found @ source, T @ source, atol=1e-9 * np.abs(T @ source).max())
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)


@properties
@given(sim3_tangents, seeds)
def test_umeyama_without_scale_recovers_an_exact_rigid_transform(xi, seed):
    T, source = Sim3.exp(xi).se3(), points(seed)
    found = umeyama(source, T @ source, with_scale=False)
    assert found.scale == 1.0
    np.testing.assert_allclose(found.as_matrix(), T.as_matrix(), atol=1e-9)


@properties
@given(seeds)
def test_umeyama_is_the_weighted_least_squares_minimum(seed):
    rng = np.random.default_rng(seed)
    source, target, weights = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), rng.uniform(0.0, 1.0, 20)

    def cost(T: Sim3) -> float:
        return float(weights @ ((T @ source - target) ** 2).sum(axis=1))

    for with_scale in (True, False):
        best = umeyama(source, target, weights, with_scale)
        moves = 1e-3 * np.vstack([np.eye(7), -np.eye(7)])[:, : 7 if with_scale else 6]
        moves = np.pad(moves, ((0, 0), (0, 7 - moves.shape[1])))
        assert all(cost(Sim3.exp(xi) @ best) >= cost(best) - 1e-12 for xi in moves)


@properties
@given(seeds)
def test_a_weight_counts_like_repeated_pairs(seed):
    rng = np.random.default_rng(seed)
    source, target, counts = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), rng.integers(0, 4, 9)
    counts[:4] += 1
    repeated = umeyama(np.repeat(source, counts, axis=0), np.repeat(target, counts, axis=0))
    np.testing.assert_allclose(umeyama(source, target, counts).as_matrix(), repeated.as_matrix(), atol=1e-9)


def test_mirrored_points_still_give_a_rotation():
    source = points(0)
    assert np.linalg.det(umeyama(source, source * (-1.0, 1.0, 1.0)).rotation) == pytest.approx(1.0)


@pytest.mark.parametrize("loss", ["cauchy", "huber"])
@pytest.mark.parametrize("seed", range(5))
def test_wrong_pairs_do_not_bend_a_robust_alignment(loss, seed):
    rng = np.random.default_rng(seed)
    T, source = Sim3.exp(rng.normal(size=7) * (3, 3, 3, 1, 1, 1, 0.5)), rng.normal(size=(300, 3))
    target = T @ source + rng.normal(scale=0.01, size=source.shape)
    target[:90] = rng.uniform(-10.0, 10.0, (90, 3))
    found = robust_align(source, target, loss=loss)
    assert distance(found.T_target_source, T) < 0.02
    assert distance(umeyama(source, target), T) > 0.1
    assert found.converged
    assert found.sigma == pytest.approx(0.01, rel=0.5)
    assert found.inliers[90:].mean() > 0.97
    assert found.inliers[:90].mean() < 0.05
    assert found.weights[:90].mean() < 0.2 < found.weights[90:].mean()


def test_the_result_describes_itself():
    rng = np.random.default_rng(0)
    source, prior = rng.normal(size=(50, 3)), rng.uniform(0.1, 1.0, 50)
    target = source + rng.normal(scale=0.1, size=source.shape)
    found = robust_align(source, target, prior, with_scale=False, loss="huber", sigma=0.05)
    residuals = np.linalg.norm(found.T_target_source @ source - target, axis=1)
    assert found.T_target_source.scale == 1.0
    np.testing.assert_allclose(found.residuals, residuals)
    np.testing.assert_allclose(found.weights, np.minimum(1.0, 1.345 * 0.05 / residuals))
    np.testing.assert_array_equal(found.inliers, residuals <= 3.368 * 0.05)
    assert found.rmse == pytest.approx(np.sqrt(np.average(residuals**2, weights=prior * found.weights)))


def test_pairs_without_prior_weight_do_not_count():
    rng = np.random.default_rng(3)
    source = points(1, 400)
    target = source + np.array([1.0, 2.0, 3.0]) + rng.normal(scale=0.01, size=source.shape)
    target[:300] = rng.uniform(-100.0, 100.0, (300, 3))
    found = robust_align(source, target, np.r_[np.zeros(300), np.ones(100)])
    np.testing.assert_allclose(found.T_target_source.translation, (1.0, 2.0, 3.0), atol=0.02)
    assert found.sigma == pytest.approx(0.01, rel=0.3)


def test_exact_pairs_have_no_outliers():
    source = points(2)
    found = robust_align(source, Sim3.exp(np.full(7, 0.3)) @ source)
    assert found.inliers.all()
    assert found.rmse < 1e-12


LINE = np.outer(np.arange(10.0), (1.0, 2.0, 3.0)) + 7.0


@pytest.mark.parametrize(
    ("source", "target", "weights", "words"),
    [
        (LINE, points(0, 10), None, "collinear"),
        (points(0, 10), LINE, None, "collinear"),
        (np.full((10, 3), 0.1), points(0, 10), None, "collinear or coincide"),
        (points(0, 10), np.full((10, 3), 0.1), None, "collinear or coincide"),
        (points(0, 2), points(1, 2), None, "2 weighted point pairs"),
        (np.zeros((0, 3)), np.zeros((0, 3)), None, "0 weighted point pairs"),
        (points(0, 10), points(1, 10), np.r_[1.0, 1.0, np.zeros(8)], "2 weighted point pairs"),
        (points(0, 10), points(1, 9), None, "same shape"),
        (points(0, 10)[:, :2], points(1, 10)[:, :2], None, "same shape"),
        (points(0, 10), points(1, 10), np.ones(9), "as many weights"),
        (points(0, 10), points(1, 10), -np.ones(10), "negative"),
        (points(0, 10) * np.nan, points(1, 10), None, "not finite"),
        (points(0, 10), points(1, 10), np.full(10, np.inf), "not finite"),
    ],
)
@pytest.mark.parametrize("align", [umeyama, robust_align])
def test_pairs_that_determine_nothing_are_refused(align, source, target, weights, words):
    with pytest.raises(GeometryError, match=words):
        align(source, target, weights)


@pytest.mark.parametrize("wrong", [{"loss": "l3"}, {"sigma": 0.0}, {"sigma": float("nan")}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        robust_align(points(0), points(1), **wrong)
