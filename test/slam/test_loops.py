# SPDX-License-Identifier: Apache-2.0
"""The checks between a loop and the map, on a ring of keyframes."""

import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.places.covisibility import CovisibilityIndex, PosedCamera
from st3r_ros.slam.places.loops import check_cycle
from st3r_ros.types import Edge, Keyframe

STEPS = 30
K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1.0]])


def keyframe(number: int, T_world_cam: Sim3, depth: float = 3.0) -> Keyframe:
    """Looks at a wall."""
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    X = depth * np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x, float)], axis=-1)
    conf, image = torch.ones(48, 64), np.zeros((48, 64, 3), np.uint8)
    return Keyframe(number, number, number * 1000, T_world_cam, torch.from_numpy(X).float(), conf, image, K)


def edge(i: int, j: int) -> Edge:
    return Edge.pack(i, j, "sequential", torch.zeros(8, 2), torch.zeros(8, 2), torch.ones(8))


@pytest.fixture
def ring() -> KeyframeMap:
    """Cameras around a circle of 3 m radius that look outwards, each tied to the one before; not closed."""
    result = KeyframeMap()
    for n in range(STEPS):
        angle = 2 * np.pi * n / STEPS
        forward = np.array([np.cos(angle), np.sin(angle), 0.0])
        down = np.array([0.0, 0.0, -1.0])
        R = np.stack([np.cross(down, forward), down, forward], axis=1)
        result.add_keyframe(keyframe(n, Sim3(R, 3.0 * forward, np.float64(1.0))))
        if n:
            result.add_edge(edge(n, n - 1))
    return result


def true_relative(keyframe_map: KeyframeMap, i: int, j: int) -> Sim3:
    """T_j_i."""
    return keyframe_map.keyframes[j].T_world_cam.inverse() @ keyframe_map.keyframes[i].T_world_cam


def test_ways_through_the_graph(ring):
    assert ring.path(3, 7) == [3, 4, 5, 6, 7]
    assert ring.around(5, 2) == {3, 4, 5, 6, 7}
    assert ring.reachable(0, without=10) == set(range(10))
    ring.add_edge(edge(STEPS - 1, 0))
    assert ring.path(1, STEPS - 2) == [1, 0, STEPS - 1, STEPS - 2]
    ring.remove_edge(4, 5)
    ring.remove_edge(8, 9)
    assert ring.path(6, 2) == []


def test_a_loop_within_the_drift_passes_and_one_beyond_does_not(ring):
    last, first = ring.keyframes[STEPS - 1], ring.keyframes[0]
    T = true_relative(ring, STEPS - 1, 0)
    drift = Sim3.exp(np.array([0.1, -0.1, 0.15, 0.02, -0.01, 0.02, 0.03]))  # 20 cm, 2 degrees, 3 % over 19 m
    assert check_cycle(ring, last, first, drift @ T).passed
    elsewhere = Sim3.exp(np.array([6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    check = check_cycle(ring, last, first, elsewhere @ T)
    assert not check.passed and check.steps == STEPS - 1
    turned = Sim3.exp(np.array([0.0, 0.0, 0.0, 0.0, np.pi / 2, 0.0, 0.0]))
    assert not check_cycle(ring, last, first, turned @ T).passed


def test_the_longer_the_way_the_more_is_allowed(ring):
    error = Sim3.exp(np.array([0.12, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    distances = [
        check_cycle(ring, ring.keyframes[n], ring.keyframes[0], error @ true_relative(ring, n, 0)).distance2 for n in (2, 8, 25)
    ]
    assert distances[0] > distances[1] > distances[2]


def test_without_a_way_nothing_passes(ring):
    ring.remove_edge(15, 14)
    check = check_cycle(ring, ring.keyframes[STEPS - 1], ring.keyframes[0], true_relative(ring, STEPS - 1, 0))
    assert not check.passed and check.steps == 0


def test_overlap_is_what_a_camera_sees_from_about_the_same_place(ring):
    index = CovisibilityIndex()
    for k in ring.keyframes.values():
        index.update(k)
    keyframes = list(ring.keyframes.values())
    overlap = index.overlap(keyframes, PosedCamera(keyframes[4].T_world_cam, K, 64, 48))
    assert overlap[4] == 1.0 and overlap.argmax() == 4
    assert 0.2 < overlap[5] < 1.0 and overlap[19] == 0.0
    # Far behind the same wall point, or from the side, it is another view.
    far = keyframes[4].T_world_cam @ Sim3(np.eye(3), np.array([0.0, 0.0, -4.0]), np.float64(1.0))
    assert index.overlap([keyframes[4]], PosedCamera(far, K, 64, 48))[0] == 0.0
    # In other units of the keyframe nothing changes.
    keyframes[4].X /= 2.0
    keyframes[4].T_world_cam = Sim3(keyframes[4].T_world_cam.rotation, keyframes[4].T_world_cam.translation, np.float64(2.0))
    index.update(keyframes[4])
    np.testing.assert_allclose(
        index.overlap(keyframes, PosedCamera(keyframes[5].T_world_cam, K, 64, 48))[4], overlap[5], atol=0.1
    )
    keyframes[4].conf[:] = 0.0
    index.update(keyframes[4])
    assert index.overlap([keyframes[4]], PosedCamera(keyframes[4].T_world_cam, K, 64, 48))[0] == 0.0
