# SPDX-License-Identifier: Apache-2.0
"""Loops close beside the tracking: nothing moves until the whole result is there, and what was made meanwhile goes with it."""

from __future__ import annotations

from concurrent.futures import Executor, Future

import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.optimization.correction import GlobalOptimizer
from st3r_ros.types import Edge, FramePose, Keyframe

STEPS = 16
K = np.array([[80.0, 0, 47.5], [0, 80.0, 35.5], [0, 0, 1.0]])


class Later(Executor):
    """Works when it is told to."""

    def submit(self, fn, /, *args, **kwargs):
        self.future: Future = Future()
        self.work = lambda: self.future.set_result(fn(*args, **kwargs))
        return self.future


def true_pose(n: int) -> Sim3:
    """On a circle of 2 m, looking outwards; a little more than one round."""
    angle = 2.2 * np.pi * n / STEPS
    forward, down = np.array([np.cos(angle), np.sin(angle), 0.0]), np.array([0.0, 0.0, -1.0])
    return Sim3(np.stack([np.cross(down, forward), down, forward], axis=1), 2.0 * forward, np.float64(1.0))


def _world() -> np.ndarray:
    """Points (N, 3) around the circle, between 1.5 and 5 m before the cameras."""
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 6000), rng.uniform(3.5, 7.0, 6000)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(-2.5, 2.5, 6000)], axis=1)


WORLD = _world()


def seen_from(T_world_cam: Sim3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the world's points their coordinates in a camera (N, 3), pixels (N, 2), and whether they are in the image (N,)."""
    X = T_world_cam.inverse().act(WORLD)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = X[:, :2] / X[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
    return X, pixels, (X[:, 2] > 0.5) & (pixels >= 0).all(1) & (pixels <= (94.4, 70.4)).all(1)


def keyframe(n: int, T_world_cam: Sim3) -> Keyframe:
    """With the exact points of the world as its true pose sees them, each at its pixel."""
    X, pixels, inside = seen_from(true_pose(n))
    pointmap, conf = np.zeros((72, 96, 3), np.float32), np.zeros((72, 96), np.float32)
    column, row = np.rint(pixels[inside]).astype(int).T
    pointmap[row, column], conf[row, column] = X[inside], 100.0
    image = np.zeros((72, 96, 3), np.uint8)
    return Keyframe(n, n, n * 1000, T_world_cam, torch.from_numpy(pointmap), torch.from_numpy(conf), image, K)


def edge(i: int, j: int, kind: str = "sequential", wrong: bool = False) -> Edge:
    """The true matches of keyframe i in keyframe j; wrong: where the third keyframe before j has them."""
    _, pixels_i, inside_i = seen_from(true_pose(i))
    _, pixels_j, inside_j = seen_from(true_pose(j - 3 if wrong else j))
    both = np.flatnonzero(inside_i & inside_j)[:200]
    assert len(both) > 40
    at_i, at_j = (torch.from_numpy(pixels[both]).float() for pixels in (pixels_i, pixels_j))
    return Edge.pack(i, j, kind, at_i, at_j, torch.ones(len(both)))


def drifted_map() -> KeyframeMap:
    """Each step turned by another third of a degree and grown by 0.3 %."""
    step_error = Sim3.exp(np.array([0.01, 0.0, 0.0, 0.0, np.radians(0.35), 0.0, 0.003]))
    result, T = KeyframeMap(), true_pose(0)
    for n in range(STEPS):
        if n:
            T = T @ (true_pose(n - 1).inverse() @ true_pose(n)) @ step_error
        result.add_keyframe(keyframe(n, T))
        result.frames.append(FramePose(n, n * 1000, n, Sim3.identity()))
        if n:
            result.add_edge(edge(n, n - 1))
    return result


def error(keyframe_map: KeyframeMap) -> float:
    """Largest distance from the true positions, in units of the first keyframe."""
    first = keyframe_map.keyframes[0].T_world_cam.inverse()
    poses = [(first @ k.T_world_cam).translation for k in keyframe_map.keyframes.values()]
    truth = [(true_pose(0).inverse() @ true_pose(n)).translation for n in keyframe_map.keyframes]
    return float(np.linalg.norm(np.array(poses) - truth, axis=1).max())


LAST = STEPS - 1


def test_a_loop_corrects_the_whole_map_at_once():
    keyframe_map = drifted_map()
    before = error(keyframe_map)
    optimizer = GlobalOptimizer(keyframe_map, 0.05)
    optimizer.close([edge(LAST, 0, "loop")])
    correction = optimizer.step()
    assert correction is not None and len(correction.accepted) == 1 and not correction.rejected
    assert before > 0.1 and error(keyframe_map) < 0.2 * before
    assert keyframe_map.loops == 1 and not optimizer.busy and optimizer.step() is None


def test_beside_the_tracking_nothing_moves_before_the_end_and_everything_then():
    keyframe_map, later = drifted_map(), Later()
    before = error(keyframe_map)
    optimizer = GlobalOptimizer(keyframe_map, 0.05, later)
    optimizer.close([edge(LAST, 0, "loop")])
    assert optimizer.step() is None and optimizer.busy
    poses = {k: v.T_world_cam for k, v in keyframe_map.keyframes.items()}

    # Meanwhile the tracking adds a keyframe, and the unit of the map changes.
    newest = keyframe(STEPS, keyframe_map.keyframes[LAST].T_world_cam @ true_pose(LAST).inverse() @ true_pose(STEPS))
    keyframe_map.add_keyframe(newest)
    assert optimizer.step() is None and error(keyframe_map) >= before
    assert all(keyframe_map.keyframes[k].T_world_cam is T for k, T in poses.items())
    keyframe_map.rescale(3.0)

    later.work()
    correction = optimizer.step()
    assert correction is not None and correction.accepted and newest.id in correction.moved
    assert error(keyframe_map) < 0.2 * before
    assert float(keyframe_map.keyframes[0].T_world_cam.scale) == pytest.approx(3.0)


def test_a_wrong_loop_is_voted_down_and_moves_nothing():
    keyframe_map = drifted_map()
    poses = {k: v.T_world_cam for k, v in keyframe_map.keyframes.items()}
    optimizer = GlobalOptimizer(keyframe_map, 0.05)
    wrong = edge(LAST, 3, "loop", wrong=True)
    optimizer.close([wrong])
    correction = optimizer.step()
    assert correction is not None and correction.rejected == (wrong,) and not correction.accepted
    assert keyframe_map.loops == 0
    assert all(keyframe_map.keyframes[k].T_world_cam is T for k, T in poses.items())


def test_rotations_stay_rotations_however_many_loops_are_closed():
    keyframe_map = drifted_map()
    turned = Sim3.exp(np.array([0.3, 0.1, -0.2, 0.7, -0.4, 0.9, 0.0]))
    keyframe_map.move({k.id: turned @ k.T_world_cam for k in keyframe_map.keyframes.values()})
    optimizer = GlobalOptimizer(keyframe_map, 0.05)
    for _ in range(60):
        optimizer.close([edge(LAST, 0, "loop")])
        optimizer.step()
    R = np.stack([k.T_world_cam.rotation for k in keyframe_map.keyframes.values()])
    assert np.abs(R.swapaxes(1, 2) @ R - np.eye(3)).max() < 1e-12
