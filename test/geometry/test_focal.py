# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from st3r_ros.errors import GeometryError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.focal import METHODS, focal_from_pointmap, intrinsics_from_pointmap
from st3r_ros.geometry.pixels import pixel_grid

GOLDEN = {name: torch.from_numpy(array) for name, array in np.load(Path(__file__).parents[1] / "golden" / "focal.npz").items()}

both_methods = pytest.mark.parametrize("method", METHODS)


def pointmap(focal: float, width: int = 64, height: int = 48, centre: tuple[float, float] = (31.5, 23.5)) -> torch.Tensor:
    depth = np.random.default_rng(0).uniform(0.5, 5.0, (height, width))
    K = np.array([[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]])
    return torch.from_numpy(Camera(width, height, K).unproject(pixel_grid(width, height), depth))


@both_methods
@pytest.mark.parametrize("focal", [15.0, 60.0, 400.0])
def test_an_exact_pointmap_gives_its_focal_length(focal, method):
    assert focal_from_pointmap(pointmap(focal), method=method).item() == pytest.approx(focal, rel=1e-9)
    off_centre = pointmap(focal, centre=(20.0, 30.0)).float()
    found = focal_from_pointmap(off_centre, torch.tensor([20.0, 30.0]), method=method)
    assert found.item() == pytest.approx(focal, rel=1e-6) and found.dtype == torch.float32


@both_methods
def test_wrong_points_hardly_move_it(method):
    X, rng = pointmap(60.0), np.random.default_rng(1)
    wrong = torch.from_numpy(rng.random(X.shape[:2]) < 0.2)
    X[wrong] = X[wrong][torch.from_numpy(rng.permutation(int(wrong.sum())))]
    assert focal_from_pointmap(X, method=method).item() == pytest.approx(60.0, rel=0.05)


def test_it_is_the_geometric_median():
    rng = np.random.default_rng(2)
    X = pointmap(60.0).numpy() * rng.normal(1.0, 0.2, (48, 64, 3))
    u, q = (pixel_grid(64, 48) - (31.5, 23.5)), X[..., :2] / X[..., 2:]

    def cost(focal: float) -> float:
        return float(np.linalg.norm(u - focal * q, axis=-1).sum())

    best = minimize_scalar(cost, bounds=(10.0, 200.0), method="bounded")
    found = focal_from_pointmap(torch.from_numpy(X)).item()
    assert cost(found) == pytest.approx(best.fun, rel=1e-5)
    assert found == pytest.approx(best.x, rel=5e-3)


@both_methods
def test_gaps_do_not_count(method):
    X = pointmap(60.0)
    X[:10] = np.nan
    X[20:25] = 0.0
    X[30:32, :, 2] = 0.0
    assert focal_from_pointmap(X, method=method).item() == pytest.approx(60.0, rel=1e-9)


@both_methods
def test_it_agrees_with_the_reference_numbers(method):
    X, centre = GOLDEN["pts"], GOLDEN["pp"]
    bad, bad_centre = GOLDEN["bad_pts"], GOLDEN["bad_pp"]
    for found, golden in (
        (focal_from_pointmap(X, centre, method=method), f"focal_{method}"),
        (focal_from_pointmap(X, centre, method=method, min_ratio=0.5, max_ratio=3.5), f"focal_clip_{method}"),
        (focal_from_pointmap(bad[None], bad_centre, method=method), f"bad_focal_{method}"),
    ):
        torch.testing.assert_close(found, GOLDEN[golden], rtol=1e-5, atol=0.0)


@both_methods
def test_a_batch_is_what_its_pointmaps_are_one_by_one(method):
    focals = torch.tensor([[30.0, 60.0], [90.0, 120.0]])
    X = torch.stack([torch.stack([pointmap(float(focal)) for focal in row]) for row in focals])
    torch.testing.assert_close(focal_from_pointmap(X, method=method), focals.double())
    centres = torch.tensor([31.5, 23.5]).expand(2, 2, 2)
    torch.testing.assert_close(focal_from_pointmap(X, centres, method=method), focals.double())
    broken = X.clone()
    broken[0, 1] = np.nan
    found = focal_from_pointmap(broken, method=method)
    assert found.isnan().tolist() == [[False, True], [False, False]]
    torch.testing.assert_close(found[1], focals[1].double())


def test_the_limits_are_multiples_of_the_usual_focal_length():
    typical = 0.5 * 64 / np.tan(np.radians(30.0))
    assert focal_from_pointmap(pointmap(60.0), min_ratio=6.0).item() == pytest.approx(6.0 * typical)
    assert focal_from_pointmap(pointmap(60.0), max_ratio=0.5).item() == pytest.approx(0.5 * typical)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_full_precision(precision):
    X = pointmap(60.0).to(precision)
    found = focal_from_pointmap(X)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, focal_from_pointmap(X.float()))


@both_methods
@pytest.mark.parametrize(
    "X", [torch.zeros(4, 5, 3), torch.full((4, 5, 3), np.nan), pointmap(60.0) * torch.tensor([1.0, 1.0, -1.0])]
)
def test_a_pointmap_without_a_focal_length_gives_nan(X, method):
    assert focal_from_pointmap(X, method=method, min_ratio=0.5, max_ratio=3.5).isnan()


def test_intrinsics_are_those_of_the_camera_that_saw_the_points():
    K = intrinsics_from_pointmap(torch.stack([pointmap(40.0), pointmap(70.0), torch.zeros(48, 64, 3, dtype=torch.float64)]))
    expected = torch.tensor([[40.0, 0.0, 31.5], [0.0, 40.0, 23.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(K[0], expected)
    assert K[1, 0, 0].item() == pytest.approx(70.0) and K[1, 1, 1].item() == pytest.approx(70.0)
    assert K[2, 0, 0].isnan() and K[2, 1, 1].isnan()


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 2), (0, 5, 3), (5, 3)])
def test_another_shape_is_refused(shape):
    with pytest.raises(GeometryError, match="shape"):
        focal_from_pointmap(torch.zeros(shape))


def test_an_unknown_method_is_named_with_the_known_ones():
    with pytest.raises(GeometryError, match=r"'mode'.*weiszfeld, median"):
        focal_from_pointmap(pointmap(60.0), method="mode")


@pytest.mark.parametrize(("focal", "plausible"), [(1.0, False), (30.0, True), (100.0, True), (5000.0, False)])
def test_intrinsics_that_no_camera_has_are_none(focal, plausible):
    K = torch.tensor([[focal, 0.0, 31.5], [0.0, focal, 23.5], [0.0, 0.0, 1.0]])
    pixels = torch.stack([*torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="xy"), torch.ones(48, 64)], dim=-1)
    found = intrinsics_from_pointmap(pixels @ torch.linalg.inv(K).T)
    assert bool(found.isfinite().all()) is plausible
    if plausible:
        torch.testing.assert_close(found, K, rtol=1e-4, atol=1e-3)
