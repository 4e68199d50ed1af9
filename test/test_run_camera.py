# SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.run_camera import RunCamera, camera_of_run
from st3r_ros.types import Keyframe

LENS = Camera(640, 480, np.array([[502.4, 0, 320], [0, 502.4, 240], [0, 0, 1.0]]), "plumb_bob", np.array([0.1, 0, 0, 0]))


def keyframe(id: int, focal: float, known: bool = True, lens: Camera | None = None) -> Keyframe:
    K = np.array([[focal, 0, 160], [0, focal, 120], [0, 0, 1.0]])
    image = np.zeros((240, 320, 3), np.uint8)
    return Keyframe(id, id, id, Sim3.identity(), torch.zeros(240, 320, 3), torch.zeros(240, 320), image, K, known, lens=lens)


def test_the_newest_keyframe_tells_the_camera():
    assert camera_of_run([keyframe(0, 250.0), keyframe(1, 251.0)]) == RunCamera(False, 251.0, 320, 240, "none")
    assert camera_of_run([keyframe(0, 277.0, known=False)]) == RunCamera(True, 277.0, 320, 240, "none")
    assert camera_of_run([keyframe(0, 240.0, lens=LENS)]) == RunCamera(False, 502.4, 640, 480, "plumb_bob")


def test_focal_lengths_that_differ_are_told_for_one_width():
    camera = camera_of_run([keyframe(0, 200.0), keyframe(1, 202.0), keyframe(2, 300.0), keyframe(3, 240.0, lens=LENS)])
    assert camera is not None and camera.focal_px == 502.4
    np.testing.assert_allclose(camera.other_focals_px, [600.0, 404.0])


def test_without_keyframes_the_given_camera_counts():
    assert camera_of_run([], LENS) == RunCamera(False, 502.4, 640, 480, "plumb_bob")
    assert camera_of_run([], LENS.without_distortion()) == RunCamera(False, 502.4, 640, 480, "none")
    assert camera_of_run([]) is None
