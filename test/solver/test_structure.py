# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment of cameras, points and the lens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.solver.damped import Schedule, minimize
from st3r_ros.solver.residuals import Robust, huber
from st3r_ros.solver.structure import Structure, StructureEstimate, lens_intrinsics

K = np.array([[300.0, 0.0, 160.0], [0.0, 300.0, 120.0], [0.0, 0.0, 1.0]])
SCHEDULE = Schedule(iterations=50, share=1e-9, most=1e6)


def squares(distance: torch.Tensor) -> Robust:
    return Robust(torch.ones_like(distance), 0.5 * distance.square())


def projected(poses: np.ndarray, X: np.ndarray, k1: float = 0.0, focal: float = 300.0) -> np.ndarray:
    """Pixels (n, P, 2)."""
    at = np.einsum("nji,npj->npi", poses[:, :3, :3], X - poses[:, None, :3, 3])
    xy = at[..., :2] / at[..., 2:]
    return focal * (1.0 + k1 * (xy**2).sum(-1, keepdims=True)) * xy + K[:2, 2]


def scene(seed: int, cameras: int = 6, points: int = 80, noise: float = 0.3, wrong: int = 0, **lens):
    """An arc of cameras, each seeing two thirds of the points: the problem, where to start, and the true poses and points."""
    rng = np.random.default_rng(seed)
    X = rng.uniform((-2, -1.5, 4), (2, 1.5, 8), (points, 3))
    tangents = [(x, 0.05 * x * x, 0.1 * x, 0.02 * x, -0.12 * x, 0.03 * x) for x in np.linspace(-1, 1, cameras)]
    poses = np.stack([SE3.exp(np.array(t)).as_matrix() for t in tangents])
    pixels = projected(poses, X, **lens) + rng.normal(0, noise, (cameras, points, 2))
    pixels.reshape(-1, 2)[rng.choice(cameras * points, wrong, replace=False)] += rng.uniform(-60, 60, (wrong, 2))
    seen = rng.random((points, cameras)) < 0.67
    seen[:, :2] = True
    point, camera = (torch.from_numpy(v) for v in np.nonzero(seen))
    free = torch.arange(cameras) > 0
    problem = Structure(
        camera, point, torch.from_numpy(pixels)[camera, point], torch.from_numpy(np.stack([K] * cameras)), free, kernel=squares
    )
    off = np.stack([SE3.exp(rng.normal(0, 0.03, 6)).as_matrix() for _ in poses])
    off[0] = np.eye(4)
    start = torch.from_numpy(poses @ off), torch.from_numpy(X + rng.normal(0, 0.2, X.shape))
    return problem, start, (torch.from_numpy(poses), torch.from_numpy(X))


def test_the_derivatives_are_those_of_the_cost():
    """A tiny step along each direction changes the cost as the normal equations say."""
    problem, (poses, X), _ = scene(0, cameras=3, points=20, k1=0.1)
    problem = replace(problem, lens_terms=2, free=torch.ones(3, dtype=torch.bool))
    lens = torch.tensor([0.02, 0.03], dtype=torch.float64)
    at = StructureEstimate.first(problem, poses, X, lens)
    views = at.views
    by_pose = problem.gathered((views.by_pose * views.residual[:, None]).sum(0), problem.camera, 3)
    by_point = problem.gathered((views.by_point * views.residual[:, None]).sum(0), problem.point, 20)
    by_lens = (views.by_lens * views.residual[:, None]).sum((0, 2)) + lens / 0.3**2
    step = 1e-6

    def slope(moved: StructureEstimate) -> float:
        return float(moved.cost - at.cost) / step

    for axis in range(6):
        T = poses.clone()
        T[1] = T[1] @ torch.from_numpy(SE3.exp(step * np.eye(6)[axis]).as_matrix())
        assert slope(StructureEstimate.first(problem, T, X, lens)) == pytest.approx(float(by_pose[1, axis]), rel=1e-3, abs=1.0)
    for axis in range(3):
        Y = X.clone()
        Y[7, axis] += step
        assert slope(StructureEstimate.first(problem, poses, Y, lens)) == pytest.approx(
            float(by_point[7, axis]), rel=1e-3, abs=1.0
        )
    for term in range(2):
        other = lens.clone()
        other[term] += step
        assert slope(StructureEstimate.first(problem, poses, X, other)) == pytest.approx(float(by_lens[term]), rel=1e-3, abs=1.0)


def test_exact_views_give_the_true_cameras_and_points_but_for_the_unit():
    problem, (poses, X), truth = scene(1, noise=0.0)
    found = minimize(StructureEstimate.first(problem, poses, X), SCHEDULE).estimate
    assert float(found.distance.max()) < 1e-4
    factor = truth[0][-1, :3, 3].sub(truth[0][0, :3, 3]).norm() / found.poses[-1, :3, 3].sub(found.poses[0, :3, 3]).norm()
    centre = truth[0][0, :3, 3]
    np.testing.assert_allclose(centre + factor * (found.X - centre), truth[1], atol=1e-4)
    np.testing.assert_allclose(found.poses[:, :3, :3], truth[0][:, :3, :3], atol=1e-5)
    assert torch.equal(found.poses[0], poses[0])  # the camera that holds the rest


def test_what_the_lens_does_is_found():
    problem, (poses, X), _ = scene(2, cameras=10, points=150, noise=0.0, k1=-0.08, focal=318.0)
    problem = replace(problem, lens_terms=2, sigma=0.05)
    found = minimize(StructureEstimate.first(problem, poses, X), SCHEDULE).estimate
    assert float(lens_intrinsics(problem.K, found.lens)[0, 0, 0]) == pytest.approx(318.0, rel=2e-3)
    assert float(found.lens[1]) == pytest.approx(-0.08, abs=3e-3)


def test_cameras_that_see_nothing_stay_and_points_behind_a_camera_are_far_off():
    problem, (poses, X), _ = scene(3)
    alone = torch.from_numpy(SE3.exp(np.array([0.0, 0.0, 20.0, 0.0, 0.0, 0.0])).as_matrix())[None]
    wider = replace(problem, K=torch.cat([problem.K, problem.K[:1]]), free=torch.cat([problem.free, torch.tensor([True])]))
    found = minimize(StructureEstimate.first(wider, torch.cat([poses, alone]), X), SCHEDULE).estimate
    np.testing.assert_allclose(found.poses[-1], alone[0], atol=1e-9)
    behind = StructureEstimate.first(replace(problem, camera=torch.zeros_like(problem.camera)), alone.expand(6, 4, 4), X)
    assert torch.equal(behind.distance, torch.full_like(behind.distance, 100.0))


@pytest.mark.parametrize("cameras", [6, 50])
@pytest.mark.parametrize("lens", [{}, {"k1": -0.06, "focal": 312.0}])
@pytest.mark.parametrize("kernel", ["squares", "huber"])
def test_the_cost_is_that_of_pycolmap(tmp_path, cameras, lens, kernel):
    """On the same problem, dense and sparse, with wrong views among the right ones."""
    pycolmap = pytest.importorskip("pycolmap")
    problem, (poses, X), _ = scene(4, cameras=cameras, wrong=0 if kernel == "squares" else 12 * cameras // 6, **lens)
    problem = replace(problem, lens_terms=2 if lens else 0, kernel=squares if kernel == "squares" else huber)
    found = minimize(StructureEstimate.first(problem, poses, X), SCHEDULE).estimate
    write_model(tmp_path, problem, poses, X)
    model = pycolmap.Reconstruction(tmp_path)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = bool(lens)
    options.ceres.loss_function_type = getattr(pycolmap.LossFunctionType, "TRIVIAL" if kernel == "squares" else "HUBER")
    options.ceres.loss_function_scale = 1.345
    pycolmap.bundle_adjustment(model, options)
    theirs_T = np.stack(
        [np.vstack([model.images[n + 1].cam_from_world().inverse().matrix(), (0, 0, 0, 1)]) for n in range(cameras)]
    )
    theirs_X = np.stack([model.points3D[p + 1].xyz for p in range(len(X))])
    focal, k1 = model.cameras[1].params[0], model.cameras[1].params[3]
    terms = torch.tensor([np.log(focal / 300.0), k1], dtype=torch.float64)[: problem.lens_terms]
    theirs = StructureEstimate.first(problem, torch.from_numpy(theirs_T), torch.from_numpy(theirs_X), terms)
    assert float(found.cost) == pytest.approx(float(theirs.cost), rel=0.01)


def write_model(folder, problem: Structure, poses: torch.Tensor, X: torch.Tensor) -> None:
    """The problem as a COLMAP model in text files."""
    (folder / "cameras.txt").write_text("1 SIMPLE_RADIAL 320 240 300 160 120 0\n")
    camera, point, pixels = problem.camera.tolist(), problem.point.tolist(), problem.pixels.tolist()
    own: list[list[str]] = [[] for _ in poses]
    tracks: list[list[str]] = [[] for _ in X]
    for c, p, (x, y) in zip(camera, point, pixels, strict=True):
        tracks[p] += [str(c + 1), str(len(own[c]))]
        own[c].append(f"{x!r} {y!r} {p + 1}")
    lines = []
    for n, T_world_cam in enumerate(poses.numpy()):
        T = Sim3.from_matrix(T_world_cam).inverse()
        x, y, z, w = T.quaternion_xyzw.tolist()
        lines += [" ".join(map(repr, [n + 1, w, x, y, z, *T.translation.tolist(), 1])) + f" {n}.png", " ".join(own[n])]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    places = (f"{p + 1} {' '.join(map(repr, xyz))} 0 0 0 0 {' '.join(tracks[p])}" for p, xyz in enumerate(X.tolist()))
    (folder / "points3D.txt").write_text("\n".join(places) + "\n")
