# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from matching_scene import TwoViews, two_views

from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair.matching.cycles import grid_pixels
from st3r_ros.pair.matching.matches import flat_index, image_shape, values_at
from st3r_ros.pair.matching.pointmaps import PointMaps, pointmap_matches, symmetric_pointmap_matches

T_0_1 = SE3.exp(np.array([0.3, 0.05, 0.1, 0.02, 0.05, 0.05]))


@pytest.fixture(scope="module")
def views(room) -> TwoViews:
    return two_views(room, T_0_1, step=4)


def ones(X: torch.Tensor) -> torch.Tensor:
    return torch.ones(image_shape(X))


def test_the_same_points_match_themselves(views):
    matches = pointmap_matches(views.X_0_0, views.X_0_0, ones(views.X_0_0), ones(views.X_0_0), subsample=3)
    assert torch.equal(matches.pixels0, grid_pixels(image_shape(views.X_0_0), 3, matches.pixels0.device))
    assert torch.equal(matches.pixels1, matches.pixels0)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_matches_are_reciprocal_and_where_the_motion_takes_them(unit, offset, views):
    X_0_0, X_0_1 = unit * (views.X_0_0 + offset), unit * (views.X_0_1 + offset)
    matches = pointmap_matches(X_0_0, X_0_1, ones(X_0_0), ones(X_0_1), subsample=1)
    distances = torch.cdist(X_0_0.flatten(0, 1).double(), X_0_1.flatten(0, 1).double())
    width = X_0_0.shape[1]
    index0, index1 = flat_index(matches.pixels0, width), flat_index(matches.pixels1, width)
    assert (distances.argmin(dim=1)[index0] == index1).float().mean() > 0.999
    assert (distances.argmin(dim=0)[index1] == index0).float().mean() > 0.999
    seen = ~values_at(views.hidden, matches.pixels1)
    error = torch.linalg.vector_norm(matches.pixels0 - values_at(views.truth0, matches.pixels1), dim=1)
    assert seen.sum() > 1000
    assert error[seen].median() < 0.5


def test_doubtful_and_missing_points_are_left_out(views):
    X_0_0, X_0_1, conf0, conf1 = views.X_0_0.clone(), views.X_0_1.clone(), ones(views.X_0_0), ones(views.X_0_1)
    conf0[:20] = 0.5
    conf1[:, :30] = 0.5
    X_0_0[40, 40:] = torch.nan
    X_0_1[30] = torch.inf
    X_0_1[31] = 1e30
    matches = pointmap_matches(X_0_0, X_0_1, conf0, conf1, subsample=1, min_conf=0.9)
    assert len(matches) > 500
    assert values_at(X_0_0, matches.pixels0).isfinite().all()
    assert (values_at(X_0_1, matches.pixels1).abs() < 100).all()
    assert (matches.pixels0[:, 1] >= 20).all()
    assert (matches.pixels1[:, 0] >= 30).all()
    assert (matches.weight == 1).all()
    assert len(pointmap_matches(X_0_0, X_0_1, conf0, conf1, min_conf=2.0)) == 0
    assert len(pointmap_matches(X_0_0 * torch.nan, X_0_1, conf0, conf1)) == 0


def test_both_orders_together(views):
    generator = torch.Generator().manual_seed(0)
    conf = [torch.rand(image_shape(views.X_0_0), generator=generator) + 0.5 for _ in range(4)]
    noisy = [X + 0.02 * torch.randn(X.shape, generator=generator) for X in (views.X_0_0, views.X_0_1)]
    order01, order10 = PointMaps(views.X_0_0, views.X_0_1, *conf[:2]), PointMaps(*noisy, *conf[2:])
    both = symmetric_pointmap_matches(order01, order10, subsample=2)
    expected: dict[tuple[int, ...], float] = {}
    for maps in (order01, order10):
        single = pointmap_matches(maps.points0, maps.points1, maps.conf0, maps.conf1, subsample=2)
        product = values_at(maps.conf0, single.pixels0) * values_at(maps.conf1, single.pixels1)
        torch.testing.assert_close(single.weight, product.sqrt())
        for pair, value in zip(torch.cat([single.pixels0, single.pixels1], dim=1).tolist(), single.weight.tolist(), strict=True):
            expected.setdefault(tuple(pair), value)
    found = [tuple(pair) for pair in torch.cat([both.pixels0, both.pixels1], dim=1).tolist()]
    assert dict(zip(found, both.weight.tolist(), strict=True)) == expected
    assert len(found) == len(expected)
