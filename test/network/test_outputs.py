# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from st3r_ros.network.config import Activation
from st3r_ros.network.outputs import confidence, pointmap, unit_descriptors

UNLIMITED = (-math.inf, math.inf)
RAW = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("mode", "length"), [("exp", torch.expm1), ("linear", lambda x: x), ("square", torch.square)])
def test_points_keep_their_direction_and_their_distance_grows_by_the_mode(mode, length):
    X = pointmap(RAW, Activation(mode, *UNLIMITED))
    torch.testing.assert_close(X.norm(dim=-1), length(RAW.norm(dim=-1)))
    torch.testing.assert_close(torch.linalg.cross(X, RAW), torch.zeros_like(RAW), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("mode", ["exp", "linear", "square"])
def test_a_point_at_the_camera_and_one_next_to_it_are_finite(mode):
    raw = torch.tensor([[0.0, 0.0, 0.0], [1e-12, 0.0, 0.0]])
    X = pointmap(raw, Activation(mode, *UNLIMITED))
    assert torch.equal(X[0], raw[0]) and X[1].isfinite().all() and X[1].norm() < 1e-11


def test_confidence_lies_between_its_limits_and_grows():
    raw = torch.linspace(-60.0, 60.0, 121, dtype=torch.float64)
    for mode in (Activation("exp", 1.0, math.inf), Activation("exp", 1.0, 5.0), Activation("sigmoid", 0.0, 1.0)):
        values = confidence(raw, mode)
        assert values.isfinite().all() and values.min() >= mode.low and values.max() <= mode.high
        assert (values.diff() >= 0.0).all() and (values.diff()[55:60] > 0.0).all()
    assert confidence(torch.zeros(1), Activation("exp", 1.0, math.inf)).item() == 2.0


def test_descriptors_have_length_one_and_nothing_stays_nothing():
    raw = torch.cat((RAW.flatten(0, 1), torch.zeros(1, 3)))
    desc = unit_descriptors(raw)
    torch.testing.assert_close(desc[:-1].norm(dim=-1), torch.ones(len(raw) - 1))
    assert torch.equal(desc[-1], torch.zeros(3))
