# SPDX-License-Identifier: Apache-2.0
"""Cost, derivatives and elimination, against what they mean, written down without derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.solver.points import Noise, SeenPoints, eliminate, linearize, look, robust_cost
from st3r_ros.solver.poses import Pairs, bundle_step, sim3_adjoint, sim3_exp
from st3r_ros.solver.residuals import GEMAN_MCCLURE, HUBER, Observations, PixelObservations, RayObservations, huber

CAMERA = Camera.from_fov(320, 240, 70.0)
STRICT, FORGIVING = Noise(0.8, hidden_px=100.0), Noise(0.8, hidden_px=100.0, kernel=huber)
LAYOUTS = ["one pair", "equal pairs", "shared points"]
KINDS = ["pixels", "rays"]
PAIRS = Pairs(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]))
SIZES = [14, 9, 11]


def geman_mcclure_cost(off: np.ndarray) -> np.ndarray:
    return 0.5 * off**2 / (1.0 + (off / GEMAN_MCCLURE) ** 2)


def huber_cost(off: np.ndarray) -> np.ndarray:
    return np.where(off < HUBER, 0.5 * off**2, HUBER * (off - 0.5 * HUBER))


@dataclass
class Case:
    """Points in one of the layouts, at T_target_source and log-depths that are a little off."""

    points: SeenPoints
    T: torch.Tensor
    delta: torch.Tensor
    width: torch.Tensor | None

    def carried(self, T: torch.Tensor, delta: torch.Tensor) -> np.ndarray:
        """The points of all views in their target cameras, (views, 3)."""
        p = self.points
        X = (p.X * delta.exp()[..., None]).reshape(-1, 3)
        X = X if p.point is None else X[p.point]
        pair = np.repeat(np.arange(len(T)), p.sizes or len(X) // len(T)) if T.ndim == 3 else np.zeros(len(X), int)
        matrices = T.reshape(-1, 4, 4).numpy()[pair]
        return (matrices[:, :3, :3] @ X.numpy()[..., None])[..., 0] + matrices[:, :3, 3]

    def cost(self, T: torch.Tensor, delta: torch.Tensor, noise: Noise = STRICT) -> float:
        kernel = geman_mcclure_cost if noise is STRICT else huber_cost
        p, Y = self.points, self.carried(T, delta)
        if isinstance(p.seen, PixelObservations):
            off, depth = CAMERA.project(Y) - p.seen.pixels.reshape(-1, 2).numpy(), Y[:, 2]
        else:
            depth = np.linalg.norm(Y, axis=1)
            off = CAMERA.K[0, 0] * (Y / depth[:, None] - p.seen.rays.reshape(-1, 3).numpy())

        def robust(normalized: np.ndarray, column: int) -> np.ndarray:
            width = 1.0 if self.width is None else np.repeat(self.width[:, column].numpy(), len(Y) // len(T))
            return kernel(normalized / width) * width**2

        total = p.weight.reshape(-1).numpy() @ robust(np.linalg.norm(off, axis=1) / noise.pixel_sigma, 0)
        total += 0.5 * float((p.information * delta.square()).sum())
        if p.log_claim is not None and p.claim is not None:
            off_claim = np.abs(np.log(depth) - p.log_claim.reshape(-1).numpy()) * p.claim.reshape(-1).sqrt().numpy()
            trust = 1.0 if p.claim_weight is None else p.claim_weight.reshape(-1).numpy()
            total += (trust * robust(off_claim, 1)).sum()
        return float(total)


def observed(kind: str, in_target: np.ndarray) -> Observations:
    if kind == "pixels":
        return PixelObservations(torch.from_numpy(CAMERA.project(in_target)), torch.tensor(CAMERA.K))
    rays = in_target / np.linalg.norm(in_target, axis=-1, keepdims=True)
    return RayObservations(torch.from_numpy(rays), float(CAMERA.K[0, 0]))


def make(layout: str, kind: str, *, claims: bool = True, noise_px: float = 1.5, off: float = 0.01) -> Case:
    """noise_px: of the views, a tenth of which is wrong altogether. off: of poses and log-depths."""
    rng = np.random.default_rng(0)
    pairs, m = (1, 25) if layout == "one pair" else (3, 12)
    views, shape = (sum(SIZES), (20,)) if layout == "shared points" else (pairs * m, (pairs, m))
    shape = (m,) if layout == "one pair" else shape
    T = torch.from_numpy(Sim3.exp(rng.normal(0, 0.08, (pairs, 7))).as_matrix())
    T = T[0] if layout == "one pair" else T
    X = CAMERA.unproject(rng.uniform((60, 60), (260, 180), (*shape, 2)), rng.uniform(2, 6, shape))
    shared = layout == "shared points"
    point = torch.from_numpy(np.concatenate([rng.permutation(20)[:n] for n in SIZES])) if shared else None
    one = torch.ones(views if shared else shape, dtype=torch.float64)
    nowhere = observed(kind, np.ones((1, 3)))
    bare = SeenPoints(torch.from_numpy(X), 0 * one, nowhere, one, point=point, sizes=SIZES if shared else None)
    Y = Case(bare, T, one, None).carried(T, torch.zeros(shape, dtype=torch.float64)).reshape(*one.shape, 3)
    wrong = rng.random(one.shape) < (0.1 if noise_px else 0.0)
    pixels = CAMERA.project(Y) + noise_px * rng.normal(size=(*one.shape, 2)) + 40.0 * wrong[..., None]
    depth = Y[..., 2] if kind == "pixels" else np.linalg.norm(Y, axis=-1)
    points = replace(
        bare,
        information=torch.from_numpy(rng.uniform(100, 900, shape)),
        seen=observed(kind, CAMERA.unproject(pixels, Y[..., 2])),
        weight=torch.from_numpy(rng.uniform(0.3, 1, one.shape)),
        log_claim=torch.from_numpy(np.log(depth) + (0.05 * rng.normal(size=one.shape) if noise_px else 0.0)) if claims else None,
        claim=torch.from_numpy(rng.uniform(50, 400, one.shape)) if claims else None,
        claim_weight=torch.from_numpy(rng.uniform(0.3, 1, one.shape)) if layout == "equal pairs" and claims else None,
    )
    width = torch.tensor([[1.0, 2.0], [3.0, 1.5], [2.0, 1.0]], dtype=torch.float64) if layout == "equal pairs" else None
    at = sim3_exp(torch.from_numpy(off * rng.normal(size=(*T.shape[:-2], 7)))) @ T
    return Case(points, at, torch.from_numpy(off * rng.normal(size=shape)), width)


def central(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], case: Case, step: float = 1e-6) -> tuple[list, list]:
    """Derivatives of a function of T and delta, by each tangent left of the pairs and by each log-depth."""
    tangents, depths = torch.zeros(*case.T.shape[:-2], 7, dtype=torch.float64), torch.zeros_like(case.delta)
    by_tangent, by_depth = [], []
    for values, found in ((tangents, by_tangent), (depths, by_depth)):
        for k in range(values.numel()):
            ends = []
            for sign in (step, -step):
                values.view(-1)[k] = sign
                ends.append(function(sim3_exp(tangents) @ case.T, case.delta + depths))
            values.view(-1)[k] = 0.0
            found.append((ends[0] - ends[1]) / (2 * step))
    return by_tangent, by_depth


def gradient(case: Case, T: torch.Tensor, delta: torch.Tensor, noise: Noise = STRICT) -> tuple[torch.Tensor, torch.Tensor]:
    """By the tangents of the pairs, and by the log-depths."""
    found = linearize(case.points, T, delta, noise, case.width)
    by_depth = case.points.gathered(found.coupling[..., 8, :]) + case.points.information * delta
    return found.normal[..., :7, 8].reshape(-1), by_depth.reshape(-1)


@pytest.mark.parametrize("noise", [STRICT, FORGIVING], ids=["strict", "forgiving"])
@pytest.mark.parametrize("claims", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cost_and_gradient_are_those_of_the_robust_cost(layout, kind, claims, noise):
    case = make(layout, kind, claims=claims)
    found = linearize(case.points, case.T, case.delta, noise, case.width)
    expected = case.cost(case.T, case.delta, noise)
    assert float(found.cost.sum()) == pytest.approx(expected)
    assert float(look(case.points, case.T, case.delta, noise, case.width).cost.sum()) == pytest.approx(expected)
    if case.width is not None:
        assert float(robust_cost(case.points, found, case.delta, noise, case.width).sum()) == pytest.approx(expected)
    by_tangent, by_depth = gradient(case, case.T, case.delta, noise)
    numeric = central(lambda T, delta: torch.tensor(case.cost(T, delta, noise), dtype=torch.float64), case)
    np.testing.assert_allclose(by_tangent, numeric[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(by_depth, numeric[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("claims", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_residuals_the_normal_matrix_is_the_derivative_of_the_gradient(layout, kind, claims):
    case = make(layout, kind, claims=claims, noise_px=0.0, off=0.0)
    found = linearize(case.points, case.T, case.delta, STRICT, case.width)
    numeric = central(lambda T, delta: torch.cat(gradient(case, T, delta)), case)
    pairs = found.normal.numel() // 81
    H = torch.block_diag(*found.normal.reshape(pairs, 9, 9)[:, :7, :7])
    np.testing.assert_allclose(torch.stack(numeric[0])[:, : 7 * pairs], H, atol=1e-4 * float(H.abs().max()))
    h = case.points.gathered(found.coupling[..., 7, :]) + case.points.information
    np.testing.assert_allclose(torch.stack(numeric[1])[:, 7 * pairs :], torch.diag(h.reshape(-1)), rtol=1e-4, atol=1e-2)
    E = torch.stack(numeric[1])[:, : 7 * pairs].T  # of every pair with every depth
    by_view = found.coupling[..., :7, :]
    by_view = by_view.reshape(7, -1) if by_view.ndim == 2 else by_view.transpose(0, 1).reshape(7, -1)
    expected = torch.zeros(pairs, 7, h.numel(), dtype=torch.float64)
    pair = torch.arange(pairs).repeat_interleave(torch.tensor(case.points.sizes or [by_view.shape[1] // pairs] * pairs))
    for view in range(by_view.shape[1]):
        expected[pair[view], :, view if case.points.point is None else case.points.point[view]] += by_view[:, view]
    np.testing.assert_allclose(E, expected.view(7 * pairs, -1), atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("layout", ["one pair", "equal pairs"])
def test_the_depths_eliminated_give_the_step_of_all_variables_together(layout, damping):
    case = make(layout, "pixels")
    found = linearize(case.points, case.T, case.delta, STRICT, case.width)
    rest = eliminate(found, case.points.information, case.delta, damping)
    tangents = -torch.linalg.solve(rest.B, rest.b)
    depths = rest.depth_step(tangents)
    for pair in np.ndindex(tangents.shape[:-1]):
        normal, coupling = found.normal[pair], found.coupling[pair]
        h = (1.0 + damping) * (coupling[7] + case.points.information[pair])
        H = torch.cat([torch.cat([normal[:7, :7], coupling[:7]], dim=1), torch.cat([coupling[:7].T, torch.diag(h)], dim=1)])
        g = torch.cat([normal[:7, 8], coupling[8] + case.points.information[pair] * case.delta[pair]])
        expected = -torch.linalg.solve(H, g)
        np.testing.assert_allclose(torch.cat([tangents[pair], depths[pair]]), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_step_is_that_of_all_variables_together(kind, damping):
    """Three cameras of which one is fixed, points that several of them see: against the equations written out."""
    case = make("shared points", kind)
    points, found, Ad = case.points, linearize(case.points, case.T, case.delta, STRICT), sim3_adjoint(case.T)
    J = torch.zeros(3, 7, 21, dtype=torch.float64)  # of the tangents of the pairs by the steps of the poses
    for pair, (s, t) in enumerate(zip(PAIRS.source, PAIRS.target, strict=True)):
        J[pair, :, 7 * s : 7 * s + 7] += Ad[pair]
        J[pair, :, 7 * t : 7 * t + 7] -= torch.eye(7, dtype=torch.float64)
    H, g = torch.zeros(41, 41, dtype=torch.float64), torch.zeros(41, dtype=torch.float64)
    for pair, views in enumerate(torch.arange(sum(SIZES)).split(SIZES)):
        H[:21, :21] += J[pair].T @ found.normal[pair, :7, :7] @ J[pair]
        g[:21] += J[pair].T @ found.normal[pair, :7, 8]
        for view in views:
            H[:21, 21 + points.point[view]] += J[pair].T @ found.coupling[:7, view]
    H[21:, :21] = H[:21, 21:].T
    H[range(21, 41), range(21, 41)] = points.gathered(found.coupling[7]) + points.information
    g[21:] = points.gathered(found.coupling[8]) + points.information * case.delta
    H = H + damping * torch.diag(H.diagonal())
    kept = torch.cat([torch.arange(7), torch.arange(14, 41)])
    expected = torch.zeros(41, dtype=torch.float64)
    expected[kept] = -torch.linalg.solve(H[kept][:, kept], g[kept])
    step = bundle_step(PAIRS, torch.tensor([True, False, True]), points, case.T, found, case.delta, damping)
    np.testing.assert_allclose(torch.cat([step.poses.view(-1), step.depths]), expected, rtol=1e-5, atol=1e-8)


def test_what_the_views_tell_of_a_depth_is_the_square_of_its_derivatives():
    case = make("one pair", "pixels")
    at, found = (f(case.points, case.T, case.delta, STRICT) for f in (look, linearize))
    np.testing.assert_allclose(at.by_depth().square().sum(0), found.coupling[7])


def test_many_pairs_are_the_same_as_each_of_them():
    """More than are looked at together."""
    case = make("equal pairs", "rays")
    many = torch.arange(3).repeat(1000)
    points, T, delta, width = case.points[many], case.T[many], case.delta[many], case.width[many]
    found, few = linearize(points, T, delta, STRICT, width), linearize(case.points, case.T, case.delta, STRICT, case.width)
    for name, value in vars(found).items():
        np.testing.assert_allclose(value, getattr(few, name)[many], rtol=1e-9, atol=1e-9)
