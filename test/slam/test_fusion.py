# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from st3r_ros.slam.fusion import fuse_pointmap

SIGMA = 0.05


def maps(seed: int, spread: float) -> tuple[torch.Tensor, ...]:
    """Two pointmaps whose depths differ by a relative `spread`, with confidences between 0.5 and 4."""
    g = torch.Generator().manual_seed(seed)
    X = torch.rand(12, 16, 3, generator=g) + torch.tensor([0.0, 0.0, 2.0])
    X_new = X * (1.0 + spread)
    conf, conf_new = (0.5 + 3.5 * torch.rand(12, 16, generator=g) for _ in range(2))
    return X, conf, X_new, conf_new


def test_agreeing_maps_give_the_weighted_mean_and_the_sum_of_confidences():
    X, conf, X_new, conf_new = maps(0, spread=0.01)
    fused, total = fuse_pointmap(X, conf, X_new, conf_new, SIGMA)
    mean = (conf[..., None] * X + conf_new[..., None] * X_new) / (conf + conf_new)[..., None]
    torch.testing.assert_close(fused, mean)
    torch.testing.assert_close(total, conf + conf_new)


def test_the_order_does_not_matter_where_they_agree():
    X, conf, X_new, conf_new = maps(1, spread=0.01)
    torch.testing.assert_close(fuse_pointmap(X, conf, X_new, conf_new, SIGMA), fuse_pointmap(X_new, conf_new, X, conf, SIGMA))


def test_of_two_that_contradict_each_other_the_confident_one_stays_and_loses_confidence():
    X, conf, X_new, conf_new = maps(2, spread=1.0)
    fused, left = fuse_pointmap(X, conf, X_new, conf_new, SIGMA)
    newer = conf_new > conf
    torch.testing.assert_close(fused, torch.where(newer[..., None], X_new, X))
    torch.testing.assert_close(left, (conf - conf_new).abs())
    assert newer.any() and not newer.all()


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0])
def test_what_only_one_map_knows_is_taken_from_it(spread):
    X, conf, X_new, conf_new = maps(3, spread)
    conf[:4] = 0
    conf_new[2:8] = 0
    fused, total = fuse_pointmap(X, conf, X_new, conf_new, SIGMA)
    torch.testing.assert_close((fused[:2], total[:2]), (X_new[:2], conf_new[:2]))
    torch.testing.assert_close((fused[4:8], total[4:8]), (X[4:8], conf[4:8]))
    assert not total[2:4].any()
    assert torch.isfinite(fused).all()


def test_vague_maps_may_differ_more_than_exact_ones():
    X, conf, X_new, _ = maps(4, spread=0.15)
    _, vague = fuse_pointmap(X, torch.full_like(conf, 0.2), X_new, torch.full_like(conf, 0.2), SIGMA)
    _, exact = fuse_pointmap(X, torch.full_like(conf, 20.0), X_new, torch.full_like(conf, 20.0), SIGMA)
    torch.testing.assert_close(vague, torch.full_like(conf, 0.4))
    assert not exact.any()


def test_the_mean_of_many_noisy_maps_is_better_than_each():
    g = torch.Generator().manual_seed(5)
    truth = torch.rand(20, 20, 3, generator=g) + torch.tensor([0.0, 0.0, 2.0])
    one = torch.ones(20, 20)
    noisy = [truth * (1 + SIGMA * torch.randn(20, 20, 1, generator=g)) for _ in range(16)]
    fused, conf = noisy[0], one
    for X in noisy[1:]:
        fused, conf = fuse_pointmap(fused, conf, X, one, SIGMA)

    def error(X: torch.Tensor) -> float:
        return float((X[..., 2] / truth[..., 2] - 1).square().mean().sqrt())

    assert error(fused) < 0.5 * error(noisy[0])
