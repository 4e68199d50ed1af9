# SPDX-License-Identifier: Apache-2.0
"""Errors of localized poses: what each figure means, and that a covariance that is right has a normalised error of six."""

import math

import numpy as np
import pytest

from st3r_ros.eval.relocalization import PoseError, normalised_error, pose_error, summarise_attempts
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3

TRUE = SE3(so3.exp(np.array([0.3, -1.2, 0.4])), np.array([0.6, -0.2, 2.0]))


def turned(degrees: float, shift: np.ndarray) -> SE3:
    """The true pose, turned about a fixed axis and shifted."""
    return SE3(so3.exp(np.radians(degrees) * np.array([0.0, 0.6, 0.8])) @ TRUE.rotation, TRUE.translation + shift)


def error(translation: float = 0.0, rotation_deg: float = 0.0, direction_deg: float = 0.0) -> PoseError:
    return PoseError(translation, rotation_deg, direction_deg)


def test_errors_of_one_pose():
    found = pose_error(turned(7.0, np.array([0.03, 0.0, -0.04])), TRUE, metric=True)
    assert found.translation == pytest.approx(0.05) and found.rotation_deg == pytest.approx(7.0)
    assert 0.5 < found.direction_deg < 1.5 and math.isnan(found.nees)


def test_without_a_unit_only_the_direction_counts():
    found = pose_error(SE3(TRUE.rotation, TRUE.translation / np.linalg.norm(TRUE.translation)), TRUE, metric=False)
    assert math.isnan(found.translation) and found.direction_deg == pytest.approx(0.0, abs=1e-6) and not found.false
    backwards = pose_error(SE3(TRUE.rotation, -TRUE.translation), TRUE, metric=False)
    assert backwards.direction_deg == pytest.approx(180.0) and backwards.false


def test_a_query_at_the_place_of_the_reference_has_no_direction():
    assert math.isnan(pose_error(TRUE, SE3(TRUE.rotation, np.zeros(3)), metric=True).direction_deg)
    assert math.isnan(pose_error(SE3(TRUE.rotation, np.zeros(3)), TRUE, metric=True).direction_deg)


def test_the_normalised_error_of_a_right_covariance_is_six():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(6, 6)) * np.array([0.02, 0.02, 0.02, 0.004, 0.004, 0.004])[:, None]
    C = A @ A.T
    draws = rng.multivariate_normal(np.zeros(6), C, 2000)
    poses = (SE3(so3.exp(d[3:]) @ TRUE.rotation, TRUE.translation + d[:3]) for d in draws)
    nees = [pose_error(T, TRUE, metric=True, covariance=C).nees for T in poses]
    assert np.mean(nees) == pytest.approx(6.0, rel=0.08)


def test_errors_in_standard_deviations():
    C = np.diag([0.01, 0.02, 0.01, 0.001, 0.002, 0.001]) ** 2
    moved = SE3(TRUE.rotation, TRUE.translation + np.array([0.0, 0.05, 0.0]))
    assert pose_error(moved, TRUE, metric=True, covariance=C).sigmas == pytest.approx(2.5)
    assert pose_error(turned(np.degrees(0.008), np.zeros(3)), TRUE, metric=True, covariance=C).sigmas == pytest.approx(4.0)
    twice = SE3(TRUE.rotation, 2.0 * TRUE.translation)  # the same direction
    assert pose_error(twice, TRUE, metric=False, covariance=C).sigmas == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(pose_error(TRUE, TRUE, metric=True).sigmas)
    answers = [PoseError(0.1, 1.0, 1.0, sigmas=value) for value in (0.5, 2.0, 3.5, math.nan)]
    assert summarise_attempts(answers).in_3_sigma == pytest.approx(2 / 3)


def test_a_covariance_that_is_none_has_no_normalised_error():
    assert math.isnan(normalised_error(np.ones(6), np.zeros((6, 6))))
    assert math.isnan(normalised_error(np.ones(6), np.full((6, 6), np.nan)))


def test_shares_are_of_all_attempts_and_medians_of_the_answers():
    figures = summarise_attempts([error(0.1, 1.0), error(0.3, 1.5), error(0.2, 6.0, 40.0), None, None])
    assert (figures.attempts, figures.answered, figures.metric, figures.false_accepts) == (5, 3, 3, 0)
    assert (figures.shares.fine, figures.shares.coarse, figures.shares.directed) == pytest.approx((0.2, 0.4, 0.4))
    assert figures.median_translation == pytest.approx(0.2) and figures.median_rotation_deg == 1.5
    assert math.isnan(figures.nees)


@pytest.mark.parametrize(
    ("answer", "false"),
    [
        (error(0.4, 9.0, 30.0), False),
        (error(0.6, 1.0), True),
        (error(0.0, 11.0), True),
        (error(math.nan, 1.0, 11.0), True),
        (error(math.nan, 1.0, math.nan), False),
    ],
)
def test_an_answer_is_false_beyond_ten_degrees_or_half_a_metre(answer, false):
    assert answer.false is false and summarise_attempts([answer]).false_accepts == int(false)


def test_of_nothing_there_are_no_figures():
    figures = summarise_attempts([])
    assert figures.attempts == figures.answered == 0 and math.isnan(figures.shares.fine)
    assert math.isnan(summarise_attempts([None]).median_rotation_deg) and summarise_attempts([None]).shares.fine == 0.0
