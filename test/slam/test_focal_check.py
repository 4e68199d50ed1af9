# SPDX-License-Identifier: Apache-2.0
"""When a calibration is doubted: several images that agree, or one that is very sure; never one vague image."""

from dataclasses import replace

import numpy as np
import pytest

from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.two_view_focal import FocalFit
from st3r_ros.slam.places.focal_check import FocalCheck, contradicts, is_same_camera, refocused
from st3r_ros.types import Features


def query(focal: float = 300.0, width: int = 320) -> Features:
    K = np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (width * 3 // 4 - 1) / 2], [0.0, 0.0, 1.0]])
    return Features(np.zeros((width * 3 // 4, width, 3), np.uint8), K, True)


def fit(factor: float, sigma: float = 0.01) -> FocalFit:
    return FocalFit(SE3.identity(), factor, sigma, np.eye(6))


def told(*fits: FocalFit) -> FocalCheck:
    check = FocalCheck()
    for one in fits:
        check.is_due(query())
        check.add(one)
    return check


@pytest.mark.parametrize("factors", [(1.0, 1.02, 0.97), (1.04, 0.9, 1.15, 1.2, 1.05, 0.95), (1.09,) * 20, (0.6, 1.5, 1.0, 0.95)])
def test_right_calibrations_are_not_doubted(factors):
    assert told(*map(fit, factors)).doubt is None


@pytest.mark.parametrize("wrong", [0.7, 0.85, 1.15, 1.3])
def test_images_that_agree_tell_a_wrong_one(wrong):
    check = told(*(fit(jitter / wrong) for jitter in np.linspace(0.96, 1.04, 11)))
    assert check.doubt.factor == pytest.approx(1 / wrong, rel=0.03) and check.doubt.images == 11
    sentence = check.doubt.sentence(None)
    assert (
        "calibration seems wrong" in sentence and f"{1 / wrong:.2f} times" in sentence and "leave the calibration out" in sentence
    )


def test_an_image_that_is_sure_tells_it_alone_and_a_vague_one_does_not():
    assert told(fit(1.43)).doubt is not None and told(fit(1.43, sigma=0.05)).doubt is None
    assert told(replace(fit(1.43), gain=0.05)).doubt is None  # nearly as good with the given one
    assert told(*[replace(fit(1.43), gain=0.05)] * 3).doubt is not None
    assert told(fit(1.43, sigma=0.3), fit(1.5, sigma=0.3)).doubt is None
    assert contradicts(fit(1.15)) and not contradicts(fit(1.08)) and not contradicts(fit(1.15, sigma=0.1))


def test_few_wrong_minima_do_not_hide_it():
    assert told(*(fit(1.43) for _ in range(6)), *(fit(1.0, sigma=0.05) for _ in range(6))).doubt.factor == pytest.approx(1.43)


def test_of_one_image_the_surest_fit_counts_and_another_camera_begins_anew():
    check, first = FocalCheck(), query()
    check.is_due(first)
    check.add(fit(1.0, sigma=0.02))
    check.is_due(first)
    check.add(fit(1.43, sigma=0.005))
    assert check.doubt.images == 1
    check.is_due(query(focal=420.0))
    assert check.doubt is None


def test_a_camera_without_doubts_is_checked_seldom():
    check = told(*(fit(1.0) for _ in range(30)))
    assert sum(check.is_due(query()) for _ in range(40)) == 4


def test_one_camera_at_two_sizes_is_the_same():
    assert is_same_camera(query(), query(150.0, 160)) and not is_same_camera(query(), query(330.0))
    assert refocused(query(), 2.0).K.tolist() == query(600.0).K.tolist()
