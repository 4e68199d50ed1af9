# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
import torch

from st3r_ros.errors import GeometryError
from st3r_ros.geometry.canonical import canonical_pointmap

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "canonical_view.npz")


def predictions(seed: int = 0, shape: tuple[int, ...] = (4, 5, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 3, generator=generator), 1.0 + 5.0 * torch.rand(shape, generator=generator)


def test_it_agrees_with_the_reference_numbers():
    canonical = canonical_pointmap(torch.from_numpy(GOLDEN["pts"]), torch.from_numpy(GOLDEN["conf"]))
    torch.testing.assert_close(canonical.X, torch.from_numpy(GOLDEN["canon"]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(canonical.conf, torch.from_numpy(GOLDEN["canon_conf"]), rtol=1e-6, atol=1e-6)


def test_a_prediction_alone_or_repeated_stays_what_it_is():
    X, conf = predictions()
    for repeats in (1, 3):
        canonical = canonical_pointmap(X[:1].repeat(repeats, 1, 1, 1), conf[:1].repeat(repeats, 1, 1))
        torch.testing.assert_close(canonical.X, X[0])
        torch.testing.assert_close(canonical.conf, conf[0] - 0.999)


def test_the_order_does_not_matter_and_the_mean_lies_between_the_predictions():
    X, conf = predictions()
    canonical, reversed_order = canonical_pointmap(X, conf), canonical_pointmap(X.flip(0), conf.flip(0))
    torch.testing.assert_close(canonical.X, reversed_order.X)
    torch.testing.assert_close(canonical.conf, reversed_order.conf)
    torch.testing.assert_close(canonical.X.clamp(X.amin(0), X.amax(0)), canonical.X)
    assert (canonical.conf <= conf.amax(0)).all() and (canonical.conf > 0).all()


def test_a_prediction_of_the_least_confidence_hardly_counts():
    X, conf = predictions()
    conf[0], conf[1:] = 100.0, 1.0
    torch.testing.assert_close(canonical_pointmap(X, conf).X, X[0], rtol=0.0, atol=1e-3)


def test_images_go_in_batches():
    X, conf = predictions(1, (3, 2, 5, 6))
    batched = canonical_pointmap(X, conf)
    for image in range(2):
        torch.testing.assert_close(batched.X[image], canonical_pointmap(X[:, image], conf[:, image]).X)


@pytest.mark.parametrize(("shape", "conf_shape"), [((5, 6, 3), (5, 6)), ((2, 5, 6, 2), (2, 5, 6)), ((2, 5, 6, 3), (5, 6))])
def test_shapes_that_do_not_go_together_are_refused(shape, conf_shape):
    with pytest.raises(GeometryError, match="shape"):
        canonical_pointmap(torch.zeros(shape), torch.ones(conf_shape))
    with pytest.raises(GeometryError, match="shape"):
        canonical_pointmap(torch.zeros(0, 5, 6, 3), torch.ones(0, 5, 6))
