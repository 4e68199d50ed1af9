# SPDX-License-Identifier: Apache-2.0
"""A frame against a keyframe: whether putative matches do, and what moves in the view."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from one_keyframe import map_of

from st3r_ros.config import MapperConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.tracking.tracker import Tracker
from st3r_ros.types import Features, Matches, ModelTraits, PairPrediction

CAMERA = Camera.from_fov(320, 240, 70.0)
TRAITS = ModelTraits(metric=False, monocular_depth=False, relative_depth_sigma=0.05)
T_KF_CAM = Sim3.exp(np.array([0.2, -0.1, 0.1, 0.03, -0.05, 0.02, 0.0]))
MOVED = Sim3.exp(np.array([0.15, 0.05, 0.0, 0.0, 0.0, 0.0, 0.0]))
"""What moves in the view, by itself."""
KNOWN = 200


@dataclass(eq=False)
class Model:
    """Sees points of the keyframe, of which a share moves; verified matches are those that do not."""

    moving: float
    traits: ModelTraits = TRAITS
    asked: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.points = CAMERA.unproject(rng.uniform((20, 20), (300, 220), (KNOWN, 2)), rng.uniform(2.0, 5.0, KNOWN))
        self.moves = np.arange(KNOWN) < self.moving * KNOWN
        points = np.where(self.moves[:, None], MOVED @ self.points, self.points)
        self.pixels0 = CAMERA.project(T_KF_CAM.inverse() @ points)
        self.pixels1 = CAMERA.project(self.points)

    def predict(self, features0, features1, *, T_0_1=None, seed=None, dense=True, verified=True) -> PairPrediction:
        self.asked += 1
        kept = ~self.moves if verified else np.ones(KNOWN, bool)
        pixels0, pixels1 = (torch.from_numpy(p[kept]).float() for p in (self.pixels0, self.pixels1))
        return PairPrediction(Matches(pixels0, pixels1, torch.ones(len(pixels0)), KNOWN), 5.0, putative=not verified)


def tracked(model: Model):
    keyframe = map_of(CAMERA).keyframes[0]
    column, row = np.rint(model.pixels1).astype(int).T
    keyframe.X[row, column] = torch.from_numpy(model.points).float()
    keyframe.conf[row, column] = 10.0
    image = np.zeros((240, 320, 3), np.uint8)
    features = [Features(image, CAMERA.K.copy(), True) for _ in range(2)]
    return Tracker(model, MapperConfig()).track(features[0], keyframe, features[1], Sim3.identity())


def error(found) -> float:
    return float(np.linalg.norm((found.result.T_kf_cam.inverse() @ T_KF_CAM).log()[:6]))


def test_putative_matches_do_where_nothing_moves():
    model = Model(0.0)
    found = tracked(model)
    assert found is not None and found.prediction.putative and model.asked == 1 and error(found) < 0.02


@pytest.mark.parametrize("share", [0.2, 0.3, 0.45])
def test_what_moves_in_the_view_does_not_draw_the_camera_along(share):
    model = Model(share)
    found = tracked(model)
    assert found is not None and not found.prediction.putative
    assert error(found) < 0.02
    assert len(found.matches) <= 1.1 * (1.0 - share) * KNOWN
