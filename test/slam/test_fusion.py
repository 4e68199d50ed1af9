# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.fusion import distrust_specks, fuse_pointmap, moved, smooth_correction, unit_ratio

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


# What a single prediction gets wrong -----------------------------------------------------------------------------------


def scene(h: int = 48, w: int = 64) -> torch.Tensor:
    """A slanted wall with a box before it, (h, w, 3)."""
    y, x = torch.meshgrid(torch.arange(h).float(), torch.arange(w).float(), indexing="ij")
    z = 3.0 + 0.01 * x
    z[16:32, 20:40] = 1.5
    return torch.stack([(x - w / 2) / w, (y - h / 2) / w, torch.ones_like(x)], dim=-1) * z[..., None]


def test_confident_outliers_do_not_survive_fusion():
    """Each prediction: 3 % smooth error left out, 1 % noise, 0.5 % of the pixels wrong by a lot and twice as confident."""
    g, truth = torch.Generator().manual_seed(0), scene()
    X = conf = None
    for _ in range(6):
        z = truth[..., 2] * (1.0 + 0.01 * torch.randn(48, 64, generator=g))
        wrong = torch.rand(48, 64, generator=g) < 0.005
        z = torch.where(wrong, 0.3 + 6.0 * torch.rand(48, 64, generator=g), z)
        new = truth / truth[..., 2:] * z[..., None]
        new_conf = torch.where(wrong, 20.0, 10.0)
        if X is None:
            X, conf = new, distrust_specks(new, new_conf, SIGMA)
        else:
            X, conf = fuse_pointmap(X, conf, new, new_conf, SIGMA)
    claimed = conf >= 1.0
    error = (X[..., 2] / truth[..., 2] - 1.0).abs()[claimed]
    assert claimed.float().mean() > 0.99
    assert error.max() < 0.1 and error.mean() < 0.006


def test_points_that_stand_alone_lose_their_confidence_and_edges_keep_theirs():
    X, conf = scene(), torch.full((48, 64), 10.0)
    X[5, 7] *= 2.0
    X[40, 50] *= 0.5
    left = distrust_specks(X, conf, SIGMA)
    lost = torch.nonzero(left < 1.0).tolist()
    assert lost == [[5, 7], [40, 50]]
    conf[:, :10] = 0.0
    assert bool((distrust_specks(X, conf, SIGMA)[:, :10] == 0.0).all())


def test_the_unit_of_a_prediction_is_read_off_the_keyframe():
    X, conf = scene(), torch.ones(48, 64)
    T_kf_cam = Sim3.exp(np.array([0.3, -0.1, 0.2, 0.1, -0.2, 0.05, 0.0]))
    in_camera = torch.from_numpy(T_kf_cam.inverse().act(X.numpy())).float()
    predicted = in_camera / 1.7
    predicted[:4] *= 3.0  # some of it wrong
    assert unit_ratio(X, conf, T_kf_cam, predicted, conf) == pytest.approx(1.7, rel=1e-3)
    back = moved(predicted, Sim3(T_kf_cam.rotation, T_kf_cam.translation, np.float64(1.7)))
    torch.testing.assert_close(back[4:], X[4:], atol=1e-4, rtol=1e-4)
    assert unit_ratio(X, torch.zeros(48, 64), T_kf_cam, predicted, conf) is None


def test_a_smooth_error_is_found_from_scattered_points_despite_outliers():
    g = torch.Generator().manual_seed(1)
    pixels = torch.rand(300, 2, generator=g) * torch.tensor([639.0, 479.0])
    field = lambda p: 0.08 * torch.sin(p[..., 0] / 200.0) + 0.05 * p[..., 1] / 480.0  # noqa: E731
    log_ratio = field(pixels) + 0.005 * torch.randn(300, generator=g)
    log_ratio[::10] += 1.0
    found = smooth_correction(pixels, log_ratio, torch.ones(300), 480, 640)
    y, x = torch.meshgrid(torch.arange(480.0), torch.arange(640.0), indexing="ij")
    error = (found - field(torch.stack([x, y], dim=-1))).abs()
    assert error.mean() < 0.01 and error.max() < 0.06
    constant = smooth_correction(pixels, torch.full((300,), 0.3), torch.ones(300), 480, 640)
    torch.testing.assert_close(constant, torch.full((480, 640), 0.3), atol=1e-5, rtol=0)
