# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from round_room import EXACT, Errors, Room, Scene, circular_scene, edge_informations, tie
from st3r_ros.geometry.alignment import umeyama
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.optimization.graph_problem import GraphProblem, make_graph_problem
from st3r_ros.slam.optimization.pose_graph import GraphEstimate, GraphResult, solve_graph
from st3r_ros.solver.blocks import BlockSystem
from st3r_ros.solver.residuals import PixelObservations
from st3r_ros.types import Edge

DEPTH_SIGMA = 0.03
FIELDS = ("packed_i", "packed_j", "packed_weight")
DRIFTED = replace(EXACT, drift=0.01, scale=0.1)
SIZE = {"width": 96, "height": 72, "matches": 150}


def walk(keyframes: int = 36, edges: int = 120, errors: Errors = DRIFTED, **more) -> Scene:
    """Two rounds; loop edges tie the second to the first one."""
    return circular_scene(keyframes, edges, rounds=2, errors=errors, **SIZE, **more)


def solve(scene: Scene, **options) -> GraphResult:
    return solve_graph(make_graph_problem(scene.keyframes, scene.edges, DEPTH_SIGMA, **options))


def drifted(scene: Scene) -> np.ndarray:
    return scene.errors([k.T_world_cam for k in scene.keyframes])


def scale_errors(scene: Scene, poses: list[Sim3]) -> np.ndarray:
    return np.array([np.log(float(a.scale) / float(b.scale)) for a, b in zip(poses, scene.truth, strict=True)])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("calibrated", [True, False])
def test_a_drifted_loop_comes_back_to_the_truth(calibrated, seed):
    scene = walk(calibrated=calibrated, seed=seed)
    before = [k.T_world_cam for k in scene.keyframes]
    assert drifted(scene).max() > 0.2 and np.abs(scale_errors(scene, before)).max() > 0.02
    result = solve(scene)
    poses = [result.poses[k.id] for k in scene.keyframes]
    assert scene.errors(poses).max() < 0.02 and np.abs(scale_errors(scene, poses)).max() < 0.005
    angles = [np.linalg.norm((a.inverse() @ b).log()[3:6]) for a, b in zip(poses, scene.truth, strict=True)]
    assert np.rad2deg(max(angles)) < 0.2
    assert result.converged and result.rmse_px < 0.1 < result.rmse_before_px
    assert result.edge_weight.min() > 0.95 and result.edge_rmse_px.max() < 0.3


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_pair_models_errors_leave_little_of_the_drift(calibrated):
    scene = walk(60, 220, Errors(pixel=0.2, drift=0.01), calibrated=calibrated)
    result = solve(scene)
    truth = np.array([T.translation for T in scene.truth])

    def aligned_errors(poses: list[Sim3]) -> np.ndarray:
        """The first keyframe's own errors set the scale of all."""
        positions = np.array([T.translation for T in poses])
        return np.linalg.norm(umeyama(positions, truth) @ positions - truth, axis=1)

    before, after = (aligned_errors(p) for p in ([k.T_world_cam for k in scene.keyframes], list(result.poses.values())))
    assert after.mean() < 0.5 * before.mean() and after.max() < 0.3 and scene.errors(list(result.poses.values())).max() < 0.5
    assert result.rmse_px < 2.0 and result.edge_weight.min() > 0.5


def test_large_drift():
    scene = walk(errors=replace(DRIFTED, drift=0.03))
    assert drifted(scene).max() > 0.6
    result = solve(scene)
    assert scene.errors(list(result.poses.values())).max() < 0.02


@pytest.mark.parametrize("wrong", [1, 3])
def test_wrong_loop_edges_among_right_ones_are_voted_down(wrong):
    errors = Errors(pixel=0.2, drift=0.01)
    scene, room, rng = walk(errors=errors), Room(SIZE["width"], SIZE["height"]), np.random.default_rng(9)
    false = {}
    for number in range(wrong):
        i, j = 20 + 3 * number, 8 - 2 * number
        # Matches as if keyframe i were next to keyframe j: another place that looks the same.
        edge = tie(room, [scene.truth[k].se3().sim3() for k in (j + 1, j)], 0, 1, "loop", 150, errors, rng)
        false[i, j] = replace(edge, i=i, j=j)
    problem = make_graph_problem(scene.keyframes, [*scene.edges, *false.values()], DEPTH_SIGMA)
    result = solve_graph(problem)
    weights, off = (dict(zip(problem.pairs, v, strict=True)) for v in (result.edge_weight, result.edge_rmse_px))
    assert max(weights[pair] for pair in false) < 0.01 and min(off[pair] for pair in false) > 10.0
    right = {(e.i, e.j): e.kind for e in scene.edges if len(e)}
    assert min(weights[pair] for pair in right) > 0.5
    assert all(weights[pair] == 1.0 for pair, kind in right.items() if kind == "sequential")
    without = solve(scene)
    assert max(np.linalg.norm(result.poses[k].translation - without.poses[k].translation) for k in result.poses) < 0.04


@pytest.mark.parametrize("fixed", [0, 17])
def test_the_gauge_is_fixed_exactly(fixed):
    scene = walk()
    result = solve(scene, fixed=fixed)
    before = scene.keyframes[fixed].T_world_cam
    np.testing.assert_allclose(result.poses[fixed].as_matrix(), before.as_matrix(), rtol=1e-14, atol=1e-14)
    # All else is right relative to it, in its unit.
    T = before @ scene.truth[fixed].inverse()
    assert max(np.linalg.norm(result.poses[k].translation - (T @ scene.truth[k]).translation) for k in result.poses) < 0.02


def test_vague_depths_are_held_loosely():
    found = {}
    for conf in (1.0, 0.01):
        scene, rng = walk(errors=replace(DRIFTED, drift=0.005)), np.random.default_rng(3)
        for keyframe in scene.keyframes:
            vague = torch.from_numpy(rng.random(keyframe.conf.shape) < 0.5)
            off = torch.from_numpy(np.exp(rng.normal(0, 0.3, keyframe.conf.shape))).to(keyframe.X.dtype)
            keyframe.X[vague] *= off[vague][:, None]
            keyframe.conf[vague] = conf
        found[conf] = scene.errors(list(solve(scene).poses.values())).max()
    assert found[0.01] < 0.1 and found[0.01] < 0.3 * found[1.0]


def test_pixels_without_depth_are_left_out():
    scene = walk()
    for keyframe in scene.keyframes:
        keyframe.X[:36], keyframe.conf[:36] = torch.nan, 0.0
    result = solve(scene)
    assert scene.errors(list(result.poses.values())).max() < 0.02


def test_a_metric_models_units_keep_the_scale_from_drifting():
    errors = replace(Errors(), drift=0.02, scale=0.05)
    scene = walk(errors=errors)
    scene.edges[:] = [e for e in scene.edges if e.kind != "loop"]  # nothing else tells
    for keyframe in scene.keyframes:
        keyframe.conf[:] = 0.01
    loose, held = (scale_errors(scene, list(solve(scene, scale_sigma=s).poses.values())) for s in (None, 0.05))
    assert np.std(held) < 0.7 * np.std(loose)


def test_a_map_may_change_while_its_graph_is_solved():
    scene = walk()
    problem = make_graph_problem(scene.keyframes, scene.edges, DEPTH_SIGMA)
    found: list[GraphResult] = []
    thread = threading.Thread(target=lambda: found.append(solve_graph(problem)))
    thread.start()
    for keyframe in scene.keyframes:
        keyframe.X[:], keyframe.conf[:], keyframe.T_world_cam = torch.nan, 0.0, Sim3.identity()
    thread.join()
    assert scene.errors(list(found[0].poses.values())).max() < 0.02
    assert found[0].iterations == solve_graph(problem).iterations


def test_what_nothing_ties_to_the_map_stays():
    scene = walk(10, 17, arc=1.0)
    scene.edges[:] = [e for e in scene.edges if max(e.i, e.j) < 7]
    result = solve(scene)
    for keyframe in scene.keyframes[7:]:
        np.testing.assert_allclose(result.poses[keyframe.id].as_matrix(), keyframe.T_world_cam.as_matrix(), atol=1e-12)
    assert scene.errors([result.poses[k] for k in range(10)])[:7].max() < 0.02


def test_edges_to_other_keyframes_do_not_count_and_none_at_all_changes_nothing():
    scene = walk(10, 17, arc=1.0)
    elsewhere = Edge(3, 99, "loop", *(getattr(scene.edges[0], n) for n in FIELDS))
    for edges in ([], [elsewhere]):
        result = solve(replace(scene, edges=edges))
        assert len(result.edge_weight) == 0
        for keyframe in scene.keyframes:
            np.testing.assert_allclose(result.poses[keyframe.id].as_matrix(), keyframe.T_world_cam.as_matrix(), atol=1e-12)


def test_edges_of_any_number_of_matches():
    scene = walk(12, 21, arc=1.2)
    short = [replace(e, **{n: getattr(e, n)[: 20 + 9 * k] for n in FIELDS}) for k, e in enumerate(scene.edges)]
    problem = make_graph_problem(scene.keyframes, short, DEPTH_SIGMA, matches_per_edge=100)
    assert problem.points.weight.shape == (42, 100)
    assert (problem.points.weight > 0).sum(1).tolist() == [min(len(e), 100) for e in short] * 2
    assert scene.errors(list(solve_graph(problem).poses.values())).max() < 0.02


# The derivatives -----------------------------------------------------------------------------------------------------


def in_double(problem: GraphProblem) -> GraphProblem:
    """The same problem with matches in float64."""
    points = problem.points
    tensors = {name: value.double() for name, value in vars(points).items() if isinstance(value, torch.Tensor)}
    seen = replace(points.seen, **{name: value.double() for name, value in vars(points.seen).items()})
    return replace(problem, points=replace(points, **tensors, seen=seen))


def settled(estimate: GraphEstimate, poses: torch.Tensor, rounds: int = 4) -> GraphEstimate:
    """At the best depths for these poses."""
    estimate = estimate.at(poses, torch.zeros_like(estimate.delta))
    for _ in range(rounds - 1):
        estimate = estimate.at(poses, estimate.delta + estimate.eliminated().step)
    return estimate


def weighed(estimate: GraphEstimate, votes: torch.Tensor, width: torch.Tensor | None = None) -> GraphEstimate:
    width = estimate.weighing.width if width is None else width
    return replace(estimate, weighing=replace(estimate.weighing, votes=votes, width=width))


@pytest.fixture(params=[True, False], ids=["calibrated", "not calibrated"])
def small(request) -> GraphProblem:
    scene = walk(5, 7, replace(Errors(), drift=0.005), arc=0.5, calibrated=request.param)
    return in_double(make_graph_problem(scene.keyframes, scene.edges, DEPTH_SIGMA, matches_per_edge=30))


def derivative(function: Callable[[torch.Tensor], np.ndarray], poses: torch.Tensor, step: float) -> np.ndarray:
    """By the tangents right of all poses, (7 n, ...)."""
    columns = []
    for number in range(len(poses)):
        for xi in np.eye(7):
            moved = [poses.clone() for _ in range(2)]
            for end, sign in zip(moved, (1, -1), strict=True):
                end[number] = poses[number] @ torch.from_numpy(Sim3.exp(sign * step * xi).as_matrix())
            columns.append((function(moved[0]) - function(moved[1])) / (2 * step))
    return np.array(columns)


@pytest.mark.parametrize("scale_sigma", [None, 0.05])
def test_the_gradient_is_that_of_the_robust_cost_over_the_best_depths(small, scale_sigma):
    problem = replace(small, scale_sigma=scale_sigma)
    votes = torch.linspace(0.5, 1, len(problem.loop), dtype=torch.float64)
    estimate = settled(weighed(GraphEstimate.first(problem), votes), problem.poses, rounds=40)
    numeric = derivative(lambda poses: estimate.at(poses, estimate.delta).cost.numpy(), problem.poses, 1e-6)
    for fixed in (0, 3):
        held = replace(estimate, problem=replace(problem, fixed=fixed))
        found, moving = held.system(held.eliminated(), 0.0).g, [n for n in range(5) if n != fixed]
        expected = numeric.reshape(5, 7)[moving]
        np.testing.assert_allclose(found[moving], -expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
        assert not found[fixed].any()


def exact(problem: GraphProblem) -> GraphProblem:
    """The problem with matches where the points are."""
    seen, T = problem.points.seen, problem.directions.relative(problem.poses)
    points = problem.points.X @ T[:, :3, :3].transpose(1, 2) + T[:, None, :3, 3]
    if isinstance(seen, PixelObservations):
        seen = replace(seen, pixels=((points / points[..., 2:]) @ seen.K[:, 0].transpose(1, 2))[..., :2])
    else:
        seen = replace(seen, rays=points / points.norm(dim=-1, keepdim=True))
    log_claim = torch.where(problem.points.claim > 0, seen.log_depth(points).values, 0.0)
    return replace(problem, points=replace(problem.points, seen=seen, log_claim=log_claim))


def plain(problem: GraphProblem, votes: torch.Tensor | None = None) -> GraphEstimate:
    """Kernels of width 1, all edges trusted."""
    votes = torch.ones(len(problem.loop), dtype=torch.float64) if votes is None else votes
    return weighed(GraphEstimate.first(problem), votes, torch.ones(len(problem.points.weight), 2, dtype=torch.float64))


def test_without_residuals_the_normal_matrix_is_the_derivative_of_the_gradient(small):
    start = plain(exact(small))

    def system(poses: torch.Tensor) -> BlockSystem:
        found = settled(start, poses)
        return found.system(found.eliminated(), 0.0)

    numeric = derivative(lambda poses: -system(poses).g.reshape(-1).numpy(), small.poses, 1e-6)[7:, 7:]
    np.testing.assert_allclose(system(small.poses).dense()[7:, 7:], numeric, atol=1e-4 * np.abs(numeric).max())


def test_the_information_of_an_edge_is_the_curvature_of_its_cost(small):
    problem, edge, step = exact(small), 2, 1e-5
    informations = edge_informations(problem)
    assert informations.shape == (7, 7, 7)
    np.testing.assert_allclose(informations, informations.transpose(0, 2, 1), atol=1e-9 * np.abs(informations).max())
    votes = torch.zeros(len(problem.loop), dtype=torch.float64)
    votes[edge] = 1.0
    start = plain(problem, votes)
    i, j = int(problem.directions.source[edge]), int(problem.directions.target[edge])

    def cost(xi: np.ndarray) -> float:
        """With the tangent left of T_j_i."""
        poses = problem.poses.clone()
        poses[i] = poses[j] @ torch.from_numpy(Sim3.exp(xi).as_matrix()) @ torch.linalg.inv(poses[j]) @ poses[i]
        return float(settled(start, poses).cost)

    for a in np.eye(7):
        curvature = (cost(step * a) + cost(-step * a) - 2 * cost(0 * a)) / step**2
        assert a @ informations[edge] @ a == pytest.approx(curvature, rel=1e-2)


def test_the_information_of_a_relative_pose_alone_is_the_same():
    scene = walk(5, 7, arc=0.5)
    all_edges = edge_informations(make_graph_problem(scene.keyframes, scene.edges, DEPTH_SIGMA))
    for edge, expected in zip(scene.edges, all_edges, strict=True):
        ends = [scene.keyframes[edge.i], scene.keyframes[edge.j]]
        (found,) = edge_informations(make_graph_problem(ends, [edge], DEPTH_SIGMA))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_information_tells_how_far_off_a_relative_pose_is():
    """Of an edge between two keyframes whose depths have independent errors, over many trials."""
    errors = replace(EXACT, pixel=1.0, depth=DEPTH_SIGMA)
    nees = []
    for seed in range(40):
        scene = circular_scene(2, 1, rounds=1, errors=errors, arc=0.3, seed=seed, **{**SIZE, "matches": 30})
        problem = make_graph_problem(scene.keyframes, scene.edges, DEPTH_SIGMA)
        poses, edge = solve_graph(problem).poses, scene.edges[0]
        truth = scene.truth[edge.j].inverse() @ scene.truth[edge.i]
        error = (poses[edge.j].inverse() @ poses[edge.i] @ truth.inverse()).log()
        nees.append(error @ edge_informations(problem)[0] @ error)
    assert 0.4 * 7 < np.mean(nees) < 2.0 * 7
