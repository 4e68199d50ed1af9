# SPDX-License-Identifier: Apache-2.0
"""A camera that goes round past walls: it drifts little, and when it is back the map says with a loop that it is."""

import numpy as np
import pytest
from hall import depth_of, look

from noisy_depth.model import NoisyDepthModel
from noisy_depth.views import TrueView
from st3r_ros.config import MapperConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame

STEP_DEG = 3.0
ROUND = 120


def around(frame_id: int) -> SE3:
    """Looking outwards from a circle about the pillar."""
    yaw = np.radians(frame_id * STEP_DEG)
    return look(1.2 * np.sin(yaw), 1.2 * np.cos(yaw), np.degrees(yaw))


def walked(frames: int, camera: Camera, seed: int, config: MapperConfig) -> Mapper:
    model = NoisyDepthModel(lambda frame: TrueView(depth_of(around(frame.id), camera), camera.K, around(frame.id)), seed=seed)
    mapper = Mapper(model, config)
    for n in range(frames):
        image = np.full((camera.height, camera.width, 3), n % 200, np.uint8)
        mapper.register_frame(Frame(n, n * 100_000_000, image, camera))
    return mapper


def test_the_round_is_closed_by_an_edge_and_known_places_get_hardly_any_keyframes():
    mapper = walked(ROUND + 90, Camera.from_fov(128, 96, 65.0), 0, MapperConfig())
    keyframes = mapper.map.keyframes
    loops = [(keyframes[e.i].frame_id, keyframes[e.j].frame_id) for e in mapper.map.edges if e.kind == "loop"]
    assert loops
    assert all(abs(abs(i - j) - ROUND) * STEP_DEG < 40.0 for i, j in loops)
    first = [k for k in keyframes.values() if k.frame_id < ROUND]
    assert len(keyframes) - len(first) < 0.5 * len(first)
    assert len(mapper.map.trajectory()) == ROUND + 90


@pytest.mark.full
def test_along_walls_it_drifts_little():
    errors = []
    for seed in range(3):
        mapper = walked(ROUND // 2, Camera.from_fov(192, 144, 65.0), seed, MapperConfig(loop_closure=False))
        first, *_, last = mapper.map.keyframes.values()
        T_true = around(first.frame_id).inverse() @ around(last.frame_id)
        T = first.T_world_cam.se3().inverse() @ last.T_world_cam.se3()
        errors.append(np.degrees(np.linalg.norm((T_true.inverse() @ T).log()[3:])))
    assert np.mean(errors) < 4.0  # over half a turn; planes fix the pose badly
