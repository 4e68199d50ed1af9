# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from st3r_ros.errors import GeometryError
from st3r_ros.geometry.camera import Camera, pixel_grid
from st3r_ros.geometry.focal import focal_from_pointmap

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "focal.npz")


def pointmap(focal: float, width: int = 64, height: int = 48, centre: tuple[float, float] = (31.5, 23.5)) -> np.ndarray:
    depth = np.random.default_rng(0).uniform(0.5, 5.0, (height, width))
    K = np.array([[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]])
    return Camera(width, height, K).unproject(pixel_grid(width, height), depth)


@pytest.mark.parametrize("focal", [15.0, 60.0, 400.0])
def test_an_exact_pointmap_gives_its_focal_length(focal):
    assert focal_from_pointmap(pointmap(focal)) == pytest.approx(focal, rel=1e-9)
    off_centre = pointmap(focal, centre=(20.0, 30.0)).astype(np.float32)
    assert focal_from_pointmap(off_centre, (20.0, 30.0)) == pytest.approx(focal, rel=1e-6)


def test_wrong_points_hardly_move_it():
    X, rng = pointmap(60.0), np.random.default_rng(1)
    wrong = rng.random(X.shape[:2]) < 0.2
    X[wrong] = rng.permutation(X[wrong])
    assert focal_from_pointmap(X) == pytest.approx(60.0, rel=0.05)


def test_it_is_the_geometric_median():
    rng = np.random.default_rng(2)
    X = pointmap(60.0) * rng.normal(1.0, 0.2, (48, 64, 3))
    u, q = (pixel_grid(64, 48) - (31.5, 23.5)), X[..., :2] / X[..., 2:]

    def cost(focal: float) -> float:
        return float(np.linalg.norm(u - focal * q, axis=-1).sum())

    best = minimize_scalar(cost, bounds=(10.0, 200.0), method="bounded")
    assert cost(focal_from_pointmap(X)) == pytest.approx(best.fun, rel=1e-5)
    assert focal_from_pointmap(X) == pytest.approx(best.x, rel=5e-3)


def test_gaps_do_not_count():
    X = pointmap(60.0)
    X[:10, :, 2] = 0.0
    X[10:20] = np.nan
    X[20:25] = 0.0
    assert focal_from_pointmap(X) == pytest.approx(60.0, rel=1e-9)


def test_it_agrees_with_the_reference_numbers():
    typical = 0.5 * 64 / np.tan(np.radians(30.0))
    X, centre = GOLDEN["X"], GOLDEN["principal_point"]
    assert focal_from_pointmap(X, centre) == pytest.approx(float(GOLDEN["focal"]), rel=1e-5)
    assert focal_from_pointmap(X, centre, 0.5, 3.5) == pytest.approx(float(GOLDEN["focal_limited"]), rel=1e-5)
    assert focal_from_pointmap(X, centre, 6.0) == pytest.approx(6.0 * typical)
    gaps = focal_from_pointmap(GOLDEN["X_gaps"], GOLDEN["principal_point_gaps"])
    assert gaps == pytest.approx(float(GOLDEN["focal_gaps"]), rel=1e-5)


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros((4, 5, 3)), "no finite point"),
        (np.full((4, 5, 3), np.nan), "no finite point"),
        (np.zeros((0, 5, 3)), "no finite point"),
        (pointmap(60.0) * (1.0, 1.0, -1.0), "in front"),
        (np.zeros((4, 5)), "shape"),
    ],
)
def test_a_pointmap_without_a_focal_length_is_refused(X, words):
    with pytest.raises(GeometryError, match=words):
        focal_from_pointmap(X)
